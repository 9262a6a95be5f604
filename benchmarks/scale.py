"""Measure how time and memory grow with maps and voxels, and print a table for benchmarks/README.md.

    python -m benchmarks.scale                     16 to 4,000 maps at 3 mm and 2 mm
    python -m benchmarks.scale --most-maps 250     fewer
    python -m benchmarks.scale --mem-gb 2          arrays in files where they do not fit

Every study runs in a process of its own. The table is written to benchmarks/scratch/scale.md too.
"""

import argparse
import json
import sys
from collections.abc import Sequence

from benchmarks.measure import measure
from benchmarks.permutation import describe_load
from benchmarks.run import CHECKOUT, SCRATCH, describe_machine, format_table

N_MAPS = (16, 64, 250, 1000, 4000)
BOXES = {"3 mm": (38, 46, 40), "2 mm": (46, 50, 100)}  # 70,000 and 230,000 voxels: those of a brain
STAGES = ("read", "fit", "prepare", "permute")
OPERATIONS = 2e12  # of all matrix products of a study, so that each takes about as long
FEWEST, MOST = 192, 9600  # permutations


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what was asked for and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description="Measure how studies scale.")
    parser.add_argument("--most-maps", type=int, default=max(N_MAPS), help="leave larger studies out")
    parser.add_argument("--mem-gb", type=float, default=0.0, help="bound of memory for arrays (default: none)")
    asked = parser.parse_args(arguments)
    SCRATCH.mkdir(exist_ok=True)
    bound = f"memory bounded by {asked.mem_gb:g} GB" if asked.mem_gb else "memory not bounded"
    title = f"{describe_machine()}; {bound}; {describe_load()}."
    rows = [
        measure_study(n_maps, size, asked.mem_gb) for size in BOXES for n_maps in N_MAPS if n_maps <= asked.most_maps
    ]
    header = [
        "maps",
        "voxels",
        "data GB",
        "permutations",
        "ms each",
        "GFLOP/s",
        *(f"{stage} {unit}" for unit, some in (("s", STAGES[:-1]), ("MiB", STAGES)) for stage in some),
        "peak MiB",
    ]
    text = "\n".join([title, "", *format_table(header, rows)]) + "\n"
    (SCRATCH / "scale.md").write_text(text, encoding="utf-8")
    print(text, end="")


def measure_study(n_maps: int, size: str, memory_gb: float) -> list[str]:
    """Run one study and return its row.

    GFLOP/s are those of the matrix products, ``2 n V`` operations a permutation, over all the time that it takes.
    """
    box = BOXES[size]
    n_voxels = box[0] * box[1] * box[2]
    operations = 2.0 * n_maps * n_voxels
    n = int(min(max(OPERATIONS / operations, FEWEST), MOST))
    command = [sys.executable, "-m", "benchmarks.run_scale", *map(str, (n_maps, *box, n, memory_gb))]
    used = measure(command, directory=CHECKOUT, log=SCRATCH / "run_scale.log")
    found = json.loads(used.output.splitlines()[-1])
    seconds = found["seconds"]
    each = seconds["permute"] / n
    return [
        *(f"{n_maps:,}", f"{n_voxels:,} ({size})", f"{4e-9 * n_maps * n_voxels:.2f}"),
        *(f"{n:,}", f"{1000 * each:.3f}", f"{1e-9 * operations / each:.0f}"),
        *(f"{seconds[stage]:.2f}" for stage in STAGES[:-1]),
        *(f"{found['mib'][stage]:.0f}" for stage in STAGES),
        f"{used.peak_mib:.0f}",
    ]


if __name__ == "__main__":
    main()
