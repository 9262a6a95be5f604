"""Tables are written as BIDS has them, and no cell depends on what else is in its column."""

from pathlib import Path

import numpy as np
import pandas as pd

from bids_group.inputs.contrasts import Contrast
from bids_group.inputs.map_sources import CombinedMap, MapFile
from bids_group.outputs.tables import list_contrast_weights, list_inputs, write_tsv


def test_tables_have_tabs_a_header_and_na_for_what_is_missing():
    table = pd.DataFrame({"name": ["a", None], "value": [1.5, np.nan], "count": pd.array([3, None], dtype="Int64")})
    assert write_tsv(table) == b"name\tvalue\tcount\na\t1.5\t3\nn/a\tn/a\tn/a\n"


def test_empty_table_keeps_its_header():
    assert write_tsv(pd.DataFrame({"cluster_id": np.arange(0), "peak_x": np.zeros(0)})) == b"cluster_id\tpeak_x\n"


def test_numbers_have_ten_significant_digits_whatever_stands_beside_them():
    expected = b"x\n0.3333333333\n1e-12\n"
    assert write_tsv(pd.DataFrame({"x": [1 / 3, 1e-12]})) == expected
    mixed = pd.DataFrame({"x": [1 / 3, 1e-12, None, 7, True]}, dtype=object)
    assert write_tsv(mixed) == expected + b"n/a\n7\nTrue\n"


def test_writing_leaves_the_table_as_it_is():
    table = pd.DataFrame({"x": [1 / 3, None]}, dtype=object)
    write_tsv(table)
    assert table["x"].iloc[0] == 1 / 3


def test_inputs_list_analysed_maps_first_and_only_entities_in_use():
    common = {"task": "x", "session": None, "contrast": "A"}
    rows = pd.DataFrame(
        [
            {
                **common,
                "subject": "01",
                "uri": "bids:d:1",
                "design_row": 0,
                "n_voxels_missing": 7,
                "source": MapFile(Path("1"), "bids:d:1"),
            }
        ]
    )
    excluded = pd.DataFrame([{**common, "subject": "02", "uri": "bids:d:2", "reason": "Input: desc is B"}])
    table = list_inputs(rows, excluded)
    assert list(table.columns) == [
        *("design_row", "subject", "task", "contrast", "file", "included", "reason", "n_voxels_missing"),
    ]
    lines = write_tsv(table).decode().splitlines()
    assert lines[1:] == ["0\t01\tx\tA\tbids:d:1\tyes\tn/a\t7", "n/a\t02\tx\tA\tbids:d:2\tno\tInput: desc is B\tn/a"]


def test_each_file_of_a_combined_map_has_a_line_with_its_own_entities_and_weight():
    runs = tuple(MapFile(Path(run), f"bids:d:{run}", {"subject": "01", "run": run, "desc": "A"}) for run in "12")
    mean = CombinedMap(runs, np.array([[0.5], [0.5]]), np.ones(1))
    row = {"subject": "01", "run": None, "contrast": "A", "uri": "mean", "source": mean, "n_voxels_missing": 0}
    table = list_inputs(pd.DataFrame([{**row, "design_row": 0}]), pd.DataFrame())
    assert table["file"].tolist() == ["bids:d:1", "bids:d:2"]
    assert table["run"].tolist() == ["1", "2"]
    assert table["weight"].tolist() == [0.5, 0.5]
    assert table["design_row"].tolist() == [0, 0]


def test_cells_have_no_quotes_of_their_own_and_cannot_break_the_table():
    table = pd.DataFrame({"reason": ['Filter: group == "p"', "a\tb\nc"], "n": [1, 2]})
    assert write_tsv(table) == b'reason\tn\nFilter: group == "p"\t1\na b c\t2\n'


def test_weights_of_columns_that_are_called_as_columns_of_the_table_stand_beside_them():
    names = ["contrast", "name", "test", "row", "age"]
    contrast = Contrast("older: more", "olderMore", "F", np.arange(10.0).reshape(2, 5))
    header, *lines = [
        line.split("\t") for line in write_tsv(list_contrast_weights([contrast], names)).decode().splitlines()
    ]
    assert header == [*names[:4], *(f"weight of {name}" for name in names[:4]), "age"]
    assert lines == [["olderMore", "older: more", "F", str(i), *(str(5 * i + j) for j in range(5))] for i in range(2)]
