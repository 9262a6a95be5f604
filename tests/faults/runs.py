"""Runs that something happens to, and what they left."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests import builders
from tests.end_to_end import studies

PROJECT = Path(__file__).parents[2]
SUBJECTS = studies.SUBJECTS[:4]
ENTRY = {"Correction": "permutation", "Permutations": 16, "Levels": ["voxel"], "Tail": "positive"}
TIMES = r"^logs/|_report\.html$"  # they say when a run was, how long it took, and its command


def make_spec(**settings):
    """Return a spec of one mean with one permutation test: every stage of a run, and few figures."""
    return builders.make_spec(settings={"Inference": [ENTRY], "Atlases": [], **settings}, Input={"desc": ["A"]})


def write_study(root):
    return studies.write_study(root, studies.draw_maps({"A": 2.0}, subjects=SUBJECTS))


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit code, or minus the number of the signal that killed it, and what it said."""

    code: int
    out: str
    err: str


class Runner:
    """Runs of one study in children of a warm process (see `warm`)."""

    def __init__(self, study, folder):
        self.study, self.folder = study, folder
        self.spec = study.write_spec(make_spec())
        self._n_runs = 0
        self._errors = (folder / "warm.txt").open("w")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.warm", *self.arguments(folder / "undisturbed")],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def arguments(self, output, *options, bids=None, spec=None):
        return [str(bids or self.study.bids), str(output), "group", "-m", str(spec or self.spec), *map(str, options)]

    def start(self, arguments, **request):
        """Start a run, and return its process id."""
        self._n_runs += 1
        self._said = [self.folder / f"{name}-{self._n_runs}.txt" for name in ("out", "err")]
        out, err = map(str, self._said)
        full = {"arguments": arguments, "stdout": out, "stderr": err, **request}
        self._process.stdin.write(json.dumps(full) + "\n")
        self._process.stdin.flush()
        return self._read()["pid"]

    def finish(self):
        """Wait for the run's end."""
        status = self._read()["status"]
        return Ended(status, *(path.read_text(errors="replace") if path.is_file() else "" for path in self._said))

    def run(self, output, *options, bids=None, spec=None, **request):
        self.start(self.arguments(output, *options, bids=bids, spec=spec), **request)
        return self.finish()

    def close(self):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def _read(self):
        line = self._process.stdout.readline()
        assert line, (self.folder / "warm.txt").read_text()
        return json.loads(line)
