"""Commands of other programs, and the wall time of each part of the tests."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

# Debian's place for each, before anything of that name that a user has put on the PATH.
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
PACKAGES = {
    "dockerd": "docker.io",
    "docker": "docker.io",
    "mmdebstrap": "mmdebstrap",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "umount": "mount",
}
IMAGE_PYTHON = (
    3,
    11,
)  # Debian bookworm's: elsewhere the locks have other versions of numpy, whose last bits may differ
FREE_GB = 6
# Nobody on this machine: unknown to its files of users and groups, and to those of the image.
STRANGER = 1234
AS_STRANGER = ("setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups")
SECONDS: dict[str, float] = {}


def find_missing(folder: str) -> list[str]:
    """Return what these tests need and this machine lacks, each with the remedy."""
    absent = {package for tool, package in PACKAGES.items() if not shutil.which(tool, path=SYSTEM_PATH)}
    missing = [f"the Debian package {package}: apt-get install {package}" for package in sorted(absent)]
    if os.geteuid() != 0:
        missing.append("root, for a Docker daemon of their own: sudo make test-container")
    if sys.version_info[:2] != IMAGE_PYTHON:
        missing.append("Python 3.11, as in the image, to compare outputs with: make PYTHON=python3.11 test-container")
    free = shutil.disk_usage(folder).free / 1e9
    if free < FREE_GB:
        missing.append(f"{FREE_GB} GB of disk in {folder} ({free:.1f} GB are free): name another by TMPDIR")
    return missing


@contextmanager
def measure(part: str) -> Iterator[None]:
    """Keep the wall time of a part, in seconds."""
    start = time.monotonic()
    try:
        yield
    finally:
        SECONDS[part] = time.monotonic() - start


def call(*command, environment=(), cwd=None) -> str:
    """Run a command and return its standard output; where it fails, so does the test, with all that it said."""
    variables = {**os.environ, "PATH": SYSTEM_PATH, **dict(environment)}
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=variables, cwd=cwd)
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-60:])
        pytest.fail(f"{' '.join(words)[:500]}\nended with {done.returncode}:\n{said}", pytrace=False)
    return done.stdout
