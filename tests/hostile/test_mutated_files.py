"""Files that something is wrong with are read or refused by name; those that were neither once are kept here.

`make fuzz` reads thousands for each reader; here are a few of each, always the same ones.
"""

import json
import shutil
import zipfile
from itertools import islice

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_group.checkpoints import Checkpoints
from bids_group.errors import DataError, OutputError
from bids_group.inputs.input_files import hash_file
from bids_group.outputs.staging import STAGING_FOLDER, restore_after_killed_run
from bids_group.outputs.tables import write_tsv
from bids_group.outputs.verification import read_records
from bids_group.report.build import build_report
from bids_group.report.folder import Folder
from tests.hostile.amounts import examples
from tests.hostile.fuzz import try_numbers
from tests.hostile.readers import MODEL, READERS, write_results

N_FILES = 15
OF_RESULTS = [reader for reader in READERS if reader.write is write_results]
RECORD = f"logs/model-{MODEL}_provenance.json"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run and its study; to be left as they are."""
    folder = tmp_path_factory.mktemp("finished")
    write_results(folder)
    return folder


@pytest.fixture
def copied(finished, tmp_path):
    """The output folder of a finished run, to be changed."""
    return shutil.copytree(finished / "out", tmp_path / "out")


def check_no_fault(reader, folder):
    tally = try_numbers(reader, folder, islice(range(N_FILES), None))
    assert tally.first == {}
    assert tally.n == N_FILES


@pytest.mark.parametrize("reader", [one for one in READERS if one not in OF_RESULTS], ids=lambda reader: reader.name)
def test_every_unsound_file_is_read_or_refused(reader, tmp_path):
    (tmp_path / "sound").mkdir()
    reader.write(tmp_path / "sound")
    check_no_fault(reader, tmp_path)


@pytest.mark.parametrize("reader", OF_RESULTS, ids=lambda reader: reader.name)
def test_every_unsound_file_of_earlier_results_is_read_or_refused(reader, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "sound")
    check_no_fault(reader, tmp_path)


# Checkpoints


def write_checkpoint(folder, members):
    (folder / "checkpoints").mkdir()
    with zipfile.ZipFile(folder / "checkpoints" / "a.npz", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return Checkpoints(folder)


def pack_array(header):
    """An array of version 1.0 of numpy's format, with any header."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(8)


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (1,\n",  # a literal without an end
        b'{"descr": """<f8\n',
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (10**9,), }\n",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,), }\n",  # more than there is memory
        b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n",
        b"{'descr': [1], 'fortran_order': False, 'shape': (1,), }\n",
    ],
)
def test_a_checkpoint_with_a_damaged_array_is_passed_over(tmp_path, header):
    assert write_checkpoint(tmp_path, {"x.npy": pack_array(header)}).find("a") == []


def test_a_checkpoint_with_a_member_that_is_no_array_is_passed_over(tmp_path):
    assert write_checkpoint(tmp_path, {"exceeding": b"no array"}).find("a") == []


@examples(100)
@given(st.data())
def test_a_changed_byte_of_a_checkpoint_is_noticed_or_changes_nothing(tmp_path_factory, data):
    arrays = {"exceeding": np.arange(5), "is_done": np.array([True, False])}
    store = Checkpoints(tmp_path_factory.mktemp("work"))
    store.store("a", arrays)
    (path,) = store._folder.iterdir()
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    for found in store.find("a"):
        kept = {name: values for name, values in found.items() if name in arrays}
        for name, values in kept.items():  # another name is not taken for one of ours
            np.testing.assert_array_equal(values, arrays[name])


# What a killed run was moving


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b'{"Added": []}',
        b'{"Added": null, "Replaced": []}',
        b'{"Added": [["a"]], "Replaced": []}',
        *(
            json.dumps({"Added": [name], "Replaced": []}).encode()
            for name in ("../beside", "/", "", ".", "a/../../beside", "x\0y")
        ),
    ],
)
def test_a_damaged_list_of_what_was_being_moved_is_refused_and_takes_nothing_away(tmp_path, content):
    (tmp_path / "beside").mkdir()
    output = tmp_path / "out"
    (output / STAGING_FOLDER).mkdir(parents=True)
    (output / "kept.txt").touch()
    journal = output / STAGING_FOLDER / ".publishing.json"
    journal.write_bytes(content)
    with pytest.raises(OutputError, match=r"\.publishing\.json.*remove .*\.staging"):
        restore_after_killed_run(output)
    assert (tmp_path / "beside").is_dir()
    assert (output / "kept.txt").is_file()
    assert journal.read_bytes() == content


# Records and results of earlier runs


def change_json(path, change):
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.update(Nodes=[True]),
        lambda record: record["Nodes"][0].pop("Name"),
        lambda record: record["Nodes"][0].update(Name=["x"]),
        lambda record: record["Inputs"][0].pop("Kind"),
        lambda record: record["Inputs"][0].update(Kind=["map"]),
        lambda record: record["Inputs"][0].update(URI="bids:x"),
        lambda record: record["Inputs"][0].update(URI="file://["),
        lambda record: record.update(BidsDir="file://["),
    ],
)
def test_a_record_of_another_form_is_refused_and_named(copied, change):
    change_json(copied / RECORD, change)
    with pytest.raises(DataError, match="provenance"):
        read_records(copied)


def test_no_file_has_a_name_with_a_nul(tmp_path):
    assert hash_file(tmp_path / "x\0y") is None


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("model.json", lambda record: record.update(Maps="x")),
        ("model.json", lambda record: record.update(Subjects=5)),
        ("model.json", lambda record: record.update(Entities=["x"])),
        ("model.json", lambda record: record["Contrasts"][0]["Inferences"][0].update(Alpha=[0.05])),
        ("model.json", lambda record: record["Contrasts"][0].update(Maps=["x"])),
        ("model.json", lambda record: record["Mask"].update(VoxelsMissing={})),
    ],
)
def test_a_record_whose_values_are_of_other_types_is_refused_and_named(copied, name, change):
    (path,) = copied.glob(f"node-mean/*{name}")
    change_json(path, change)
    with pytest.raises(DataError, match=name):
        build_report(copied, MODEL)


@pytest.mark.parametrize(
    ("pattern", "content"),
    [
        ("*model.json", b'{"a": "\xff"}'),
        ("*model.json", b"[" * 100_000),
        ("*model.json", b"[]"),
        ("results.tsv", b"a\tb\n1\n"),
        ("inputs.tsv", b"a\xff\n"),
        ("*_clusters.tsv", b"cluster_id\n"),
        ("comparisons.tsv", b"comparison\n"),
        ("figures/*_design.png", b"\x89PNG\r\n\x1a\n"),
    ],
)
def test_a_damaged_file_of_the_results_is_named_by_the_report(copied, pattern, content):
    path = min(copied.glob(f"node-mean/{pattern}"))
    path.write_bytes(content)
    with pytest.raises(DataError, match=path.name):
        build_report(copied, MODEL)


CELLS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=6)


@examples(80)
@given(st.tuples(CELLS, CELLS), st.lists(st.tuples(CELLS, CELLS), max_size=4))
def test_the_report_shows_the_cells_that_were_written_with_single_blanks(tmp_path_factory, header, cells):
    folder = tmp_path_factory.mktemp("table")
    columns = [header[0], f"{header[1]} 2"]
    (folder / "table.tsv").write_bytes(write_tsv(pd.DataFrame(cells, columns=columns)))
    table = Folder(folder, "").read_table("table.tsv")
    assert table.columns == tuple(" ".join(name.split()) for name in columns)
    assert table.rows == tuple(tuple(" ".join(cell.split()) for cell in row) for row in cells)
