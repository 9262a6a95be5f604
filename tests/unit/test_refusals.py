"""What is refused, with the place, the value and the remedy: the refusals that no other unit test reaches."""

import re
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from bids_group.checkpoints import Shard
from bids_group.errors import DataError, MissingInputError, SpecError, UsageError
from bids_group.inputs.datasets import find_datasets
from bids_group.inputs.label_images import read_label_image
from bids_group.inputs.nifti import open_map
from bids_group.inputs.plan import plan_node
from bids_group.inputs.query import InputTable
from bids_group.inputs.roi_spec import ImageRegions
from bids_group.inputs.spec import parse_spec
from bids_group.inputs.strict import read_json
from bids_group.inputs.text_files import LARGEST_TEXT, read_text
from bids_group.outputs import figures
from bids_group.report.folder import Folder
from bids_group.stats.permutation.batch import prepare, run_batch
from bids_group.stats.permutation.design import KnownVariances
from bids_group.stats.permutation.exchangeability import Exchangeability, exchange_freely
from tests import permutation_designs as designs
from tests.builders import AFFINE, make_participants, make_rows, make_spec, write_map

PERMUTATION = {"Correction": "permutation"}
SUBJECTS = tuple(f"{number:02}" for number in range(1, 13))


def change_spec(**settings):
    return make_spec(settings=settings)


def infer(**entry):
    return change_spec(Inference=[{**PERMUTATION, **entry}])


def change_node(**node):
    return make_spec("anova", conditions=("A", "B"), node=node)


CONTRAST = {"Test": "t", "ConditionList": ["A", "B"], "Weights": [1, -1]}


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (infer(Permutations=10_000_001), r"Inference\[0\].Permutations: 10000001 rearrangements would take days"),
        (infer(Seed=2**63), r"Inference\[0\].Seed: the seed is at most 9223372036854775807, found 9223372036854775808"),
        (infer(ClusterThreshold={"z": 21}), r"ClusterThreshold.*: no statistic reaches a threshold of z = 21"),
        (infer(Alpha=1e-101), r"Inference\[0\].Alpha: Alpha 1e-101 is below 1e-100"),
        (change_node(Contrasts=[]), r"Nodes\[0\].Contrasts: the list is empty; leave the key out"),
        (
            change_node(Contrasts=[{"Name": "a" * 101, **CONTRAST}]),
            r"Contrasts\[0\].Name: the name has 101 characters .* use at most 100",
        ),
        (
            change_node(Contrasts=[{"Name": "tiny", **CONTRAST, "Weights": [1e-20, -1]}]),
            r"Contrasts\[0\].Weights\[0\]: the weight 1e-20 is not between",
        ),
        (change_spec(ROIs=[{"Image": "x.nii", "Labels": {}}]), r"Labels: expected an object of numbers and names"),
        (change_spec(SubjectMaps="z"), r"SubjectMaps: expected an object"),
    ],
)
def test_values_of_the_spec_out_of_range_are_refused_at_their_place(document, problem):
    with pytest.raises(SpecError, match=problem) as caught:
        parse_spec(document, "x")
    assert caught.value.exit_code == 65


def test_regions_need_no_permutations():
    spec = parse_spec(change_spec(ROIs={"Sources": [{"Atlas": "aal"}], "Permutations": 0}), "x")
    assert spec.nodes[0].settings.rois.test.permutation is None


def test_a_subject_node_says_what_stays_apart():
    document = make_spec()
    document["Nodes"].insert(
        0, {"Level": "Subject", "Name": "runs", "Model": {"Type": "glm", "X": [1]}, "DummyContrasts": {"Test": "t"}}
    )
    with pytest.raises(SpecError, match=r'^Nodes\[0\].*needs GroupBy, such as \["subject"\]'):
        parse_spec(document, "x")


def test_numbers_that_json_cannot_write_again_are_refused(tmp_path):
    path = tmp_path / "spec.json"
    path.write_text('{"Alpha": 1e999}')
    with pytest.raises(DataError, match=f"{path}: .*a number is too large"):
        read_json(path)


def test_texts_that_are_no_documents_are_refused_before_they_are_read(tmp_path):
    path = tmp_path / "participants.tsv"
    with path.open("wb") as file:
        file.truncate(LARGEST_TEXT + 1)
    with pytest.raises(DataError, match=f"{path}: {LARGEST_TEXT + 1} bytes are too many for a table"):
        read_text(path, "a table")


@pytest.mark.parametrize(
    ("given", "error", "problem"),
    [
        ("", UsageError, "--derivatives '': the path is missing"),
        ("name=", UsageError, "--derivatives 'name=': the path is missing; write NAME=PATH"),
        ("file", MissingInputError, "--derivatives: {folder}/file: not a folder"),
        ("nowhere", MissingInputError, "--derivatives: {folder}/nowhere: there is no such folder"),
    ],
)
def test_derivatives_are_folders(tmp_path, monkeypatch, given, error, problem):
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=re.escape(problem.format(folder=tmp_path))):
        find_datasets(tmp_path, [given], tmp_path / "out", validate=False)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"VarianceGroups": "group"}, "with VarianceGroups degrees of freedom differ between voxels; take rft out"),
        ({"MinCoverage": 0.5}, "with MinCoverage below 1 degrees of freedom differ between voxels; take rft out"),
        ({}, "random field theory needs 4 degrees of freedom, not 3"),
    ],
)
def test_random_fields_are_refused_where_their_theory_does_not_hold(settings, problem):
    subjects = SUBJECTS[:4] if not settings else SUBJECTS
    entry = {"Correction": "rft", "Alpha": 0.05}
    document = make_spec(settings={"Inference": [entry], **settings}, model={"X": [1]})
    rows = make_rows(subjects, ("A",))
    participants = make_participants(subjects, group=["a", "b"] * (len(subjects) // 2))
    node = parse_spec(document, "x").nodes[0]
    with pytest.raises(SpecError, match=rf"Inference\[0\]: {problem}"):
        plan_node(node, InputTable(rows, rows[:0].assign(reason="")), participants)


@pytest.mark.parametrize(
    ("groups", "contrasts", "problem"),
    [
        (["a"] * 12, ("A",), "'group' has one level only in the model, 'a'; take the key out"),
        (["a", "b"] * 6, ("A", "B"), "subjects have several maps; variance groups are for one map per subject"),
    ],
)
def test_variance_groups_are_of_several_levels_and_one_map_per_subject(groups, contrasts, problem):
    options = {"settings": {"VarianceGroups": "group"}}
    design = ("one-sample",) if len(contrasts) == 1 else ("anova",)
    document = make_spec(*design, conditions=contrasts, **options)
    rows = make_rows(SUBJECTS, contrasts)
    node = parse_spec(document, "x").nodes[0]
    with pytest.raises(SpecError, match=f"VarianceGroups: {problem}"):
        plan_node(node, InputTable(rows, rows[:0].assign(reason="")), make_participants(SUBJECTS, group=groups))


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("index\tlabel\n1\tFFA\n", "the table of regions lacks the column index or name"),
        ("index\tname\none\tFFA\n", "line 2 has no whole number in the column index"),
        ("index\tname\n1\tFFA\n1\tPPA\n", "line 3: the index 1 stands there more than once"),
        ("index\tname\n1\tFFA\n2\tFFA\n", "several regions have the name 'FFA'; name them apart with Labels"),
    ],
)
def test_tables_of_regions_name_each_region_once(tmp_path, table, problem):
    write_map(tmp_path / "parts.nii.gz", np.arange(27, dtype=np.int16).reshape(3, 3, 3) % 3)
    (tmp_path / "parts.tsv").write_text(table)
    with pytest.raises(DataError, match=re.escape(f"{tmp_path / 'parts.tsv'}: {problem}")):
        read_label_image(ImageRegions("ROIs[0]", "parts.nii.gz", None, None), tmp_path)


def write_header(path, **fields):
    image = nib.Nifti1Image(np.ones((2, 2, 2), dtype=np.float32), AFFINE)
    content = bytearray(image.to_bytes())
    header = nib.Nifti1Header(bytes(content[:348]), check=False)
    for name, value in fields.items():
        header[name] = value
    content[:348] = header.binaryblock
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"vox_offset": 1e9}, "its header says that the values begin at byte 1e+09"),
        ({"dim": [3, 2000, 2000, 2000, 1, 1, 1, 1]}, "declares the shape|GB"),
        ({"srow_x": [0, 0, 0, 0]}, "its affine is not invertible; set its sform"),
    ],
)
def test_headers_that_cannot_be_true_are_refused(tmp_path, fields, problem):
    path = write_header(tmp_path / "map.nii", **fields)
    with pytest.raises(DataError, match=problem if "|" in problem else re.escape(problem)) as caught:
        open_map(path)
    assert str(caught.value).startswith(str(path))


def test_an_image_in_two_files_is_no_map(tmp_path):
    nib.save(nib.AnalyzeImage(np.ones((2, 2, 2), dtype=np.float32), AFFINE), tmp_path / "map.img")
    with pytest.raises(DataError, match=r"convert it to \.nii or .nii.gz"):
        open_map(tmp_path / "map.img")


# What only this program's own parts could get wrong


def test_blocks_have_one_root():
    with pytest.raises(ValueError, match="first column of the blocks must be constant"):
        Exchangeability("permutations", np.array([[1, 1], [2, 1]]))


def test_only_rearrangements_that_there_are_can_be_computed():
    prepared = prepare(designs.make_test(np.ones((5, 1)), [1], exchange_freely(5, "flips")))
    for start, stop in ((-1, 1), (0, 17), (3, 3)):  # of 32 flips, half mirror the others
        with pytest.raises(ValueError, match=f"rearrangements 0 to 16 can be computed, not {start} to {stop}"):
            run_batch(prepared, start, stop)


def test_what_is_known_of_the_errors_fits_the_data():
    flips = exchange_freely(6, "flips")
    test = designs.make_test(np.ones((6, 1)), [1], flips)
    with pytest.raises(ValueError, match=r"variances are of shape \(5, "):
        replace(test, known=KnownVariances(np.ones((5, designs.N_VOXELS), dtype=np.float32)))
    with pytest.raises(ValueError, match="those of one stack of data, not of several directions"):
        designs.make_test(
            *(np.ones((6, 1)), [1], flips), **designs.F, n_within=2, variance_groups=np.zeros(6, dtype=np.int64)
        )


def test_a_share_is_named_by_its_number():
    assert str(Shard(2, 5)) == "share 2 of 5"


def test_figures_that_are_no_pictures_any_more_are_told_by_name(tmp_path):
    drawn = figures.draw_qq(np.array([0.3])).png
    folder = Folder(tmp_path, "")
    for name, content, problem in (
        ("text.png", b"not a picture", "is not a PNG file; run the analysis again to rewrite it"),
        ("cut.png", drawn[: len(drawn) // 2], "is damaged"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{tmp_path / name}.*{problem}"):
            folder.read_figure(name)
    (tmp_path / "whole.png").write_bytes(drawn)
    assert folder.read_figure("whole.png").width > 0
