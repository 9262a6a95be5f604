"""Measure the permutation engine, and its peers on the same contrast, and print the tables of benchmarks/README.md.

    python -m benchmarks.permutation [nilearn prism mrtrix]     all that are installed if none is named
    python -m benchmarks.permutation --large                    instead, 1,000 maps of 230,000 voxels, the engine alone

Everything is written under benchmarks/scratch, the tables as permutation.md.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.measure import measure
from benchmarks.run import CHECKOUT, REPEATS, SCRATCH, describe_machine, format_table, run_module

LEVELS = {
    "voxel": "voxel",
    "clusters": "voxel, extent and mass",
    "tfce6": "voxel, extent, mass and TFCE, 6 neighbours",
    "tfce26": "voxel, extent, mass and TFCE, 26 neighbours",
}
N_FEWEST = 2  # permutations of a peer's shorter run, as in benchmarks/permutation_study.py, which imports too much
PEERS_PYTHON = SCRATCH / "peers" / "bin" / "python"
LARGE_PERMUTATIONS = 960
OUR_STEPS = ("plan", "prepare", "permute")


@dataclass(frozen=True)
class Contestant:
    """A program with the permutations that it is asked for at each level that it has, so that a run takes seconds.

    Attributes
    ----------
    name : str
    permutations : mapping of str to int
    executable : str or None
        Without which it cannot run.
    python : str
        The interpreter that runs it.
    """

    name: str
    permutations: Mapping[str, int]
    executable: str | None = None
    python: str = sys.executable

    @property
    def is_installed(self) -> bool:
        """Tell whether it can run here."""
        return self.executable is None or shutil.which(self.executable) is not None


@dataclass(frozen=True)
class Outcome:
    """What a contestant took at one level.

    Attributes
    ----------
    n : int
        Permutations.
    milliseconds : float
        For each of them.
    seconds : dict of str to float
        By step, the fastest of several runs.
    peak_mib : float
    """

    n: int
    milliseconds: float
    seconds: dict[str, float]
    peak_mib: float


OURS = Contestant("bids_group", {"voxel": 10_000, "clusters": 10_000, "tfce6": 2_000, "tfce26": 2_000})
PEERS = {
    "nilearn": Contestant("nilearn", {"voxel": 200, "clusters": 100, "tfce6": 12}),
    "prism": Contestant("prism-neuro", {"voxel": 100, "tfce6": 12}, str(PEERS_PYTHON), str(PEERS_PYTHON)),
    "mrtrix": Contestant("MRtrix3", {"clusters": 22, "tfce6": 22, "tfce26": 22}, "mrclusterstats"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what was asked for and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.permutation", description="Measure permutation tests.")
    parser.add_argument("peers", nargs="*", help=f"some of {', '.join(PEERS)}; all that are installed if none is named")
    parser.add_argument("--repeats", type=int, default=REPEATS, help=f"the fastest counts (default {REPEATS})")
    parser.add_argument("--large", action="store_true", help="1,000 maps of 230,000 voxels, the engine alone")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.peers) - set(PEERS):
        parser.error(f"no peer is called {', '.join(sorted(unknown))}: there are {', '.join(PEERS)}")
    SCRATCH.mkdir(exist_ok=True)
    if asked.large:
        lines = measure_large(asked.repeats)
    else:
        maps = run_module("study").output.strip()
        lines = [f"{maps}; {describe_machine()}; fastest of {asked.repeats}; {describe_load()}.", ""]
        lines += measure_all(asked.peers or [peer for peer in PEERS if PEERS[peer].is_installed], asked.repeats)
        lines += ["", *(f"{PEERS[peer].name} is not installed." for peer in PEERS if not PEERS[peer].is_installed)]
    text = "\n".join(lines).rstrip() + "\n"
    (SCRATCH / ("permutation-large.md" if asked.large else "permutation.md")).write_text(text, encoding="utf-8")
    print(text, end="")


def describe_load() -> str:
    """Return how busy the machine was before."""
    return f"load average before the runs {os.getloadavg()[0]:.1f}"


def measure_all(peers: Sequence[str], repeats: int) -> list[str]:
    """Run every contestant at every level and return the tables.

    Parameters
    ----------
    peers : sequence of str
    repeats : int

    Returns
    -------
    list of str
        Lines of Markdown.
    """
    ours: dict[str, Outcome] = {}
    rows = []
    for level, title in LEVELS.items():
        ours[level] = measure_ours(level, OURS.permutations[level], repeats)
        if level == "voxel":
            rows.append(["matrix product alone", "", "", f"{1000 * ours[level].seconds['floor']:.3f}", "", ""])
        rows.append(format_outcome(title, OURS.name, ours[level], ours[level]))
        for peer in peers:
            if level in PEERS[peer].permutations:
                rows.append(format_outcome(title, PEERS[peer].name, measure_peer(peer, level, repeats), ours[level]))
    header = ["null distribution of", "program", "permutations", "ms each", "ratio", "peak MiB"]
    steps = [
        [LEVELS[level], *(f"{outcome.seconds[step]:.2f}" for step in (*OUR_STEPS, "compile"))]
        for level, outcome in ours.items()
    ]
    return [
        *format_table(header, rows),
        "",
        *format_table(["bids_group", "plan s", "prepare s", "permute s", "numba compiles s"], steps),
        "",
        *compare_with_ours(peers),
    ]


def measure_ours(level: str, n: int, repeats: int) -> Outcome:
    """Run the engine; what a permutation takes is all it did over their number, compilation left out."""
    seconds, peak_mib = run_repeatedly("ours", sys.executable, level, n, repeats)
    return Outcome(n, 1000 * sum(seconds[step] for step in OUR_STEPS) / n, seconds, peak_mib)


def measure_peer(peer: str, level: str, repeats: int) -> Outcome:
    """Run a peer; what a permutation takes is the difference of two runs, so that nothing done once counts."""
    n = PEERS[peer].permutations[level]
    seconds, peak_mib = run_repeatedly(peer, PEERS[peer].python, level, n, repeats)
    return Outcome(n, 1000 * (seconds["all"] - seconds["fewest"]) / (n - N_FEWEST), seconds, peak_mib)


def run_repeatedly(module: str, python: str, level: str, n: int, repeats: int) -> tuple[dict[str, float], float]:
    """Run a contestant several times, each in a fresh process.

    Parameters
    ----------
    module : str
        benchmarks.run_permutation_MODULE.
    python : str
    level : str
    n : int
        Permutations.
    repeats : int

    Returns
    -------
    seconds : dict of str to float
        Of each step the fewest: a difference of two steps of one run may be too small when the other was disturbed.
    peak_mib : float
        The largest.
    """
    name = f"run_permutation_{module}"
    command = [python, "-m", f"benchmarks.{name}", str(SCRATCH / f"{name}.npz"), level, str(n)]
    runs = [measure(command, directory=CHECKOUT, log=SCRATCH / f"{name}.log") for _ in range(repeats)]
    steps = [json.loads(used.output.splitlines()[-1]) for used in runs]
    return {step: min(run[step] for run in steps) for step in steps[0]}, max(used.peak_mib for used in runs)


def format_outcome(title: str, program: str, outcome: Outcome, ours: Outcome) -> list[str]:
    """Return a contestant's row."""
    ratio = outcome.milliseconds / ours.milliseconds
    times = [f"{outcome.milliseconds:.3g}", "" if outcome is ours else f"{ratio:.0f}"]
    return [title, program, f"{outcome.n:,}", *times, f"{outcome.peak_mib:.0f}"]


def compare_with_ours(peers: Sequence[str]) -> list[str]:
    """Return, as lines of Markdown, by how much the peers' t of the unpermuted maps differ from ours."""
    import numpy as np  # late, so that this process is small while it measures

    loaded = {}
    for module in ("ours", *peers):
        with np.load(SCRATCH / f"run_permutation_{module}.npz") as found:
            (loaded[module],) = found.values()
    ours = loaded.pop("ours")
    rows = [[PEERS[peer].name, f"{np.abs(t).max():.3f}", f"{np.abs(t - ours).max():.1e}"] for peer, t in loaded.items()]
    return format_table(["program", "largest t", "largest difference from ours"], rows)


def measure_large(repeats: int) -> list[str]:
    """Run the engine on 1,000 maps of noise of 230,000 voxels in two groups and return a table."""
    outcome = measure_ours("large", LARGE_PERMUTATIONS, repeats)
    times = [f"{1000 * outcome.seconds['floor']:.2f}", f"{outcome.milliseconds:.2f}"]
    row = [f"{outcome.n}", f"{outcome.seconds['prepare']:.1f}", *times, f"{outcome.peak_mib:.0f}"]
    header = ["permutations", "prepare s", "matrix product alone, ms each", "ms each", "peak MiB"]
    return [f"1,000 maps of 230,000 voxels; {describe_machine()}; {describe_load()}.", "", *format_table(header, [row])]


if __name__ == "__main__":
    main()
