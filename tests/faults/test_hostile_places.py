"""Full disks, folders nobody may write to, bounds of memory, odd names: an exit code and a reason, nothing half-written."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.end_to_end import studies
from tests.faults.runs import PROJECT, TIMES, make_spec, write_study
from tests.faults.test_killed_runs import list_all

NOBODY = 65534
MAP = studies.name_map("02", "A")
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts file systems and becomes another user")


@contextmanager
def mount(folder, *arguments):
    """Mount a file system; where that is not allowed, as in most containers, skip, but not in `make test-slow`."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *arguments, str(folder)], capture_output=True, text=True)
    if done.returncode:
        (pytest.fail if "FAULT_MOMENTS" in os.environ else pytest.skip)(done.stderr)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def study_that_others_may_read():
    """Write a study, its spec, and a folder that belongs to nobody, where other users can come to."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # the folders of the other tests are closed to others
        folder = Path(name)
        folder.chmod(0o755)
        study = write_study(folder / "study")
        (folder / "his").mkdir()
        os.chown(folder / "his", NOBODY, NOBODY)
        yield folder, study, study.write_spec(make_spec())


def refuse(ended, code, *words):
    assert ended.code == code, ended.err
    assert "Traceback" not in ended.err
    assert "fault of bids_group" not in ended.err
    assert ended.out == ""
    assert all(word in ended.err for word in words), ended.err


# Room


@only_root
@pytest.mark.parametrize("stands", ["nothing", "earlier results"])
def test_full_disk_ends_with_74_and_leaves_what_stood_there(runner, tmp_path, stands):
    with mount(tmp_path / "disk", "-t", "tmpfs", "-o", "size=600k", "none") as disk:
        output = disk / "out"
        if stands == "earlier results":
            output.mkdir()
            shutil.copy(runner.folder / "undisturbed" / "dataset_description.json", output)
        before = list_all(disk)
        refuse(runner.run(output), 74, str(output), "No space left on device")
        assert list_all(disk) == before


@only_root
def test_full_work_directory_ends_with_73_or_74_where_it_is_needed_and_names_it(runner, tmp_path):
    with mount(tmp_path / "disk", "-t", "tmpfs", "-o", "size=4k", "none") as disk:
        ended = runner.run(tmp_path / "out", "-w", disk / "work", "--mem-gb", "1e-6")
        assert ended.code in (73, 74), ended.err
        refuse(ended, ended.code, str(disk), "No space left on device")
        assert list_all(disk) == set()
    assert not (tmp_path / "out").exists()


def test_bound_of_the_size_of_files_ends_with_74(runner, tmp_path):
    refuse(runner.run(tmp_path / "out", bytes_of_file=3000), 74, str(tmp_path / "out"), "File too large")
    assert list_all(tmp_path) == set()


@only_root
@pytest.mark.parametrize("stands", ["nothing", "earlier results"])
def test_read_only_file_system_ends_with_73(runner, tmp_path, stands):
    folder = tmp_path / "disk"
    folder.mkdir()
    if stands == "earlier results":
        (folder / "out").mkdir()
    with mount(folder, "--bind", "-o", "ro", str(folder)):
        refuse(runner.run(folder / "out"), 73, str(folder / "out"), "Read-only file system")


@only_root
def test_user_without_permission_ends_with_73_and_one_with_a_folder_of_his_own_needs_no_other(runner):
    with study_that_others_may_read() as (folder, study, spec):
        before = list_all(folder)
        refused = runner.run(folder / "out", bids=study.bids, spec=spec, user=NOBODY)
        refuse(refused, 73, str(folder / "out"), "Permission denied")
        assert list_all(folder) == before
        ended = runner.run(folder / "his" / "out", bids=study.bids, spec=spec, user=NOBODY, unset=["HOME"])
        assert ended.code == 0, ended.err
        assert {Path(name).parts[0] for name in list_all(folder) - before} == {"his"}


@only_root
@pytest.mark.parametrize(
    "closed",
    [
        *("spec.json", "bids/dataset_description.json", "bids/participants.tsv"),
        *("bids", "bids/derivatives", "bids/derivatives/firstlevel", "bids/derivatives/firstlevel/sub-02"),
        *("bids/derivatives/firstlevel/dataset_description.json", f"bids/derivatives/firstlevel/{MAP}"),
    ],
)
def test_input_that_may_not_be_read_is_named_and_nothing_is_left(runner, closed):
    with study_that_others_may_read() as (folder, study, spec):
        before = list_all(folder)
        (study.root / closed).chmod(0)
        ended = runner.run(folder / "his" / "out", bids=study.bids, spec=spec, user=NOBODY, unset=["HOME"])
        (study.root / closed).chmod(0o755)
        refuse(ended, 74, str(study.root / closed), "Permission denied")
        assert list_all(folder) == before


@pytest.mark.parametrize("share", [0.02, 0.2])
def test_too_little_memory_ends_with_1_and_the_remedy(runner, tmp_path, share):
    shape = (100, 100, 100)
    maps = studies.draw_maps({"A": 1.0}, subjects=studies.SUBJECTS[:3], shape=shape)
    study = studies.write_study(tmp_path / "study", maps)
    ended = runner.run(tmp_path / "out", bids=study.bids, more_memory=int(share * 1e9))
    assert ended.code == 1, ended.err
    refuse(ended, 1, "out of memory", "--mem-gb")
    assert not (tmp_path / "out").exists()


# Inputs that change


@pytest.mark.parametrize("change", ["gone", "other"])
def test_map_that_changes_during_a_run_is_named(runner, tmp_path, change):
    study = studies.write_study(tmp_path / "study", studies.draw_maps({"A": 2.0}, subjects=studies.SUBJECTS[:4]))
    path = study.path("02", "A")
    replacement = {"gone": None, "other": str(study.path("03", "A"))}[change]
    ended = runner.run(tmp_path / "out", bids=study.bids, replace=[str(path), replacement])
    assert ended.code in (65, 66), ended.err
    refuse(ended, ended.code, str(path))
    assert not (tmp_path / "out").exists()


# Others at work


def test_second_run_into_a_folder_is_refused_while_the_first_one_lives(runner, undisturbed, tmp_path):
    pid = runner.start(runner.arguments(tmp_path / "out"), at_change=40, signal=signal.SIGSTOP)
    start = time.monotonic()
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() - start < 120
        time.sleep(0.05)
    given = [sys.executable, PROJECT / "run.py", *runner.arguments(tmp_path / "out")]
    second = subprocess.run(given, capture_output=True, text=True)
    os.kill(pid, signal.SIGCONT)
    first = runner.finish()
    assert second.returncode == 73, second.stderr
    assert f"{tmp_path / 'out'}: another run is writing there" in second.stderr
    assert first.code == 0, first.err
    assert studies.hash_tree(tmp_path / "out", but=TIMES) == undisturbed[0]


# The surroundings


def test_no_home_no_temporary_folder_and_odd_names_of_the_output_do_not_matter(runner, undisturbed, tmp_path):
    output = tmp_path / "Grüße, mon «frère» 'x' \"y\" $HOME 脳"
    environment = {"TMPDIR": "/proc/nowhere", "LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0"}
    ended = runner.run(output, unset=["HOME", "XDG_CACHE_HOME"], environment=environment)
    assert ended.code == 0, ended.err
    assert studies.hash_tree(output, but=TIMES) == undisturbed[0]
    json.loads((output / "logs" / "model-study_provenance.json").read_text(encoding="utf-8"))
    assert ended.out.strip() == str(output / "model-study_report.html")


def test_odd_names_and_links_of_inputs_are_read_in_a_plain_locale(runner, tmp_path):
    plain = studies.write_study(tmp_path / "plain", studies.draw_maps({"A": 2.0}, subjects=studies.SUBJECTS[:4]))
    real = Path(shutil.move(plain.root, tmp_path / "päth with 'quotes' \"and\" späces")) / "bids"
    (tmp_path / "link").symlink_to(real)
    given = [sys.executable, PROJECT / "run.py", *runner.arguments(tmp_path / "ausgäbe", bids=real)]
    done = subprocess.run(given, capture_output=True, env={**os.environ, "LC_ALL": "C"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().strip() == str(tmp_path / "ausgäbe" / "model-study_report.html")
    ended = runner.run(tmp_path / "linked", bids=tmp_path / "link")
    assert ended.code == 0, ended.err
    t_map = f"node-mean/{studies.PREFIX}contrast-A_stat-t_statmap.nii.gz"
    assert (tmp_path / "linked" / t_map).read_bytes() == (tmp_path / "ausgäbe" / t_map).read_bytes()


def test_name_that_is_no_text_is_refused_with_a_remedy(tmp_path):
    given = [sys.executable, PROJECT / "run.py", tmp_path, b"/gr\xfc\xdfe", "group", "-m", "auto"]
    done = subprocess.run(given, capture_output=True, text=True)
    assert done.returncode == 64
    assert "PYTHONUTF8=1" in done.stderr
    assert "Traceback" not in done.stderr


def test_clock_that_jumps_does_not_matter(runner, undisturbed, tmp_path):
    """Files of the next century, as a clock makes them that is set right later."""
    study = studies.write_study(tmp_path / "study", runner.study.maps)
    for path in study.root.rglob("*"):
        os.utime(path, (4e9, 4e9))
    ended = runner.run(tmp_path / "out", bids=study.bids)
    assert ended.code == 0, ended.err
    for path in (tmp_path / "out").rglob("*"):
        os.utime(path, (4e9, 4e9))
    assert "already done" in runner.run(tmp_path / "out", bids=study.bids).err


@pytest.mark.parametrize("options", [["--dry-run"], ["--help"], []])
def test_reader_of_the_output_that_goes_away_is_no_fault(runner, undisturbed, options):
    arguments = ["--help"] if options == ["--help"] else runner.arguments(runner.folder / "counted", *options)
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, PROJECT / "run.py", *arguments], stdout=writing, stderr=subprocess.PIPE, text=True
    )
    os.close(writing)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
    assert done.returncode == 0
