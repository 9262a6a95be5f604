"""The image runs anywhere, writes nowhere else, and gives the same bytes as the app without it."""

import json
import re
import shutil
import time

import pytest

from bids_group import __version__
from tests.bids_validator import find_bids_errors
from tests.container.commands import STRANGER, measure
from tests.container.documentation import ROOT, find_command, list_commands
from tests.container.outputs import FACTS, compare_bytes, hash_files

LARGEST_IMAGE = 900e6  # bytes
CHECKPOINT_SECONDS = 300
STRICT = ("--rm", "--network", "none", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
# What says when, how fast, where and by which Python a run was made.
RECORDS = {"dataset_description.json", "logs/model-faces_log.txt", "logs/model-faces_provenance.json"}
REPORT = {"model-faces_report.html"}  # which names the container
OF_PYTHON = {"logs/model-faces_methods.md", "logs/model-faces_methods.tex"}
PROBE = """
import json, os, shutil
from pathlib import Path
roots = ("/opt", "/usr", "/etc", "/var", "/home", "/root", "/srv", "/tmp", "/run")
folders = [folder for root in roots for folder, _, _ in os.walk(root)]
print(json.dumps({
    "uid": os.getuid(),
    "tools": [tool for tool in ("cc", "gcc", "make", "git", "curl", "pip", "pip3", "uv") if shutil.which(tool)],
    "of the builder": [path for path in ("/etc/pip.conf", "/run/build-ca.crt", "/src") if Path(path).exists()],
    "tests": [folder for folder in folders if folder.startswith("/opt") and folder.endswith("/tests")],
    "caches": [str(path) for path in [*Path("/root").rglob("*"), *Path("/var/lib/apt/lists").rglob("*")] if path.is_file()],
    "writable": [folder for folder in folders if os.access(folder, os.W_OK)],
}))
"""


def find_container(results):
    (generator,) = json.loads((results / "dataset_description.json").read_text())["GeneratedBy"]
    return generator["Container"]


def find_checkpoints(folder):
    return [path for path in folder.rglob("*") if path.is_file() and "checkpoints" in path.parts]


def wait_for_checkpoint(folder):
    end = time.monotonic() + CHECKPOINT_SECONDS
    while not find_checkpoints(folder):
        assert time.monotonic() < end, "no checkpoint"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def probed(docker, image):
    """What a stranger finds in the image."""
    user = ("--user", f"{STRANGER}:{STRANGER}", "--entrypoint", "/usr/bin/python3")
    return json.loads(docker.call("run", *STRICT, *user, image, "-c", PROBE))


def test_every_command_of_the_documentation_is_run_by_a_test():
    run = ("docker build", "docker run", "mkdir -p results\ndocker run", "docker save", "apptainer build")
    run += ("mkdir -p results\napptainer run", "sbatch")
    assert list_commands() == [find_command(beginning) for beginning in run]


# What is in it


def test_version_is_that_of_package_file_and_label(docker, image):
    assert docker.call("run", *STRICT, image, "--version") == f"bids_group {__version__}\n"
    (inspected,) = json.loads(docker.call("inspect", image))
    labels = inspected["Config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == __version__
    assert re.fullmatch("[0-9a-f]{40}", labels["org.opencontainers.image.revision"])


def test_image_is_small(docker, image):
    (inspected,) = json.loads(docker.call("inspect", image))
    FACTS.append(f"image: {inspected['Size'] / 1e6:.0f} MB")
    layers = docker.call("history", "--no-trunc", "--format", "{{.Size}}\t{{.CreatedBy}}", image).splitlines()
    FACTS.extend(f"    {line[:100]}" for line in layers if not line.startswith("0B"))
    assert inspected["Size"] < LARGEST_IMAGE


def test_nothing_that_installs_compiles_or_tests_is_left_in_it(probed):
    assert probed["tools"] == probed["tests"] == probed["caches"] == []


def test_it_keeps_nothing_of_the_builder(docker, image, probed):
    assert probed["of the builder"] == []
    said = docker.call("inspect", image) + docker.call("history", "--no-trunc", image)
    assert "://" not in said


def test_a_stranger_can_write_nothing_in_it(docker, image, probed):
    assert probed["uid"] == STRANGER
    assert probed["writable"] == []
    (inspected,) = json.loads(docker.call("inspect", image))
    assert inspected["Config"]["User"] not in ("", "0", "root")


# What it does


def test_help_comes_without_anything_mounted(docker, image):
    with measure("docker run --help"):
        assert "OUTPUT_DIR" in docker.call("run", *STRICT, image, "--help")


def test_dry_run_as_documented_shows_the_design_and_writes_nothing(run_documented, user):
    before = hash_files(user)
    with measure("docker run --dry-run"):
        said = run_documented("docker run")
    assert "Node kinds" in said
    assert hash_files(user) == before


def test_docker_gives_the_bytes_of_a_plain_run(plain_results, docker_results):
    assert compare_bytes(plain_results, docker_results) <= RECORDS | REPORT | OF_PYTHON


def test_apptainer_gives_the_bytes_of_docker(docker_results, apptainer_results):
    assert compare_bytes(docker_results, apptainer_results) <= RECORDS | REPORT


def test_environment_of_the_user_changes_no_byte(apptainer_results, hostile_results):
    assert compare_bytes(apptainer_results, hostile_results) <= RECORDS


def test_job_script_as_documented_checks_the_design_on_what_slurm_gave(apptainer, sif):
    script = find_command("sbatch").replace("sbatch", "bash", 1)
    given = {"SLURM_SUBMIT_DIR": "/job/user", "SLURM_CPUS_PER_TASK": "1", "SLURM_MEM_PER_NODE": "2000"}
    with measure("apptainer run --dry-run"):
        said = apptainer.call("bash", "-euc", script, folder="/job/user", environment=given)
    assert "Node kinds" in said


def test_dataset_says_which_container_wrote_it(docker_results, apptainer_results):
    tag = f"bids_group:{__version__}"
    assert find_container(docker_results) == {"Type": "docker", "Tag": tag}
    sif = {"URI": "file:///job/user/bids_group.sif"}
    assert find_container(apptainer_results) == {"Type": "apptainer", "Tag": tag, **sif}


def test_what_a_container_writes_belongs_to_the_user_and_is_valid_bids(docker_results):
    assert {path.stat().st_uid for path in docker_results.rglob("*")} == {STRANGER}
    assert find_bids_errors(docker_results) == []


def test_a_container_that_is_stopped_ends_with_75_and_leaves_its_checkpoints(docker, image, user):
    output = user / "stopped"
    output.mkdir()
    shutil.chown(output, STRANGER, STRANGER)
    mounts = ("-v", f"{user / 'my_study'}:/data:ro", "-v", f"{ROOT / 'examples'}:/spec:ro", "-v", f"{output}:/out")
    strict = (*STRICT[1:], "--user", f"{STRANGER}:{STRANGER}")
    arguments = ("/data", "/out", "group", "--model", "/spec/faces_smdl.json", "--n-permutations", "1000000")
    name = docker.call("run", "-d", *strict, *mounts, image, *arguments).strip()
    try:
        with measure("docker stop, from the start on"):
            wait_for_checkpoint(output / ".work")
            docker.call("stop", "--time", "60", name)
        assert docker.call("inspect", "--format", "{{.State.ExitCode}}", name) == "75\n"
        assert find_checkpoints(output / ".work")
    finally:
        docker.call("rm", "--force", name)
