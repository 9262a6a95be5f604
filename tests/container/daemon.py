"""A Docker daemon of the tests' own: own socket, own data, no bridge and no rule of a firewall."""

import os
import resource
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.container.commands import SYSTEM_PATH, call, measure
from tests.container.documentation import ROOT, find_command
from tests.container.systems import make_base

BUILD = "docker build"
BASE = "debian:bookworm-slim"
START_SECONDS, STOP_SECONDS = 60, 30
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


class Docker:
    """The command line of a private daemon."""

    def __init__(self, socket: Path) -> None:
        self.environment = {"DOCKER_HOST": f"unix://{socket}", "DOCKER_BUILDKIT": "1", "PATH": SYSTEM_PATH}

    def call(self, *arguments) -> str:
        """Run `docker` with these arguments and return its standard output."""
        return call("docker", *arguments, environment=self.environment)

    def answers(self) -> bool:
        """Return whether the daemon is up."""
        command = ["docker", "version"]
        done = subprocess.run(command, capture_output=True, check=False, env={**os.environ, **self.environment})
        return done.returncode == 0


@contextmanager
def run_daemon(folder: Path) -> Iterator[Docker]:
    """Run a daemon that keeps everything in a folder, and stop it by its process id."""
    socket = folder / "docker.sock"
    open_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # containers cannot be given more than we may have
    command = [
        # It ends with these tests, however they end.
        *("setpriv", "--pdeathsig", "TERM", "dockerd", "--host", f"unix://{socket}", "--storage-driver", "overlay2"),
        *("--data-root", str(folder / "data"), "--exec-root", str(folder / "exec"), "--pidfile", str(folder / "pid")),
        *("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"),
        f"--default-ulimit=nofile={open_files}:{open_files}",
    ]
    with (folder / "dockerd.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "PATH": SYSTEM_PATH})
        try:
            docker = Docker(socket)
            _wait_for(docker, process, folder / "dockerd.log")
            socket.chmod(0o666)  # the folder is ours; the commands of the documentation are not run as root
            yield docker
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)
            for mounted in (folder / "exec" / "netns").glob("*"):
                subprocess.run(["umount", "-l", mounted], check=False)


def _wait_for(docker: Docker, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while not docker.answers():
        if process.poll() is not None or time.monotonic() > end:
            pytest.fail(f"dockerd does not start:\n{log.read_text()[-3000:]}", pytrace=False)
        time.sleep(0.2)


def find_base(docker: Docker, folder: Path) -> None:
    """Pull the base image or, where no registry can be reached, make its like from Debian's archive."""
    with measure("base image"):
        pulled = subprocess.run(
            ["docker", "pull", "-q", BASE], capture_output=True, check=False, env={**os.environ, **docker.environment}
        )
        if pulled.returncode:
            make_base(folder / "base.tar")
            docker.call("import", folder / "base.tar", BASE)
            (folder / "base.tar").unlink()


def build_image(docker: Docker, folder: Path, revision: str) -> None:
    """Build the image as documented, with this machine's network, and for pip the certificates that it trusts."""
    options = ["--network", "host", "--progress", "plain", "--build-arg", f"REVISION={revision}"]
    if CERTIFICATES.exists():
        (folder / "pip.conf").write_text("[global]\ncert = /run/build-ca.crt\n")
        options += ["--secret", f"id=pip_conf,src={folder / 'pip.conf'}", "--secret", f"id=build_ca,src={CERTIFICATES}"]
    command = find_command(BUILD).replace(BUILD, shlex.join([*BUILD.split(), *options]), 1)
    with measure("build of the image"):
        call("bash", "-euc", command, environment=docker.environment, cwd=ROOT)
