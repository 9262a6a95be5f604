"""What the tests of clusters share: a study, the bytes that a run on this machine alone gives, a Slurm, a Dask cluster."""

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import builders
from tests.cluster.private_slurm import find_missing, start_slurm
from tests.end_to_end import studies

PROJECT = Path(__file__).parents[2]
SUBJECTS = tuple(f"{i:02d}" for i in range(1, 13))
SHAPE = (20, 22, 18)
N_PERMUTATIONS = 2400
# Of what a run writes, what tells when and where it was.
OWN_TO_A_RUN = r"^logs/|_report\.html$"


@pytest.fixture(scope="session", autouse=True)
def _installed():
    """Fail where a skip would hide that nothing was tested."""
    missing = [name for name in ("distributed", "dask_jobqueue") if importlib.util.find_spec(name) is None]
    assert not missing, f"{', '.join(missing)} not installed: make test-cluster installs them"
    assert not find_missing(), f"{', '.join(find_missing())} not found; Debian: apt-get install slurm-wlm munge"


def pytest_configure():
    """Take down what was started even if the tests are told to end."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


class Runs:
    """Runs of one study through the command line, each in a process of its own."""

    def __init__(self, root):
        self.root = root
        self.study = studies.write_study(root, studies.draw_maps({"A": 2.0}, subjects=SUBJECTS, shape=SHAPE, seed=3))
        entry = {"Correction": "permutation", "Permutations": N_PERMUTATIONS, "ClusterThreshold": {"p": 0.01}}
        self.spec = self.study.write_spec(builders.make_spec(settings={"Inference": [entry], "Atlases": []}))
        # The processor's own loops of BLAS might differ from those that the batch scripts of the examples choose.
        self.environment = {**os.environ, "OPENBLAS_CORETYPE": "Haswell", "PYTHONPATH": str(PROJECT)}

    def name_arguments(self, name):
        return [str(self.study.bids), str(self.root / name), "group", "--model", str(self.spec)]

    def start(self, name, *options, environment=None):
        """Start a run."""
        command = [sys.executable, str(PROJECT / "run.py"), *self.name_arguments(name), *options]
        chosen = {**self.environment, **(environment or {})}
        return subprocess.Popen(command, env=chosen, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def run(self, name, *options, environment=None, code=0):
        """Run to the end; return what it says."""
        process = self.start(name, *options, environment=environment)
        said = process.communicate(timeout=600)[1]
        assert process.returncode == code, said
        assert "Traceback" not in said, said
        return said

    def hash(self, name):
        """Return the digests of a run's outputs, that do not tell where it ran."""
        return studies.hash_tree(self.root / name, but=OWN_TO_A_RUN)


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    return Runs(tmp_path_factory.mktemp("cluster"))


@pytest.fixture(scope="session")
def expected(runs):
    """The digests of what a run in one process gives."""
    runs.run("local")
    return runs.hash("local")


@pytest.fixture(scope="session")
def slurm():
    """The environment of a Slurm of two nodes, whose Dask workers are reached over loopback."""
    with start_slurm() as changes:
        yield {**changes, "DASK_JOBQUEUE__SLURM__INTERFACE": "lo"}


@pytest.fixture(scope="session")
def dask_cluster():
    """Two workers, of two threads each, and a scheduler."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None, host="127.0.0.1") as cluster:
        yield cluster
