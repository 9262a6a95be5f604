"""A run that is killed, stopped or interrupted at any moment leaves what stood there, and the next run does the rest.

Moments are drawn: half of them just before a change of the disk, which no moment between two changes differs from in
what it leaves, half after a time of the processor. FAULT_MOMENTS is how many (`make test-slow` draws more).
"""

import os
import random
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end import studies
from tests.faults.runs import TIMES, make_spec

EXIT_CODES = {signal.SIGTERM: 75, signal.SIGINT: 130}
N_MOMENTS = int(os.environ.get("FAULT_MOMENTS", "12"))


@dataclass(frozen=True)
class Moment:
    """When something happens to a run, as a share of its changes of the disk or of its time."""

    kind: str
    share: float

    def make_request(self, counts):
        if self.kind == "change":
            return {"at_change": 1 + int(self.share * counts["changes"])}
        return {"after_cpu": max(1e-3, self.share * counts["cpu"])}


def pair_in_turn(firsts, number):
    """Draw moments, and give each one of some values in turn."""
    rng = random.Random(number)
    return [(firsts[i % len(firsts)], Moment(("change", "time")[i % 2], rng.random())) for i in range(number)]


@pytest.fixture(scope="module")
def earlier(runner):
    """The results of an earlier spec, whose node has another name, so that its folder has to go."""
    document = make_spec()
    document["Nodes"][0]["Name"] = "older"
    ended = runner.run(runner.folder / "older", spec=runner.study.write_spec(document, "older.json"))
    assert ended.code == 0, ended.err
    return runner.folder / "older"


def list_all(folder):
    """Return every file and folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")} if folder.exists() else set()


@pytest.mark.parametrize(
    ("stands", "moment"), pair_in_turn(["nothing", "nothing", "earlier results", "earlier results"], N_MOMENTS), ids=str
)
def test_rerun_of_a_killed_run_gives_the_bytes_of_one_that_nothing_happened_to(
    runner, undisturbed, earlier, tmp_path, stands, moment
):
    expected, counts = undisturbed
    output = tmp_path / "out"
    if stands == "earlier results":
        shutil.copytree(earlier, output)
    killed = runner.run(output, signal=signal.SIGKILL, **moment.make_request(counts))
    assert killed.code in (-signal.SIGKILL, 0)
    again = runner.run(output)
    assert again.code == 0, again.err
    assert studies.hash_tree(output, but=TIMES) == expected
    assert list_all(output) == list_all(runner.folder / "undisturbed")
    assert list_all(tmp_path) == {"out"} | {f"out/{name}" for name in list_all(output)}


@pytest.mark.parametrize(
    ("sent", "moment"),
    pair_in_turn([signal.SIGTERM, signal.SIGTERM, signal.SIGTERM, signal.SIGINT], N_MOMENTS // 2),
    ids=str,
)
def test_signal_at_any_moment_ends_with_its_code_and_takes_everything_back(
    runner, undisturbed, earlier, tmp_path, sent, moment
):
    code = EXIT_CODES[sent]
    expected, counts = undisturbed
    output = Path(shutil.copytree(earlier, tmp_path / "out"))
    before = studies.hash_tree(output)
    ended = runner.run(output, signal=sent, **moment.make_request(counts))
    assert ended.code in (code, 0), ended.err
    assert "Traceback" not in ended.err
    if ended.code == code:
        assert "run the same command again" in ended.err
    left = {
        name: digest for name, digest in studies.hash_tree(output).items() if not name.startswith((".staging", ".work"))
    }
    assert left == before or studies.hash_tree(output, but=rf"{TIMES}|^\.staging|^\.work") == expected
