"""The work directory: shared by runs, cleaned of what each of them made."""

import os

import pytest

from bids_group.errors import OutputError
from bids_group.work_folder import open_work_folder


def test_runs_that_share_a_work_folder_do_not_see_each_other(tmp_path):
    folder = tmp_path / "new" / "work"
    with open_work_folder(folder, is_shared=True) as first:
        with open_work_folder(folder, is_shared=True) as second:
            assert first != second
            (first / "maps").write_text("first")
        assert (first / "maps").read_text() == "first"
        assert not second.exists()
    assert not (tmp_path / "new").exists()


def test_what_was_in_a_shared_work_folder_stays(tmp_path):
    (tmp_path / "mine").write_text("mine")
    with open_work_folder(tmp_path, is_shared=True):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_work_folder_of_ours_is_cleared_of_what_a_killed_run_left(tmp_path):
    left = tmp_path / ".work" / "run-old" / "maps.npy"
    left.parent.mkdir(parents=True)
    left.write_text("old")
    with open_work_folder(tmp_path / ".work", is_shared=False):
        assert not left.exists()
    assert left.parent.parent.exists() is False


def test_checkpoints_of_ours_stay_after_a_failure_and_go_after_success(tmp_path):
    folder = tmp_path / ".work"

    def fail():
        with open_work_folder(folder, is_shared=False):
            (folder / "checkpoints").mkdir()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [path.name for path in folder.iterdir()] == ["checkpoints"]
    with open_work_folder(folder, is_shared=False):
        assert (folder / "checkpoints").exists()
    assert not folder.exists()


def test_libraries_keep_their_files_there_and_the_environment_comes_back(tmp_path, monkeypatch):
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    with open_work_folder(tmp_path, is_shared=True) as folder:
        assert os.environ["MPLCONFIGDIR"].startswith(str(folder))
    assert "MPLCONFIGDIR" not in os.environ


def test_a_folder_of_the_users_own_is_kept_to_where_it_can_be_written_to(tmp_path, monkeypatch):
    (tmp_path / "fonts").mkdir()
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "fonts"))
    with open_work_folder(tmp_path / "work", is_shared=True):
        assert os.environ["MPLCONFIGDIR"] == str(tmp_path / "fonts")


def test_a_folder_that_is_not_there_is_replaced_for_the_run(tmp_path, monkeypatch):
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "of another machine"))
    with open_work_folder(tmp_path / "work", is_shared=True) as folder:
        assert os.environ["MPLCONFIGDIR"].startswith(str(folder))
    assert os.environ["MPLCONFIGDIR"] == str(tmp_path / "of another machine")


def test_a_file_in_the_way_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"), open_work_folder(tmp_path / "file" / "work", is_shared=True):
        pass


def test_a_work_folder_of_ones_own_that_is_a_link_is_refused_and_what_it_leads_to_stays(tmp_path):
    (tmp_path / "elsewhere" / "run-a").mkdir(parents=True)
    link = tmp_path / ".work"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match=r"\.work: a link.*remove"), open_work_folder(link, is_shared=False):
        pass
    assert (tmp_path / "elsewhere" / "run-a").is_dir()
