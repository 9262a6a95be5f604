"""Checkpoints: found by what a computation depends on, whole or not at all."""

import numpy as np
import pytest

from bids_group import checkpoints
from bids_group.checkpoints import Checkpoints, digest

ARRAYS = {"counts": np.arange(5), "maxima voxel": np.array([1.5, np.nan])}


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN", 0.0)
    store = Checkpoints(tmp_path / "work")
    store.keep("a", ARRAYS)
    return store


def test_a_checkpoint_comes_back_as_it_was_kept(kept):
    found = kept.find("a")
    assert set(found) == set(ARRAYS)
    for name, values in ARRAYS.items():
        np.testing.assert_array_equal(found[name], values)
    assert kept.find("b") is None


def test_a_damaged_checkpoint_is_none(kept, tmp_path):
    path = tmp_path / "work" / "checkpoints" / "a.npz"
    path.write_bytes(path.read_bytes()[:100])
    assert kept.find("a") is None


def test_nothing_is_left_of_what_was_discarded(kept, tmp_path):
    kept.discard("a")
    assert list((tmp_path / "work").iterdir()) == []


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
