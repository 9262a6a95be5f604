"""The BIDS validator of the development environment."""

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("bids-validator-deno")


def find_bids_errors(dataset: Path) -> list[dict]:
    """Return what the validator says is an error in a dataset."""
    done = subprocess.run([PROGRAM, "--format", "json", dataset], capture_output=True, text=True, check=False)
    issues = json.loads(done.stdout)["issues"]["issues"]
    errors = [issue for issue in issues if issue["severity"] == "error"]
    assert bool(errors) == bool(done.returncode)
    return errors
