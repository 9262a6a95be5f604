"""boutiques.json is a valid descriptor, and what Boutiques makes of it is a command line that the app understands."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bids_group.cli import make_parser
from tests.container.documentation import ROOT

BOSH = Path(sys.executable).with_name("bosh")
DESCRIPTOR = ROOT / "boutiques.json"
INVOCATION = {
    "bids_dir": "/data",
    "output_dir": "/out",
    "model": "/data/faces_smdl.json",
    "derivatives": ["first=/first", "second=/second"],
    "participant_label": ["01", "02"],
    "bids_filter_file": "/filter.json",
    "bids_database_dir": "/database",
    "skip_bids_validation": True,
    "mask": "/mask.nii.gz",
    "n_permutations": 500,
    "random_seed": 7,
    "work_dir": "/scratch",
    "nprocs": 4,
    "mem_gb": 7.5,
    "force": True,
    "dry_run": True,
    "verbose": True,
}


def run_bosh(*arguments):
    return subprocess.run([BOSH, *arguments], capture_output=True, text=True, check=True).stdout


def test_descriptor_is_valid():
    assert run_bosh("validate", DESCRIPTOR).strip().endswith("OK")


@pytest.mark.parametrize("left_out", ["force", "dry_run"])  # which exclude each other
def test_every_input_of_the_descriptor_arrives_where_the_command_line_has_it(left_out, tmp_path):
    assert INVOCATION.keys() == {one["id"] for one in json.loads(DESCRIPTOR.read_text())["inputs"]}
    invocation = {name: value for name, value in INVOCATION.items() if name != left_out}
    (tmp_path / "invocation.json").write_text(json.dumps(invocation))
    said = run_bosh("exec", "simulate", DESCRIPTOR, "-i", tmp_path / "invocation.json")
    words = said.strip().splitlines()[-1].split()
    assert words[0] == "bids_group"
    parsed = vars(make_parser().parse_args(words[1:]))
    for name, value in invocation.items():
        given = parsed[name]
        assert given == (Path(value) if isinstance(given, Path) else value), name
    assert parsed["analysis_level"] == "group"
