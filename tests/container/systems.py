"""Small Debian systems, made from Debian's own archive where no registry can be reached."""

from pathlib import Path

from tests.container.commands import STRANGER, call

UNSEEN = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*")
# An archive's mirror may lag behind the date until which its lists are valid.
APT_OPTIONS = ('Acquire::Check-Valid-Until "false"', 'APT::Install-Recommends "false"')
ENTER = Path(__file__).with_name("enter_system.sh")


def bootstrap(suite: str, target: Path, variant: str, *options: str) -> None:
    """Make a Debian system without manuals and translations, as a folder or, by the name of `target`, as a tar file."""
    call(
        "mmdebstrap",
        "--mode=root",
        f"--variant={variant}",
        *(f"--aptopt={option}" for option in APT_OPTIONS),
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in UNSEEN),
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        *options,
        suite,
        target,
    )


def make_base(target: Path) -> None:
    """Make a tar file of what `debian:bookworm-slim` has: the essential packages and apt."""
    clean = 'rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin "$1"/var/log/*'
    bootstrap("bookworm", target, "minbase", f"--customize-hook={clean}")


def make_apptainer_system(target: Path) -> None:
    """Make a system with Apptainer, which Debian has in its unstable suite alone, and a user of no privilege."""
    packages = "apptainer,ca-certificates,fuse3,mount,squashfs-tools,squashfuse,uidmap"
    bootstrap("sid", target, "apt", f"--include={packages}")
    (target / "etc" / "hosts").write_text("127.0.0.1 localhost\n")
    for name, line in (
        ("passwd", f"tester:x:{STRANGER}:{STRANGER}::/job/home:/bin/bash"),
        ("group", f"tester:x:{STRANGER}:"),
    ):
        with (target / "etc" / name).open("a") as table:
            table.write(f"{line}\n")
    localtime = target / "etc" / "localtime"
    localtime.unlink(missing_ok=True)
    localtime.write_bytes(b"")


class ApptainerSystem:
    """A Debian system whose unprivileged user runs Apptainer; `work` is seen there as /job."""

    def __init__(self, system: Path, work: Path) -> None:
        self._system, self._work = system, work

    def call(self, *command, folder="/job", environment=()) -> str:
        """Run a command as the unprivileged user, in a folder of that system, with the variables named and no others."""
        variables = [f"{name}={value}" for name, value in dict(environment).items()]
        return call("bash", ENTER, self._system, self._work, STRANGER, folder, *variables, *command)
