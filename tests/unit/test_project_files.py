"""What the project says of itself is true: versions agree, links lead somewhere, examples are read, locks are clean."""

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from cffconvert import Citation

import bids_group
from bids_group import errors
from bids_group.cli import EXIT_INTERRUPTED, EXIT_OTHER, make_parser
from bids_group.errors import BidsGroupError
from bids_group.inputs.spec import read_spec
from bids_group.inputs.strict import read_json

ROOT = Path(bids_group.__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("**/*.md"))]
LOCKS = sorted(ROOT.glob("*.lock"))
VERSION = (ROOT / "version").read_text(encoding="utf-8").strip()


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def find_specs(page):
    blocks = re.findall(r"^```json\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [block for block in blocks if '"Nodes"' in block]


SPECS = [(page.name, i, text) for page in PAGES for i, text in enumerate(find_specs(page))]


def find_links(text):
    """The targets of Markdown links outside code."""
    prose = re.sub(r"^(```.*?^```|    .*?$)", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose))


def make_anchors(text):
    """The anchors that GitHub gives headings."""
    headings = re.findall(r"^#+ +(.+?) *$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def find_requirements(lock):
    """The requirements of a lock, each with its hashes on one line; comments left out."""
    joined = lock.read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def test_version_is_the_same_everywhere():
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)
    assert bids_group.__version__ == VERSION
    assert tomllib.loads(read("pyproject.toml"))["tool"]["setuptools"]["dynamic"]["version"] == {"file": "version"}
    assert Citation(cffstr=read("CITATION.cff")).cffobj["version"] == VERSION
    assert re.search(r"^## \[(\d[^\]]*)\]", read("CHANGELOG.md"), flags=re.MULTILINE)[1] == VERSION
    assert re.search(r"^ARG VERSION=(.+)$", read("Dockerfile"), flags=re.MULTILINE)[1] == VERSION
    assert set(re.findall(r'"Version": "(.+?)"', read("docs/containers.md"))) == {VERSION}
    descriptor = json.loads(read("boutiques.json"))
    assert descriptor["tool-version"] == VERSION
    assert descriptor["container-image"]["image"] == f"bids_group:{VERSION}"


def test_citation_is_valid():
    Citation(cffstr=read("CITATION.cff")).validate()


def test_boutiques_has_the_options_of_the_command_line_but_those_that_run_no_analysis_here():
    options = {name for action in make_parser()._actions for name in action.option_strings[-1:] or [action.dest]}
    named = {one.get("command-line-flag", one["id"]) for one in json.loads(read("boutiques.json"))["inputs"]}
    first_of_several = {"--participant-label", "--nprocs"}
    elsewhere = {"analysis_level", "--help", "--version", "--dask-scheduler", "--reports-only", "--verify", "--shard"}
    elsewhere |= {"--slurm", "--slurm-jobs", "--slurm-cpus", "--slurm-mem-gb", "--slurm-args"}
    assert named - first_of_several == options - {"--participant_label", "--n-cpus"} - elsewhere


def test_boutiques_has_the_exit_codes_of_the_errors():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BidsGroupError)]
    codes = {one["code"] for one in json.loads(read("boutiques.json"))["error-codes"]}
    assert codes == {kind.exit_code for kind in kinds} | {EXIT_OTHER, EXIT_INTERRUPTED}


def test_documentation_has_specs():
    assert {"README.md", "first-analysis.md", "model-spec.md"} <= {name for name, _, _ in SPECS}


@pytest.mark.parametrize("text", [pytest.param(text, id=f"{name}-{i}") for name, i, text in SPECS])
def test_every_spec_of_the_documentation_is_read(text, tmp_path):
    path = tmp_path / "smdl.json"
    path.write_text(text, encoding="utf-8")
    assert [node.name for node in read_spec(path).nodes] == [node["Name"] for node in json.loads(text)["Nodes"]]


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.json")), ids=lambda path: path.name)
def test_every_spec_of_the_examples_is_read(path):
    assert read_spec(path).name == read_json(path)["Name"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_has_its_target(page):
    for link in find_links(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.is_file(), f"{page.name}: {link}"
        assert not anchor or anchor in make_anchors(target.read_text(encoding="utf-8")), f"{page.name}: {link}"


def test_every_page_of_the_documentation_can_be_reached_from_its_index():
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in find_links(index.read_text("utf-8"))}
    assert set((ROOT / "docs").glob("**/*.md")) - linked == {index}


def test_what_runs_what_tests_and_what_installs_have_a_lock_each():
    locks = ("browser", "cluster", "container", "dev", "mutation", "uv")
    kinds = (*(f"requirements-{name}" for name in locks), "requirements")
    assert [lock.name for lock in LOCKS] == [f"{kind}.lock" for kind in kinds]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_requirement_is_pinned_with_a_hash_and_without_an_address(lock):
    requirements = find_requirements(lock)
    assert requirements
    for line in requirements:
        assert re.match(r"[A-Za-z0-9._-]+(\[[\w,-]+\])?==[^\s;]+ ", line), line
        assert "--hash=sha256:" in line, line
    text = lock.read_text(encoding="utf-8")
    assert not re.search(r"https?:|file:|--(extra-)?index-url|--find-links|--trusted-host|\s-[if]\s", text)


def list_tracked_files():
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def test_no_tracked_text_names_a_place_on_one_machine():
    # Put together here, so that this file does not name them either.
    places = [f"/{folder}/" for folder in ("work", "root")]
    for path in list_tracked_files():
        if not path.is_file() or path.suffix == ".png":
            continue
        text = path.read_text(encoding="utf-8")
        for place in places:
            assert not re.search(rf"(?<![\w.*-]){place}", text), f"{path.relative_to(ROOT)} names {place}"


@pytest.mark.parametrize("script", ["group.sbatch", "run_apptainer.sh"])
def test_every_script_of_the_examples_is_one(script):
    subprocess.run(["bash", "-n", ROOT / "examples" / script], check=True)


def test_script_without_its_arguments_says_how_to_use_it():
    command = ["bash", ROOT / "examples" / "run_apptainer.sh", "image.sif"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 64
    assert done.stderr.startswith("usage: run_apptainer.sh IMAGE.sif BIDS_DIR OUTPUT_DIR SPEC.json")


@pytest.mark.parametrize("page", [*PAGES, ROOT / ".github" / "workflows" / "ci.yml"], ids=lambda page: page.name)
def test_every_make_target_that_is_named_exists(page):
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), flags=re.MULTILINE))
    named = re.findall(r"(?:^ {4}|`|run: )make ([a-z-]+)", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert set(named) <= targets


def test_readme_names_the_two_commands_and_its_picture_is_small():
    assert {"demo", "test"} <= set(re.findall(r"^ {4}make ([a-z-]+)", read("README.md"), flags=re.MULTILINE))
    pictures = sorted((ROOT / "docs" / "images").iterdir())
    assert pictures
    assert all(picture.stat().st_size < 200_000 for picture in pictures)
