"""Checkpoints: found by what a computation depends on, whole or not at all."""

import logging

import numpy as np
import pytest

from bids_group import checkpoints
from bids_group.checkpoints import Checkpoints, Shard, digest
from bids_group.errors import ReadWriteError

ARRAYS = {"counts": np.arange(5), "maxima voxel": np.array([1.5, np.nan])}


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN", 0.0)
    store = Checkpoints(tmp_path / "work")
    store.keep("a", ARRAYS)
    return store


def test_a_checkpoint_comes_back_as_it_was_kept(kept):
    (found,) = kept.find("a")
    assert set(found) == set(ARRAYS)
    for name, values in ARRAYS.items():
        np.testing.assert_array_equal(found[name], values)
    assert kept.find("b") == []


def test_a_damaged_checkpoint_is_none(kept, tmp_path):
    path = tmp_path / "work" / "checkpoints" / "a.npz"
    path.write_bytes(path.read_bytes()[:100])
    assert kept.find("a") == []


def test_nothing_is_left_of_what_was_discarded(kept, tmp_path):
    kept.find("a")
    kept.discard_used()
    assert list((tmp_path / "work").iterdir()) == []


def test_what_was_not_asked_for_is_not_discarded(kept, tmp_path):
    kept.find("b")
    kept.discard_used()
    assert len(Checkpoints(tmp_path / "work").find("a")) == 1


def test_a_whole_run_finds_the_shards_and_a_shard_only_its_own(tmp_path):
    for number in (1, 2):
        Checkpoints(tmp_path, shard=Shard(number, 2)).store("a", {"number": np.array(number)})
    assert [int(found["number"]) for found in Checkpoints(tmp_path).find("a")] == [1, 2]
    (own,) = Checkpoints(tmp_path, shard=Shard(2, 2)).find("a")
    assert own["number"] == 2
    assert Checkpoints(tmp_path, shard=Shard(2, 3)).find("a") == []


def test_a_run_whose_shards_are_of_another_test_is_told(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("bids_group"), "propagate", True)
    Checkpoints(tmp_path, shard=Shard(1, 2)).store("a", ARRAYS)
    assert Checkpoints(tmp_path).find("b") == []
    assert "same inputs, spec, options" in caplog.text


def test_what_must_be_stored_and_cannot_be_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ReadWriteError, match="cannot be written"):
        Checkpoints(tmp_path / "file").store("a", ARRAYS)


def test_no_checkpoint_is_written_a_moment_after_the_last(tmp_path):
    Checkpoints(tmp_path).keep("a", ARRAYS)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_ends_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN", 0.0)
    (tmp_path / "file").touch()
    Checkpoints(tmp_path / "file").keep("a", ARRAYS)


def test_the_digest_tells_values_shapes_types_and_order_apart():
    one = np.arange(6.0)
    others = [one + 1e-12, one.reshape(2, 3), one.astype(np.float32)]
    names = [digest(one, "x"), *(digest(other, "x") for other in others), digest("x", one), digest(one, "y")]
    assert len(set(names)) == len(names)
    assert digest(one, "x") == digest(one.copy(), "x")
