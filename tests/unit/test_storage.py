"""The matrix of maps lies in memory while it fits the bound, else in a file that is gone afterwards."""

import numpy as np
import pytest

from bids_group.errors import OutputError
from bids_group.inputs.storage import SHARE_OF_MEMORY, open_storage

SHAPE = (10, 1000)
GIGABYTES = 4 * 10 * 1000 / 1e9


@pytest.mark.parametrize(
    ("memory_gb", "in_file"),
    [(None, False), (1.01 * GIGABYTES / SHARE_OF_MEMORY, False), (0.99 * GIGABYTES / SHARE_OF_MEMORY, True)],
)
def test_a_file_is_used_exactly_beyond_the_share_of_the_bound(tmp_path, memory_gb, in_file):
    work = tmp_path / "work"
    with open_storage(work, memory_gb) as allocate:
        matrix = allocate(SHAPE)
        matrix[:] = 1
        assert isinstance(matrix, np.memmap) == in_file == work.exists()
        assert (matrix.shape, matrix.dtype) == (SHAPE, np.float32)
        assert not in_file or list(work.iterdir()) == []  # a file without a name: nothing is left if the run is killed
        assert matrix.sum() == matrix.size


def test_arrays_are_apart(tmp_path):
    with open_storage(tmp_path, GIGABYTES) as allocate:
        first, second = allocate(SHAPE), allocate((2, 3, *SHAPE))
        first[:], second[:] = 1, 2
        assert first.max() == 1


def test_what_else_is_in_the_work_folder_stays_and_the_file_goes_after_an_error_too(tmp_path):
    (tmp_path / "notes.txt").touch()

    def fail():
        with open_storage(tmp_path, GIGABYTES) as allocate:
            allocate(SHAPE)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_work_folder_that_cannot_be_made_is_73(tmp_path):
    (tmp_path / "file").touch()
    with open_storage(tmp_path / "file", GIGABYTES) as allocate, pytest.raises(OutputError) as caught:
        allocate(SHAPE)
    assert caught.value.exit_code == 73
