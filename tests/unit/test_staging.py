"""Outputs appear whole or not at all."""

import errno
import itertools
import os
import signal
import sys

import pytest

from bids_group.errors import OutputError, ReadWriteError
from bids_group.outputs.staging import STAGING_FOLDER, open_staging, restore_after_killed_run, translate_errors


def publish(output, files, *, stale=()):
    with open_staging(output) as staging:
        for name, content in files.items():
            staging.write_bytes(name, content)
        staging.publish(stale=list(stale))


def read_tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_nothing_appears_before_it_is_published(tmp_path):
    with open_staging(tmp_path / "out") as staging:
        staging.write_bytes("node-a/map", b"1")
        assert [path.name for path in (tmp_path / "out").iterdir()] == [staging.root.name]
        staging.publish(stale=[])
        assert (tmp_path / "out" / "node-a" / "map").read_bytes() == b"1"
    assert read_tree(tmp_path / "out") == {"node-a/map": b"1"}


def test_folder_of_a_node_is_replaced_as_a_whole_and_other_files_one_by_one(tmp_path):
    publish(tmp_path, {"node-a/old": b"1", "logs/first": b"1", "top": b"1"})
    publish(tmp_path, {"node-a/new": b"2", "logs/second": b"2", "top": b"2"})
    assert read_tree(tmp_path) == {"node-a/new": b"2", "logs/first": b"1", "logs/second": b"2", "top": b"2"}


def test_stale_folders_go_with_the_publication_and_not_before(tmp_path):
    publish(tmp_path, {"node-a/map": b"1"})
    with pytest.raises(FileNotFoundError), open_staging(tmp_path) as staging:
        (staging.root / "never-was").unlink()
    assert read_tree(tmp_path) == {"node-a/map": b"1"}
    publish(tmp_path, {"node-b/map": b"2"}, stale=["node-a", "node-never-was"])
    assert read_tree(tmp_path) == {"node-b/map": b"2"}


def test_publication_that_fails_half_way_is_taken_back(tmp_path):
    publish(tmp_path, {"node-a/map": b"1", "top": b"1", "logs": b"a file where a folder has to be"})
    before = read_tree(tmp_path)
    with pytest.raises(OutputError, match="logs"):
        publish(tmp_path, {"node-a/map": b"2", "node-b/map": b"2", "logs/log": b"2", "top": b"2"})
    assert read_tree(tmp_path) == before


def test_failed_run_takes_away_the_folders_that_it_made_and_no_others(tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(KeyboardInterrupt), open_staging(tmp_path / "there" / "new" / "out"):
        raise KeyboardInterrupt
    assert list((tmp_path / "there").iterdir()) == []


def test_what_a_killed_run_left_is_cleared_away(tmp_path):
    with open_staging(tmp_path) as staging:
        name = staging.root.name
    (tmp_path / name / "node-a").mkdir(parents=True)
    (tmp_path / name / "node-a" / "half").write_bytes(b"1")
    publish(tmp_path, {"node-b/map": b"2"})
    assert read_tree(tmp_path) == {"node-b/map": b"2"}


def test_output_below_a_file_cannot_be_created(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="file"), open_staging(tmp_path / "file" / "out"):
        pass


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, ReadWriteError), (errno.EDQUOT, ReadWriteError), (errno.EIO, ReadWriteError),
        (errno.EACCES, OutputError), (errno.EROFS, OutputError), (errno.ENOTDIR, OutputError),
    ],
)  # fmt: skip
def test_full_or_failing_device_is_told_from_a_place_that_cannot_be_written(tmp_path, number, kind):
    with pytest.raises(kind, match="out"), translate_errors(tmp_path / "out"):
        raise OSError(number, "reason")


def test_json_is_text_that_people_can_read(tmp_path):
    with open_staging(tmp_path) as staging:
        staging.write_json("a.json", {"Name": "Grüße", "n": [1]})
        staging.publish(stale=[])
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "Name": "Grüße",\n  "n": [\n    1\n  ]\n}\n'


def test_one_run_at_a_time_writes_into_a_folder(tmp_path):
    with open_staging(tmp_path / "out") as first:
        first.write_bytes("top", b"1")
        with pytest.raises(OutputError, match="another run is writing"), open_staging(tmp_path / "out"):
            pass
        first.publish(stale=[])
    assert read_tree(tmp_path / "out") == {"top": b"1"}
    publish(tmp_path / "out", {"top": b"2"})
    assert read_tree(tmp_path / "out") == {"top": b"2"}


EARLIER = {"dataset_description.json": b"1", "node-a/map": b"1", "node-b/map": b"1", "logs/old": b"1"}
LATER = {"dataset_description.json": b"2", "node-b/map": b"2", "node-c/map": b"2", "logs/old": b"2", "new/one": b"2"}
CHANGES = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir"}


def end_at_change(number, end):
    """Call a function just before this process changes the disk for the n-th time, or opens a folder or a file."""
    seen = itertools.count(1)
    sys.addaudithook(lambda event, _: end() if event in CHANGES and next(seen) == number else None)


def publish_and_end(output, number, end):
    """Publish in a child process that something ends; return its exit code."""
    child = os.fork()
    if child == 0:
        code = 0
        try:
            with open_staging(output) as staging:
                for name, content in LATER.items():
                    staging.write_bytes(name, content)
                end_at_change(number, end)
                staging.publish(stale=["node-a"])
        except KeyboardInterrupt:
            code = 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize("earlier", [EARLIER, {}])
def test_a_run_killed_at_any_change_leaves_the_earlier_results_or_the_later_ones(tmp_path, earlier):
    found = []
    for number in itertools.count(1):
        output = tmp_path / str(number)
        publish(output, earlier)
        code = publish_and_end(output, number, lambda: os.kill(os.getpid(), signal.SIGKILL))
        restore_after_killed_run(output)
        with open_staging(output):
            found.append(read_tree(output))
        assert found[-1] in (earlier, LATER), number
        assert not [path for path in output.rglob("*") if path.is_dir() and not any(path.iterdir())]
        if code == 0:
            break
    assert number > len(LATER)
    assert found.count(earlier) > len(LATER)
    assert found.count(LATER) > 1


@pytest.mark.parametrize("earlier", [EARLIER, {}])
def test_a_run_interrupted_at_any_change_leaves_the_earlier_results_or_the_later_ones(tmp_path, earlier):
    for number in itertools.count(1):
        output = tmp_path / str(number)
        publish(output, earlier)
        code = publish_and_end(output, number, interrupt)
        restore_after_killed_run(output)
        with open_staging(output):
            assert read_tree(output) in (earlier, LATER), number
        if code == 0:
            break


def test_json_holds_no_infinity(tmp_path):
    with pytest.raises(ValueError, match="JSON"), open_staging(tmp_path) as staging:
        staging.write_json("a.json", {"Threshold": float("inf")})


def test_a_hidden_folder_that_is_a_link_is_refused_and_what_it_leads_to_stays(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "thesis.txt").touch()
    output = tmp_path / "out"
    output.mkdir()
    (output / STAGING_FOLDER).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match=r"\.staging: a link.*remove"), open_staging(output):
        pass
    assert (tmp_path / "elsewhere" / "thesis.txt").is_file()
