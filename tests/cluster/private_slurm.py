"""A Slurm of two nodes on this machine, under one folder: nothing outside of it is touched."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "squeue", "sinfo")
SECONDS_TO_START, SECONDS_TO_END = 30, 10
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=100000
ReturnToService=2
MinJobAge=600
KillWait=2
DefMemPerCPU=1000
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=6000 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=6000 State=UNKNOWN
PartitionName=test Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


def find_missing():
    """Return the programs that are not installed."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    return [program for program in PROGRAMS if shutil.which(program, path=path) is None]


@contextmanager
def start_slurm():
    """Start it, and yield the variables of the environment by which its commands are found and find it."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # a socket's path may have 107 characters
    folder.chmod(0o755)  # munge insists
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    environment = {"PATH": path, "SLURM_CONF": str(folder / "slurm.conf")}
    try:
        _write_configuration(folder)
        _start_daemons(folder, environment)
        _await_nodes(environment)
        yield environment
    finally:
        _stop_daemons(folder, environment)
        shutil.rmtree(folder, ignore_errors=True)


def _write_configuration(folder):
    (folder / "munge").mkdir(mode=0o700)
    (folder / "munge" / "key").write_bytes(os.urandom(128))
    (folder / "munge" / "key").chmod(0o600)
    (folder / "state").mkdir()
    values = {"host": socket.gethostname().partition(".")[0], "user": getpass.getuser(), "ports": _find_free_ports(3)}
    (folder / "slurm.conf").write_text(CONFIGURATION.format(folder=folder, **values))


def _find_free_ports(n):
    sockets = [socket.socket() for _ in range(n)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _start_daemons(folder, environment):
    munge = folder / "munge"
    files = {
        "key-file": munge / "key",
        "pid-file": munge / "pid",
        "log-file": munge / "log",
        "seed-file": munge / "seed",
    }
    options = [f"--{name}={path}" for name, path in files.items()]
    commands = [
        ["munged", "--force", f"--socket={folder / 'munge.socket'}", *options, "--num-threads=2"],
        ["slurmctld", "-c", "-f", folder / "slurm.conf"],
        ["slurmd", "-N", "n1", "-f", folder / "slurm.conf"],
        ["slurmd", "-N", "n2", "-f", folder / "slurm.conf"],
    ]
    for command in commands:
        subprocess.run(
            command, env={**os.environ, **environment}, check=True, stdout=subprocess.DEVNULL, timeout=SECONDS_TO_START
        )


def _await_nodes(environment):
    deadline = time.monotonic() + SECONDS_TO_START
    while run_slurm(environment, "sinfo", "-h", "-N", "-t", "idle", "-o", "%N").split() != ["n1", "n2"]:
        assert time.monotonic() < deadline, run_slurm(environment, "sinfo", "-N", "-l")
        time.sleep(0.2)


def run_slurm(environment, *command):
    """Run one of its commands and return what it prints."""
    chosen = {**os.environ, **environment}
    return subprocess.run(command, env=chosen, capture_output=True, text=True, check=True, timeout=60).stdout


def list_jobs(environment, state="RUNNING"):
    """Return the numbers of its jobs."""
    return run_slurm(environment, "squeue", "-h", "-t", state, "-o", "%A").split()


def _stop_daemons(folder, environment):
    with suppress(subprocess.SubprocessError):
        run_slurm(environment, "scancel", "--quiet", "--user", getpass.getuser())
        deadline = time.monotonic() + SECONDS_TO_END
        while list_jobs(environment, "all") and list_jobs(environment, "RUNNING,COMPLETING"):
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
    pids = [_read_pid(path) for path in (*sorted(folder.glob("*.pid")), folder / "munge" / "pid")]
    for pid in filter(None, pids):
        _end(pid)


def _read_pid(path):
    return int(path.read_text()) if path.is_file() and path.read_text().strip() else None


def _end(pid):
    """End a process, and make sure that it ends."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + SECONDS_TO_END
        while time.monotonic() < deadline:
            os.kill(pid, 0)
            time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
