"""A process that has imported the app and run it once, and forks a child for each further run.

A run in a child is one in a process of its own, whose limits, signals and death are its own, without the seconds that
imports and compiled loops take. Requests come as lines of JSON, answers go back as such:

    {"arguments": [...], "stderr": path, ...}  ->  {"pid": n}, then {"status": n}

Run by `tests.faults.runs`.
"""

import json
import os
import resource
import signal
import sys
from pathlib import Path

from bids_group.cli import main

# What changes something on a disk, or is about to; what is only read changes nothing.
CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink", "shutil.rmtree")
PAGE = os.sysconf("SC_PAGE_SIZE")


def stop_at_change(number, sent):
    """Send this process a signal just before its n-th change of a disk."""
    seen = 0

    def watch(event, arguments):
        nonlocal seen
        if event in CHANGES or (event == "open" and opens_for_writing(arguments)):
            seen += 1
            if seen == number:
                os.kill(os.getpid(), sent)

    sys.addaudithook(watch)
    return lambda: seen


def opens_for_writing(arguments):
    _, mode, flags = arguments
    return flags & (os.O_WRONLY | os.O_RDWR) != 0 if isinstance(flags, int) else bool(set(mode or "") & set("wax+"))


def stop_after_cpu(seconds, sent):
    """Send this process a signal after a time of its processor, which does not depend on what else runs."""
    signal.signal(signal.SIGPROF, lambda *_: os.kill(os.getpid(), sent))
    signal.setitimer(signal.ITIMER_PROF, seconds)


def replace_when_read(path, other):
    """Take a file away when it is opened a third time, or put the content of another in its place.

    The header is read first, the hash is taken then, and the third time is that of the values.
    """
    n_opened = 0

    def watch(event, arguments):
        nonlocal n_opened
        if event == "open" and str(arguments[0]) == path:
            n_opened += 1
            if n_opened == 3:
                Path(path).unlink()
                if other is not None:
                    Path(path).write_bytes(Path(other).read_bytes())

    sys.addaudithook(watch)


def bound(request):
    """Set the limits that a request names."""
    if "bytes_of_file" in request:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["bytes_of_file"],) * 2)
    if "more_memory" in request:
        n_pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (n_pages * PAGE + request["more_memory"],) * 2)
    if "user" in request:
        os.setgroups([])
        os.setgid(request["user"])
        os.setuid(request["user"])


def run(request):
    """Run the app as a request says; never returns."""
    for stream, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(file, stream)
        os.close(file)
    os.environ.update(request.get("environment", {}))
    for name in request.get("unset", ()):
        os.environ.pop(name, None)
    count = stop_at_change(request.get("at_change"), request.get("signal"))
    if "after_cpu" in request:
        stop_after_cpu(request["after_cpu"], request["signal"])
    if "replace" in request:
        replace_when_read(*request["replace"])
    bound(request)
    code = main(request["arguments"])
    if "counts" in request:
        seconds = sum(os.times()[:2])
        Path(request["counts"]).write_text(json.dumps({"changes": count(), "cpu": seconds}))
    sys.stdout.flush()
    os._exit(code)


def serve(warming):
    """Run once, then answer requests until there are no more."""
    assert main(warming) == 0
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            run(request)
        answer({"pid": child})
        answer({"status": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])})


def answer(content):
    ANSWERS.write(json.dumps(content) + "\n")
    ANSWERS.flush()


if __name__ == "__main__":
    ANSWERS = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the warming run prints is no answer
    serve(sys.argv[1:])
