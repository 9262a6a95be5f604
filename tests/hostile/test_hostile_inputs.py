"""Whatever is handed in, the app ends with a documented code and a message, in bounded time and memory.

The cases are those that once hung, filled the memory or ended with a traceback, and their kin.
"""

import gzip
import json
import os
import socket
import struct

import nibabel as nib
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Extension

from bids_group.inputs.nifti import open_map, read_values
from tests import builders
from tests.end_to_end import studies
from tests.hostile import sandbox

MANY = 50_000  # what takes time in its square would take minutes
MAP = "bids/derivatives/firstlevel/" + studies.name_map("01", "A")
DESCRIPTION = "bids/derivatives/firstlevel/dataset_description.json"
DIMENSIONS, DATA_TYPE, OFFSET = 40, 70, 108  # bytes of the header of NIfTI-1
HEADER_BYTES = 352
SPEC = builders.make_spec(settings={"Inference": [{"Correction": "none"}], "Atlases": []})


@pytest.fixture
def study(tmp_path):
    return studies.write_study(tmp_path, studies.draw_maps({"A": 1.0}, subjects=studies.SUBJECTS[:4]))


@pytest.fixture
def end(study):
    """Run the app dry; check how it ends and that no file is there that was not."""

    def run(code, *options, spec=None, **limits):
        given = spec or study.write_spec(SPEC)
        stood = studies.list_files(study.root)
        outcome = sandbox.run(sandbox.study_arguments(study.bids, study.root / "out", given, *options), **limits)
        assert outcome.is_documented(), outcome.said
        assert outcome.code == code, outcome.said
        assert studies.list_files(study.root) == stood
        return outcome.said

    return run


def make_special(path, kind):
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path.name)
    else:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(f"/proc/self/fd/{os.open(path.parent, os.O_RDONLY)}/{path.name}")  # names of sockets are short
    return path


@pytest.mark.parametrize(("kind", "code"), [("pipe", 65), ("folder", 65), ("device", 65), ("socket", 65), ("loop", 74)])
def test_a_spec_that_is_no_file_is_refused_and_named(study, end, kind, code):
    assert "special.json" in end(code, spec=make_special(study.root / "special.json", kind))


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_filter_file_that_is_no_file_is_refused_and_named(study, end, kind):
    path = make_special(study.root / "filter.json", kind)
    assert "filter.json" in end(65, "--bids-filter-file", str(path))


@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
def test_a_map_that_is_no_file_is_refused_and_named(study, end, kind):
    path = make_special(study.root / MAP, kind)
    assert path.name in end(65)


def test_a_description_that_is_a_pipe_is_not_waited_for(study, end):
    path = make_special(study.root / DESCRIPTION, "pipe")
    assert path.name in end(16, "--skip-bids-validation", "--derivatives", str(study.firstlevel))


@pytest.mark.parametrize("kind", ["pipe", "device", "socket", "folder"])
def test_a_configuration_of_pybids_in_the_dataset_is_not_read(study, end, kind):
    make_special(study.firstlevel / "layout_config.json", kind)
    end(0)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "[" * 10_000 + "]" * 10_000,
        '{"Name": NaN}',
        '{"Name": 1, "Name": 2}',
        json.dumps(SPEC).replace('"bids_group"', '"other": {"x": 1e999}, "bids_group"'),
        json.dumps(SPEC).replace('"Atlases": []', f'"SmoothingFWHM": {"9" * 5000}'),
        json.dumps({str(number): number for number in range(MANY)}),
        "\0" * 100,
        "",
    ],
    ids=["open", "deep", "nan", "twice", "infinite", "digits", "keys", "nul", "empty"],
)
def test_hostile_json_is_refused_and_said_where(study, end, text):
    path = study.root / "hostile.json"
    path.write_text(text)
    said = end(65, spec=path)
    assert "hostile.json" in said or "unknown key" in said


def change_map(study, *changes, extension=b""):
    """Overwrite numbers in the header of a map, as (byte, format, values)."""
    path = study.root / MAP
    content = bytearray(gzip.decompress(path.read_bytes()))
    for at, form, values in changes:
        struct.pack_into(f"<{form}", content, at, *values)
    content[HEADER_BYTES:HEADER_BYTES] = extension
    path.write_bytes(gzip.compress(bytes(content), 1))
    return path


@pytest.mark.parametrize(
    "change",
    [
        (DIMENSIONS, "8h", (3, -6, 7, 5, 1, 1, 1, 1)),
        (DIMENSIONS, "8h", (3, 0, 7, 5, 1, 1, 1, 1)),
        (DIMENSIONS, "8h", (3, 32767, 32767, 32767, 1, 1, 1, 1)),
        (DIMENSIONS, "8h", (3, 1000, 1000, 1000, 1, 1, 1, 1)),
        (DIMENSIONS, "8h", (3, 300, 300, 300, 1, 1, 1, 1)),
        (DIMENSIONS, "8h", (99, 6, 7, 5, 1, 1, 1, 1)),
        (DATA_TYPE, "2h", (9999, 8)),
        (OFFSET, "f", (1e30,)),
        (OFFSET, "f", (float("nan"),)),
        (OFFSET, "f", (2.0**31,)),
        (OFFSET, "f", (-5.0,)),
    ],
)
def test_an_absurd_header_is_refused_before_the_values_are_read(study, end, change):
    assert change_map(study, change).name in end(65)


@pytest.mark.parametrize("length", [0, -16, 7, 2**31 - 1])
def test_an_absurd_extension_is_refused_and_not_made_room_for(study, end, length):
    extension = struct.pack("<2i", length, 6) + bytes(40)
    changed = change_map(study, (OFFSET, "f", (400.0,)), (348, "4B", (1, 0, 0, 0)), extension=extension)
    assert "extension" in end(65)
    assert changed.name in end(65)


@pytest.mark.parametrize("offset", [0, 5, 348, 351])
def test_extensions_where_the_values_should_begin_are_refused_and_not_made_room_for(study, end, offset):
    path = change_map(study, (OFFSET, "f", (offset,)), (348, "4B2i", (1, 0, 0, 0, 2**31 - 1, 6)))
    assert "has extensions" in end(65)
    assert path.name in end(65)


def test_a_map_with_a_long_extension_is_read(tmp_path):
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    image = nib.Nifti1Image(values, np.eye(4))
    image.header.extensions.append(Nifti1Extension("comment", np.random.default_rng(0).bytes(3 * 2**20)))
    nib.save(image, tmp_path / "map.nii.gz")
    np.testing.assert_array_equal(read_values(tmp_path / "map.nii.gz"), values)


def test_many_empty_members_of_gzip_and_padding_change_nothing(tmp_path):
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    path = builders.write_map(tmp_path / "map.nii.gz", values)
    path.write_bytes(path.read_bytes() + gzip.compress(b"") * MANY + bytes(100))
    np.testing.assert_array_equal(read_values(path), values)
    assert open_map(path)[1].shape == (2, 3, 4)


def test_a_cut_off_file_without_compression_is_refused_by_its_header(study, end):
    packed = study.root / MAP
    path = packed.with_name(packed.name.removesuffix(".gz"))
    path.write_bytes(gzip.decompress(packed.read_bytes())[:-1])
    packed.unlink()
    assert "truncated" in end(65)


def test_links_that_lead_upwards_are_refused_and_not_followed(study, end):
    for number in range(2):  # one would end where paths are too long, two after 2^40 folders
        (study.firstlevel / "sub-01" / f"up{number}").symlink_to("..")
    assert "up0" in end(65)


def test_maps_behind_links_out_of_the_dataset_are_read(study, end):
    target = study.root / "elsewhere"
    (study.firstlevel / "sub-01").rename(target)
    (study.firstlevel / "sub-01").symlink_to(target)
    assert "found 4 maps of 4 subjects" in end(0)


@pytest.mark.parametrize("name", [b"\xff_effect.nii.gz", b"Some::Thing.txt"])
def test_names_that_cannot_be_indexed_are_named(study, end, name):
    (study.firstlevel / os.fsdecode(name)).write_bytes(b"")
    assert repr(os.fsencode(os.fsdecode(name)))[2:-1] in end(65)


@pytest.mark.parametrize("made_by", ["me", {"Name": 1}, 5, ["me"]])
def test_a_description_of_the_wrong_type_is_invalid_bids(study, end, made_by):
    (study.root / DESCRIPTION).write_text(json.dumps({**builders.DESCRIPTION, "GeneratedBy": made_by}))
    assert "GeneratedBy" in end(16)


def test_a_table_of_many_columns_is_read_in_time(study, end):
    names = [f"c{number}" for number in range(MANY)]
    lines = ["\t".join(["participant_id", *names]), "\t".join(["sub-01", *"x" * MANY])]
    (study.bids / "participants.tsv").write_text("\n".join(lines))
    spec = study.write_spec(builders.make_spec(model={"X": [1, "group"]}))
    assert "'group'" in end(65, spec=spec)
