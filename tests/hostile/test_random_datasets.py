"""Datasets of any shape: exactly the effect maps that stand there are found, each with its own labels, or none."""

import shutil
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_group.errors import BidsGroupError, DataError, NothingSelectedError
from bids_group.inputs.datasets import find_datasets
from bids_group.inputs.filters import Selection
from bids_group.inputs.query import find_maps
from bids_group.inputs.variable_tables import read_participants
from bids_group.inputs.variables import VariableTable
from tests import builders
from tests.hostile.amounts import examples

LABELS = st.sampled_from(["01", "1", "10", "A", "a", "sub01", "control07", "0", "00", "x9"])
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
NAMINGS = ("_desc-{}_effect", "_contrast-{}_stat-effect_statmap", "_contrast-{}_stat-effect_desc-smooth_statmap")
GROUPS = st.sampled_from(["patient", "Größe 2", "a b", '"quoted"', "=1+1", "ctrl;x", "'", "<b>", "n.a.", "NA"])
# What is no effect map of the dataset, whatever it looks like: names, or whole paths.
STRANGERS = (
    *("sub-{}_desc-A_variance.nii.gz", "sub-{}_contrast-A_stat-z_statmap.nii.gz", "sub-{}_desc-A_effect.json"),
    *("sub-{}_desc-A_effect.nii.gz.part", "sub-{}_desc-A_effect.tsv", ".sub-{}_desc-A_effect.nii.gz", "notes.txt"),
    *("sub-{}_desc-A_mask.nii.gz", "._sub-{}_desc-A_effect.nii.gz", "sub-{}_desc-A_effect.nii.gz.md5"),
)
OUTSIDE = ("code", "sourcedata", ".git/annex", "models", "stimuli")


@dataclass(frozen=True)
class Drawn:
    """A dataset: the labels of its maps by their paths, other files, and which folders are links to elsewhere."""

    maps: dict[str, dict[str, str | None]]
    strangers: tuple[str, ...]
    linked: tuple[str, ...]


@st.composite
def draw_dataset(draw):
    maps = {}
    subjects = draw(st.lists(LABELS, min_size=1, max_size=4, unique=True))
    for subject in subjects:
        sessions = draw(st.lists(st.sampled_from(["1", "pre", "02"]), max_size=2, unique=True)) or [None]
        for session in sessions:
            for run in draw(st.lists(st.sampled_from(["1", "02"]), max_size=2, unique=True)) or [None]:
                for contrast in draw(
                    st.lists(st.sampled_from(["A", "B", "FacesVsHouses"]), min_size=1, max_size=2, unique=True)
                ):
                    labels = {"subject": subject, "session": session, "run": run, "contrast": contrast}
                    maps[name_map(labels, draw)] = labels
    folder = f"sub-{subjects[0]}/"
    strangers = [folder + one.format(subjects[0]) for one in draw(st.sets(st.sampled_from(STRANGERS)))]
    strangers += [f"{one}/sub-{subjects[0]}_desc-Z_effect.nii.gz" for one in draw(st.sets(st.sampled_from(OUTSIDE)))]
    return Drawn(maps, tuple(strangers), tuple(draw(st.sets(st.sampled_from([f"sub-{one}" for one in subjects])))))


def name_map(labels, draw):
    """Return a path with these labels in its name, under one of the namings, more or less deep."""
    session = "" if labels["session"] is None else f"_ses-{labels['session']}"
    run = "" if labels["run"] is None else f"_run-{labels['run']}"
    naming = draw(st.sampled_from(NAMINGS)).format(labels["contrast"])
    inner = [session[1:]] * bool(session and draw(st.booleans())) + ["func"] * draw(st.booleans())
    ending = draw(st.sampled_from([".nii", ".nii.gz"]))
    name = f"sub-{labels['subject']}{session}_task-x{run}{naming}{ending}"
    return "/".join([f"sub-{labels['subject']}", *inner, name])


def write_dataset(root, drawn):
    """Write a raw dataset with the drawn one in its derivatives."""
    builders.write_derivative(root / "derivatives", {})
    (root / "dataset_description.json").write_text('{"Name": "raw", "BIDSVersion": "1.10.0"}')
    folder = root / "derivatives" / "firstlevel"
    for name in (*drawn.maps, *drawn.strangers):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    for name in drawn.linked:
        shutil.move(folder / name, root / "elsewhere" / name)
        (folder / name).symlink_to(root / "elsewhere" / name)
    return folder


def find(root):
    return find_maps(find_datasets(root, (), root / "out").datasets, Selection({})).rows


@examples(6)
@given(draw_dataset())
def test_exactly_the_maps_that_stand_there_are_found_with_their_own_labels(tmp_path_factory, drawn):
    root = tmp_path_factory.mktemp("tree")
    folder = write_dataset(root, drawn)
    rows = find(root)
    found = {
        str(path): {key: row[key] for key in ("subject", "session", "run", "contrast")}
        for path, (_, row) in zip(rows["path"], rows.iterrows(), strict=True)
    }
    assert found == {str(folder / name): labels for name, labels in drawn.maps.items()}


@examples(5)
@given(draw_dataset(), st.data())
def test_a_name_that_says_two_things_is_refused_and_named(tmp_path_factory, drawn, data):
    root = tmp_path_factory.mktemp("tree")
    folder = write_dataset(root, drawn)
    chosen = data.draw(st.sampled_from(sorted(drawn.maps)))
    subject = f"sub-{drawn.maps[chosen]['subject']}"
    path = folder / chosen
    twice = data.draw(
        st.sampled_from([f"{subject}_sub-other", f"{subject}_task-y", "sub-other", f"{subject}_{subject}"])
    )
    path.rename(path.with_name(wrong := path.name.replace(subject, twice, 1)))
    with pytest.raises(DataError) as refused:
        find(root)
    assert wrong in str(refused.value)


def test_a_dataset_without_a_map_is_told_as_one(tmp_path):
    write_dataset(tmp_path, Drawn({}, ("sub-01/sub-01_desc-A_variance.nii.gz",), ()))
    with pytest.raises(NothingSelectedError):
        find(tmp_path)


@st.composite
def draw_participants(draw):
    """participants.tsv as bytes, and the group of each subject; None where it has none."""
    subjects = draw(st.lists(LABELS, min_size=2, max_size=6, unique=True))
    groups = {subject: draw(GROUPS | st.sampled_from([None])) for subject in subjects}
    columns = draw(st.permutations(["participant_id", "group", "other"]))
    order = draw(st.permutations(subjects))
    prefix = draw(st.sampled_from(["sub-", ""]))
    cells = {
        one: {
            "participant_id": prefix + one,
            "group": groups[one] or draw(st.sampled_from(["n/a", "", " "])),
            "other": "1",
        }
        for one in order
    }
    lines = ["\t".join(columns), *("\t".join(cells[one][column] for column in columns) for one in order)]
    end = draw(st.sampled_from(["\n", "\r\n"]))
    text = end.join(lines) + draw(st.sampled_from(["", end, end + end]))
    content = draw(st.sampled_from([b"", BYTE_ORDER_MARK])) + text.encode()
    return content, groups


@examples(60)
@given(draw_participants())
def test_each_map_has_the_value_of_its_own_participant(tmp_path_factory, drawn):
    content, groups = drawn
    folder = tmp_path_factory.mktemp("table")
    (folder / "participants.tsv").write_bytes(content)
    rows = builders.make_rows(sorted(groups), ("A", "B"))
    found = VariableTable(rows, read_participants([folder])).resolve("group", as_factor=True).labels
    assert [groups[subject] for subject in rows["subject"]] == [None if value != value else value for value in found]


@examples(40)
@given(draw_participants(), st.sampled_from(["row", "column", "cell", "tab", "encoding"]))
def test_a_table_with_a_fault_is_refused_and_named(tmp_path_factory, drawn, fault):
    lines = drawn[0].removeprefix(BYTE_ORDER_MARK).splitlines()
    first = lines[1]
    changed = {
        "row": [*lines, first],
        "column": [line + b"\t" + line.split(b"\t")[0] for line in lines],
        "cell": [*lines[:1], first.rpartition(b"\t")[0], *lines[2:]],
        "tab": [*lines[:1], first + b"\tx", *lines[2:]],
        "encoding": [*lines, "Größe".encode("latin-1")],
    }[fault]
    folder = tmp_path_factory.mktemp("table")
    (folder / "participants.tsv").write_bytes(b"\n".join(changed))
    with pytest.raises(BidsGroupError, match=r"participants\.tsv"):
        read_participants([folder])
