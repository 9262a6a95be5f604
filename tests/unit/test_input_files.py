"""A file is recognised by its content, and a change is noticed even if its length and its times say nothing."""

import hashlib
import os

import pytest

from bids_group.errors import DataError, MissingInputError
from bids_group.inputs.datasets import Dataset, name_source
from bids_group.inputs.input_files import (
    Checksum,
    InputFile,
    InputWatch,
    hash_bytes,
    hash_file,
    hash_files,
    hash_inputs,
    stamp_files,
    watch_inputs,
)
from bids_group.inputs.nifti import open_map

# FIPS 180-2, appendix B.1 and B.3: "abc", and a million times "a".
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
MILLION = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"


@pytest.fixture
def watched(tmp_path):
    path = tmp_path / "map.nii.gz"
    path.write_bytes(b"abc")
    stamps = stamp_files([path])
    return path, InputWatch(stamps, hash_inputs([InputFile(path, "bids:first:map.nii.gz", "map")]))


def test_hashes_are_those_of_the_standard(tmp_path):
    paths = [tmp_path / "abc", tmp_path / "million", tmp_path / "none"]
    paths[0].write_bytes(b"abc")
    paths[1].write_bytes(b"a" * 1_000_000)
    found = hash_files(paths, n_threads=2)
    assert found == {paths[0]: Checksum(3, ABC), paths[1]: Checksum(1_000_000, MILLION), paths[2]: None}
    assert hash_bytes(b"abc") == found[paths[0]]


def test_a_link_has_the_hash_of_what_it_leads_to(tmp_path):
    (tmp_path / "content").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("content")
    (tmp_path / "broken").symlink_to("nowhere")
    assert hash_file(tmp_path / "link") == Checksum(3, ABC)
    assert hash_file(tmp_path / "broken") is None
    assert list(stamp_files([tmp_path / "broken"])) == []


def test_map_that_is_a_link_to_nowhere_is_told_as_one(tmp_path):
    (tmp_path / "map.nii.gz").symlink_to(".git/annex/objects/map.nii.gz")
    with pytest.raises(MissingInputError, match=r"a link to \.git/annex/objects/map\.nii\.gz, which is not there"):
        open_map(tmp_path / "map.nii.gz")


def test_what_cannot_be_read_is_an_error_and_not_missing(tmp_path):
    with pytest.raises(DataError, match="not a file but a folder"):
        hash_file(tmp_path)


def test_unchanged_and_merely_touched_files_pass(watched):
    path, watch = watched
    watch.check([path])
    os.utime(path, ns=(1, 1))
    watch.check([path])


def test_another_content_of_the_same_length_and_time_is_noticed(watched):
    path, watch = watched
    before = path.stat()
    path.write_bytes(b"abd")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(DataError, match=r"map\.nii\.gz: it changed while"):
        watch.check([path])


def test_a_file_that_has_gone_is_noticed(watched):
    path, watch = watched
    path.unlink()
    with pytest.raises(DataError, match="it changed while"):
        watch.check([path])
    with pytest.raises(MissingInputError, match="is not any more"):
        hash_inputs(list(watch.checksums))


def test_a_file_changed_between_its_stamp_and_its_hash_is_noticed_if_it_changes_back(watched):
    path, watch = watched
    path.write_bytes(b"abd")
    meanwhile = InputWatch(watch.stamps, hash_inputs(list(watch.checksums)))
    path.write_bytes(b"abc")
    with pytest.raises(DataError, match="it changed while"):
        meanwhile.check([path])


def test_a_file_changed_between_its_first_reading_and_its_hash_is_refused(watched):
    path, watch = watched
    path.write_bytes(b"abd")
    with pytest.raises(DataError, match="it changed while"):
        watch_inputs(list(watch.checksums), watch.stamps)


def test_spec_that_is_edited_after_it_was_read_does_not_concern_the_maps(tmp_path):
    files = [InputFile(tmp_path / name, name, kind) for name, kind in (("spec.json", "spec"), ("map.nii", "map"))]
    for file in files:
        file.path.write_bytes(b"abc")
    stamps = stamp_files(file.path for file in files)
    watch = watch_inputs(files, stamps)
    files[0].path.write_bytes(b"the next run's")
    watch.check([files[1].path])
    with pytest.raises(DataError, match="spec"):
        watch_inputs(files, stamps)


def test_a_file_outside_every_dataset_is_named_by_its_address(tmp_path):
    dataset = Dataset("first", tmp_path / "first")
    assert name_source(tmp_path / "first" / "sub-01" / "a.nii", (dataset,)) == "bids:first:sub-01/a.nii"
    assert name_source(tmp_path / "other" / "a b.nii", (dataset,)) == (tmp_path / "other" / "a b.nii").as_uri()


def test_checksum_agrees_with_hashlib_on_any_length():
    for n in (0, 63, 64, 65, 2**18 + 1):
        assert hash_bytes(b"x" * n) == Checksum(n, hashlib.sha256(b"x" * n).hexdigest())
