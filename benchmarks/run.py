"""Measure the app, and its peers on the same maps, and print the tables of benchmarks/README.md.

    python -m benchmarks.run [app] [peers]      both if none is named

Everything is written under benchmarks/scratch, the tables as results.md.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.measure import Usage, measure

CHECKOUT = Path(__file__).parents[1]
SCRATCH = CHECKOUT / "benchmarks" / "scratch"
MODEL = CHECKOUT / "examples" / "faces_smdl.json"
PROVENANCE, REPORT = Path("logs") / "model-faces_provenance.json", "model-faces_report.html"
STEPS = ("read", "fit", "contrasts")
REPEATS = 3  # the fastest counts: whatever else the machine does only ever adds


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what was asked for and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description="Measure speed and memory.")
    parser.add_argument("parts", nargs="*", help="app, peers or both (default)")
    parser.add_argument("--repeats", type=int, default=REPEATS, help=f"the fastest counts (default {REPEATS})")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}: there are app and peers")
    SCRATCH.mkdir(exist_ok=True)
    # In a process of its own, so that this one stays small; see benchmarks/measure.py.
    maps = run_module("study").output.strip()
    lines = [f"{maps}; {describe_machine()}; fastest of {asked.repeats}."]
    for part in asked.parts or PARTS:
        lines += ["", *PARTS[part](asked.repeats)]
    text = "\n".join(lines) + "\n"
    (SCRATCH / "results.md").write_text(text, encoding="utf-8")
    print(text, end="")


def describe_machine() -> str:
    """Return what a time depends on."""
    python = ".".join(map(str, sys.version_info[:3]))
    libraries = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy", "nilearn"))
    return f"{os.cpu_count()} cores; Python {python}, {libraries}"


def run_module(name: str, *arguments: str) -> Usage:
    """Run a module of this folder and measure it."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    return measure(command, directory=CHECKOUT, log=SCRATCH / f"{name}.log")


def measure_app(repeats: int) -> list[str]:
    """Run the whole app on the demo, and each of its nodes alone, and return what they took, stage by stage.

    Parameters
    ----------
    repeats : int

    Returns
    -------
    list of str
        Lines of Markdown.
    """
    best = {name: measure_model(model, repeats) for name, model in write_models().items()}
    usage = [
        [name, f"{used.wall:.1f}", f"{used.user:.1f}", f"{used.system:.1f}", f"{used.peak_mib:.0f}", f"{size:.1f}"]
        for name, (used, _, size) in best.items()
    ]
    # What no stage accounts for: starting Python, imports, leaving.
    outside = {"outside the stages": [used.wall - sum(stages.values()) for used, stages, _ in best.values()]}
    every = dict.fromkeys(stage for _, stages, _ in best.values() for stage in stages)
    seconds = {stage: [stages.get(stage, 0.0) for _, stages, _ in best.values()] for stage in every} | outside
    return [
        "## The whole app",
        "",
        *format_table(["nodes", "wall s", "user s", "system s", "peak MiB", "report MB"], usage),
        "",
        *format_table(
            ["seconds", *best], ([stage, *(f"{value:.2f}" for value in own)] for stage, own in seconds.items())
        ),
    ]


def write_models() -> dict[str, Path]:
    """Return the demo's model, and one for each of its nodes alone."""
    document = json.loads(MODEL.read_text(encoding="utf-8"))
    models = {"all": MODEL}
    for node in document["Nodes"]:
        models[node["Name"]] = SCRATCH / f"{node['Name']}_smdl.json"
        models[node["Name"]].write_text(json.dumps({**document, "Nodes": [node]}), encoding="utf-8")
    return models


def measure_model(model: Path, repeats: int) -> tuple[Usage, dict[str, float], float]:
    """Return what the fastest run of a model took, the seconds of its stages, and the MB of its report."""
    output = SCRATCH / "app"
    command = [sys.executable, "run.py", str(SCRATCH / "demo"), str(output), "group", "--model", str(model)]
    runs = []
    for _ in range(repeats):
        shutil.rmtree(output, ignore_errors=True)
        used = measure(command, directory=CHECKOUT, log=SCRATCH / "app.log")
        stages = json.loads((output / PROVENANCE).read_text(encoding="utf-8"))["stages"]
        runs.append((used, stages, 1e-6 * (output / REPORT).stat().st_size))
    return min(runs, key=lambda run: run[0].wall)


def measure_peers(repeats: int) -> list[str]:
    """Run the app's functions and nilearn's on the same maps and return them side by side.

    Parameters
    ----------
    repeats : int

    Returns
    -------
    list of str
        Lines of Markdown.
    """
    contestants = {"run_ours": "bids_group", "run_nilearn": f"nilearn {version('nilearn')}"}
    best = {module: measure_contestant(module, repeats) for module in contestants}
    rows = [format_contestant(contestants[module], *best[module]) for module in contestants]
    (ours, our_usage), (theirs, their_usage) = best.values()
    ratio = sum(theirs.values()) / sum(ours.values())
    rows.append(["ratio", "", "", "", f"{ratio:.1f}", f"{their_usage.peak_mib / our_usage.peak_mib:.1f}"])
    return [
        "## Like for like: reading, fit, three contrasts",
        "",
        *format_table(["", *(f"{step} s" for step in STEPS), "sum s", "peak MiB"], rows),
        "",
        *compare_statistics(*contestants),
    ]


def measure_contestant(module: str, repeats: int) -> tuple[dict[str, float], Usage]:
    """Run a contestant and return the seconds of its steps, and its usage, in its fastest run."""
    runs = []
    for _ in range(repeats):
        used = run_module(module, str(SCRATCH / f"{module}.npz"))
        runs.append((json.loads(used.output.splitlines()[-1]), used))
    return min(runs, key=lambda run: sum(run[0].values()))


def compare_statistics(module: str, other: str) -> list[str]:
    """Return, as lines of Markdown, by how much two contestants' statistics differ."""
    import numpy as np  # late, so that this process is small while it measures

    with np.load(SCRATCH / f"{module}.npz") as one, np.load(SCRATCH / f"{other}.npz") as another:
        rows = [
            [name, f"{np.abs(one[name]).max():.3f}", f"{np.abs(one[name] - another[name]).max():.1e}"]
            for name in one.files
        ]
    return format_table(["contrast", "largest statistic", "largest difference"], rows)


def format_contestant(name: str, seconds: dict[str, float], used: Usage) -> list[str]:
    """Return a contestant's row; a program that has no such step does its work in another."""
    steps = [f"{seconds[step]:.2f}" if step in seconds else "-" for step in STEPS]
    return [name, *steps, f"{sum(seconds.values()):.2f}", f"{used.peak_mib:.0f}"]


def format_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


PARTS = {"app": measure_app, "peers": measure_peers}

if __name__ == "__main__":
    main()
