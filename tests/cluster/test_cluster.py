"""Permutations elsewhere give the bytes that they give here, whatever is lost on the way."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from distributed import Client, LocalCluster

import bids_group
from bids_group.engines.cluster import check_workers, compute_on_cluster, connect_to_scheduler
from bids_group.engines.options import SlurmOptions
from bids_group.engines.packing import pack_test, unpack_test
from bids_group.engines.slurm import start_slurm
from bids_group.errors import UsageError
from bids_group.stats.permutation.batch import prepare
from bids_group.stats.permutation.engine import run_permutations
from bids_group.stats.permutation.exchangeability import exchange_freely
from tests.cluster.conftest import N_PERMUTATIONS, PROJECT
from tests.cluster.private_slurm import list_jobs, run_slurm
from tests.permutation_designs import make_test

PATIENCE = 300
ALIVE = "PENDING,RUNNING,COMPLETING"
BOX = (30, 34, 28)
LEVELS = ("voxel", "cluster-size", "cluster-mass", "tfce")
SMALL_JOBS = ("--slurm-cpus", "1", "--slurm-mem-gb", "1", "--slurm-args=--time=10")


@pytest.fixture(scope="module")
def prepared():
    """A test that takes some seconds."""
    options = {"mask": np.ones(BOX, dtype=bool), "levels": LEVELS, "cluster_threshold": 2.5}
    return prepare(make_test(np.ones((24, 1)), [1], exchange_freely(24, "flips"), n_asked=1152, **options))


@pytest.fixture(scope="module")
def known(prepared):
    return run_permutations(prepared)


def await_that(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def assert_same_bits(result, known):
    for level in LEVELS:
        np.testing.assert_array_equal(result.null[level], known.null[level])
        np.testing.assert_array_equal(result.p[level], known.p[level])
    np.testing.assert_array_equal(result.uncorrected_p, known.uncorrected_p)


def compute_with(client, folder, *, after_first=lambda: None):
    """Return what computes batches, and calls a function when the first is done."""

    def compute(prepared, batches):
        for number, result in enumerate(compute_on_cluster(client, folder, prepared, batches)):
            if number == 0:
                after_first()
            yield result

    return compute


def has_done_some(dask_scheduler):
    """Tell, on a scheduler, whether a batch has been done: what they take is known then."""
    prefix = dask_scheduler.task_prefixes.get("compute_batch")
    return prefix is not None and prefix.duration_average >= 0


def test_a_packed_test_is_the_same_and_stays_out_of_memory(prepared, tmp_path):
    mapped = np.memmap(tmp_path / "tiles", np.float32, "w+", shape=prepared.tiles.shape)
    mapped[:] = prepared.tiles
    pack_test(replace(prepared, source=replace(prepared.source, tiles=mapped)), tmp_path)
    unpacked = unpack_test(tmp_path)
    np.testing.assert_array_equal(unpacked.tiles, prepared.tiles)
    assert unpacked.tiles.flags.writeable
    assert unpacked.tiles.ctypes.data % 64 == 0
    assert (tmp_path / "test.pickle").stat().st_size < 0.01 * prepared.tiles.nbytes
    assert unpacked.test.rearrangements.n == prepared.test.rearrangements.n


def submit(slurm, runs, script, *options, given, **variables):
    """Submit a batch script of the examples; return the number of its job."""
    program = f"{sys.executable} {PROJECT / 'run.py'}"
    environment = {**runs.environment, **slurm, "BIDS_GROUP": program, **variables}
    options = ["--parsable", f"--output={runs.root}/{script}-%j.log", "--mem=1G", *options]
    return run_slurm(environment, "sbatch", *options, str(PROJECT / "examples" / script), *given).strip()


def read_logs(runs, script):
    return "".join(path.read_text() for path in sorted(runs.root.glob(f"{script}-*.log")))


def test_a_job_that_starts_further_jobs_gives_the_same_bytes(runs, expected, slurm):
    work = runs.root / "work"
    given = [*runs.name_arguments("slurm")[:2], str(runs.spec), str(work)]
    submit(slurm, runs, "slurm.sbatch", given=given, JOBS="1", CPUS="1", MEM_GB="1")
    await_that(lambda: not list_jobs(slurm, ALIVE))
    assert (runs.root / "slurm").is_dir(), read_logs(runs, "slurm.sbatch")
    assert runs.hash("slurm") == expected
    assert not list(work.glob("*"))


def test_a_job_that_is_cancelled_is_made_up_for(runs, expected, slurm):
    process = runs.start("cancelled", "--slurm", "--slurm-jobs", "2", *SMALL_JOBS, environment=slurm)
    await_that(lambda: len(list_jobs(slurm)) == 2 or process.poll() is not None)
    time.sleep(2)
    assert process.poll() is None
    run_slurm(slurm, "scancel", list_jobs(slurm)[0])
    said = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 0, said
    assert runs.hash("cancelled") == expected
    await_that(lambda: not list_jobs(slurm))


def test_shares_of_a_job_array_give_the_same_bytes(runs, expected, slurm):
    work = runs.root / "shards"
    given = [*runs.name_arguments("merged")[:2], str(runs.spec), str(work)]
    job = submit(slurm, runs, "shards.sbatch", "--array=1-3", given=given)
    submit(slurm, runs, "merge.sbatch", f"--dependency=afterok:{job}", given=given)
    await_that(lambda: not list_jobs(slurm, ALIVE))
    assert "rearrangements: 0" in read_logs(runs, "merge.sbatch")
    assert runs.hash("merged") == expected
    assert not list(work.glob("*"))


def test_a_worker_that_is_killed_is_made_up_for(prepared, known, dask_cluster, tmp_path):
    with Client(dask_cluster, set_as_default=False) as client:
        victim = min(client.run(os.getpid).values())
        compute = compute_with(client, tmp_path, after_first=lambda: os.kill(victim, signal.SIGKILL))
        assert_same_bits(run_permutations(prepared, compute_batches=compute), known)
    assert not list(tmp_path.iterdir())


@contextmanager
def start_dask():
    """Start a scheduler, and a worker of it, as processes of their own; yield the scheduler and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host=127.0.0.1", f"--port={port}"]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads=1", "--no-nanny"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "OPENBLAS_CORETYPE": "Haswell"}
    quiet = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes = [subprocess.Popen([*dask, "--no-dashboard"], **quiet)]
    try:
        processes.append(subprocess.Popen([*worker, "--no-dashboard"], **quiet))
        yield processes[0], address
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_a_dask_cluster_gives_the_same_bytes(runs, expected):
    with start_dask() as (_, address):
        said = runs.run("dask", "--dask-scheduler", address)
    assert runs.hash("dask") == expected
    assert not (runs.root / "dask" / ".work").exists()
    assert "computes with" not in said


def test_a_run_whose_scheduler_goes_ends_with_75_and_is_resumed_with_the_same_bytes(runs, expected):
    with start_dask() as (scheduler, address):
        with Client(address, set_as_default=False, timeout=PATIENCE) as client:
            process = runs.start("lost", "--dask-scheduler", address)
            await_that(lambda: client.run_on_scheduler(has_done_some) or process.poll() is not None)
            scheduler.kill()
        said = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 75, said
    assert "run the same command again" in said
    assert "Traceback" not in said
    assert len(list((runs.root / "lost" / ".work" / "checkpoints").iterdir())) == 1
    resumed = runs.run("lost")
    assert f"rearrangements: {N_PERMUTATIONS}" not in resumed
    assert runs.hash("lost") == expected


def test_a_scheduler_that_is_not_there_ends_the_run_with_75(runs):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{closed.getsockname()[1]}"
        assert address in runs.run("nothing", "--dask-scheduler", address, code=75)
    assert not (runs.root / "nothing").exists()


def test_a_job_that_slurm_does_not_take_is_refused_with_its_words(runs, slurm):
    said = runs.run("refused", "--slurm", "--slurm-args=--partition=none", environment=slurm, code=64)
    assert "partition" in said
    assert not (runs.root / "refused").exists()


def test_workers_of_another_version_or_without_the_folder_are_refused(tmp_path):
    def pretend_version(version):
        bids_group.__version__ = version

    with LocalCluster(n_workers=1, dashboard_address=None, host="127.0.0.1") as cluster:
        with Client(cluster, set_as_default=False) as client:
            with pytest.raises(UsageError, match="all workers share"):
                check_workers(client, tmp_path / "elsewhere")
            client.run(pretend_version, "0.0.9")
        with (
            pytest.raises(UsageError, match=r"has bids_group 0\.0\.9, but this run"),
            connect_to_scheduler(cluster.scheduler_address, tmp_path),
        ):
            pass


def test_slurm_workers_give_the_same_bits_and_two_are_timed_against_one(
    prepared, known, slurm, tmp_path, monkeypatch, capsys
):
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    seconds = {}
    for n_jobs in (1, 2):
        options = SlurmOptions(n_jobs, n_cpus=1, memory_gb=1.0)
        with start_slurm(options, tmp_path, tmp_path / "logs") as compute:
            for _ in range(2):  # the first time the jobs start and compile
                start = time.perf_counter()
                assert_same_bits(run_permutations(prepared, compute_batches=compute), known)
                seconds[n_jobs] = time.perf_counter() - start
    with capsys.disabled():
        ratio = seconds[1] / seconds[2]
        sys.stdout.write(f"\n1 Slurm job: {seconds[1]:.1f} s, 2: {seconds[2]:.1f} s, {ratio:.2f} times as fast\n")
