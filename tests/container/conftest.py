"""The image, and the same analysis run from it by Docker and Apptainer and without it: `make test-container`."""

import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from examples.simulate_faces import simulate_faces
from tests.container.commands import AS_STRANGER, SECONDS, STRANGER, call, find_missing, measure
from tests.container.daemon import build_image, find_base, run_daemon
from tests.container.documentation import ROOT, find_command
from tests.container.outputs import FACTS
from tests.container.systems import ApptainerSystem, make_apptainer_system

SPEC = Path(__file__).with_name("faces_smdl.json")
IMAGE = "bids_group"  # the tag in the documentation
STUDY, RESULTS = "my_study", "results"
# The default takes two minutes of a processor to make the file a thirtieth smaller.
FAST_SIF = "--mksquashfs-args '-comp zstd -Xcompression-level 3'"
# What a user's environment may hold that is of no use, or worse, in the container.
HOSTILE = {
    "PYTHONPATH": "/job/hostile",
    "PYTHONHOME": "/job/hostile",
    "PYTHONSTARTUP": "/job/hostile/numpy.py",
    "MPLCONFIGDIR": "/job/hostile/none",
    "MPLBACKEND": "TkAgg",
    "XDG_CACHE_HOME": "/job/hostile/none",
    "TMPDIR": "/job/hostile/none",
    "DISPLAY": ":99",
    "LANG": "xx_XX",
}

# Without what reads descriptors the folder has no tests, so that pytest, asked for them alone, fails.
collect_ignore_glob = [] if find_spec("boutiques") else ["test_*.py"]


@pytest.fixture(scope="session", autouse=True)
def complete_machine():
    """Say at once what is missing, instead of skipping."""
    missing = find_missing(tempfile.gettempdir())
    if missing:
        pytest.exit("these tests need\n" + "\n".join(f"- {line}" for line in missing), returncode=1)


@pytest.fixture(scope="session")
def work(complete_machine):
    """A folder that a stranger may enter; it goes with the tests, for it holds gigabytes."""
    folder = Path(tempfile.mkdtemp(prefix="bids_group-container-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def user(work):
    """The folder that the commands of the documentation are run in, with a small study in it."""
    folder = work / "user"
    with measure("simulation of the study"):
        simulate_faces(folder / STUDY, n_subjects=6, resolution_mm=6.0)
    shutil.copy(SPEC, folder / STUDY)
    for name in ("run_apptainer.sh", "group.sbatch"):
        shutil.copy(ROOT / "examples" / name, folder)
    shutil.chown(folder, STRANGER, STRANGER)
    return folder


@pytest.fixture(scope="session")
def docker(work):
    """The command line of a daemon of our own."""
    (work / "docker").mkdir()
    with run_daemon(work / "docker") as docker:
        yield docker


@pytest.fixture(scope="session")
def image(docker, work):
    """The tag of the image."""
    find_base(docker, work)
    revision = call("git", "-c", f"safe.directory={ROOT}", "rev-parse", "HEAD", cwd=ROOT).strip()
    build_image(docker, work, revision)
    return IMAGE


@pytest.fixture(scope="session")
def run_documented(docker, image, user):
    """A function that runs a command of the documentation in the user's folder, as a user without a home."""

    def run(beginning: str) -> str:
        command = find_command(beginning)
        return call(*AS_STRANGER, "bash", "-euc", command, environment={**docker.environment, "HOME": "/"}, cwd=user)

    return run


def keep_results(user: Path, name: str) -> Path:
    """Put the results of a run aside, so that the next has an empty folder."""
    return (user / RESULTS).rename(user / f"{RESULTS}-{name}")


@pytest.fixture(scope="session")
def plain_results(user):
    """What the app writes without a container."""
    arguments = (STUDY, RESULTS, "group", "--model", f"{STUDY}/{SPEC.name}")
    with measure("analysis without container"):
        call(sys.executable, ROOT / "run.py", *arguments, cwd=user)
    return keep_results(user, "plain")


@pytest.fixture(scope="session")
def docker_results(run_documented, user):
    """What it writes in a container without network, privileges, known user or any place to write but the output."""
    with measure("analysis under docker"):
        run_documented("mkdir -p results\ndocker run")
    return keep_results(user, "docker")


@pytest.fixture(scope="session")
def apptainer(work):
    """A system with Apptainer, and an unprivileged user in it."""
    with measure("system with apptainer"):
        make_apptainer_system(work / "system")
    (work / "home").mkdir()
    shutil.chown(work / "home", STRANGER, STRANGER)
    system = ApptainerSystem(work / "system", work)
    FACTS.append(system.call("apptainer", "--version").strip())
    return system


@pytest.fixture(scope="session")
def sif(apptainer, run_documented, user):
    """The image as one file, made by the commands of the documentation."""
    with measure("docker save"):
        run_documented("docker save")
    with measure("apptainer build"):
        command = find_command("apptainer build").replace("apptainer build", f"apptainer build {FAST_SIF}", 1)
        apptainer.call("bash", "-euc", command, folder="/job/user")
    (user / "bids_group.tar").unlink()
    built = user / "bids_group.sif"
    FACTS.append(f"SIF: {built.stat().st_size / 1e6:.0f} MB")
    return built


@pytest.fixture(scope="session")
def apptainer_results(apptainer, sif, user):
    """What the app writes under Apptainer with an environment of its own."""
    with measure("analysis under apptainer"):
        apptainer.call("bash", "-euc", find_command("mkdir -p results\napptainer run"), folder="/job/user")
    return keep_results(user, "apptainer")


@pytest.fixture(scope="session")
def hostile_results(apptainer, sif, user, work):
    """What it writes where the user's environment comes along, and no network."""
    (work / "hostile").mkdir()
    (work / "hostile" / "numpy.py").write_text("raise SystemExit('the numpy of the user')\n")
    (user / RESULTS).mkdir()
    shutil.chown(user / RESULTS, STRANGER, STRANGER)
    binds = ("--bind", f"{STUDY}:/data:ro", "--bind", f"{RESULTS}:/out")
    arguments = ("bids_group.sif", "/data", "/out", "group", "--model", f"/data/{SPEC.name}")
    with measure("analysis under apptainer, environment of the user"):
        apptainer.call(
            *("apptainer", "-q", "run", "--containall", "--net", "--network", "none", *binds, *arguments),
            folder="/job/user",
            environment=HOSTILE,
        )
    return keep_results(user, "hostile")


def pytest_terminal_summary(terminalreporter):
    """Print wall times, sizes and how many files were equal."""
    terminalreporter.section("container")
    for part, seconds in SECONDS.items():
        terminalreporter.line(f"{seconds:7.1f} s  {part}")
    for fact in FACTS:
        terminalreporter.line(fact)
