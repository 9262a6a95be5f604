"""False positives of every level under many designs and kinds of noise, over simulated datasets.

    python -m validation.rates [--datasets 1000] [--processes 2] [--scenarios NAME ...]

What was computed stands in validation/scratch, a file for each scenario and block of datasets; run again to go on. A
block depends on its number alone. The sums are written to validation/results/error_rates.tsv, of which
`python -m validation.report` makes docs/validation.md.
"""

import argparse
import json
import os
import tempfile
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from bids_group import __version__
from bids_group.checkpoints import digest
from validation.designs import DESIGNS
from validation.fields import find_signal
from validation.scenarios import SCENARIOS, Scenario
from validation.simulate import draw_data, find_survivors, make_resources, plan_scenario, reseed

FOLDER = Path(__file__).parent
SCRATCH, RESULTS = FOLDER / "scratch" / "error_rates", FOLDER / "results"
TABLE = RESULTS / "error_rates.tsv"
BLOCK = 50  # datasets of one draw of the covariates
BLOCKS_PER_ROUND = 5  # all scenarios have these before the first has more
SUMS = ("n_datasets", "n_false", "fdp", "fdp_squared", "found")


def compute_block(scenario: Scenario, block: int, n_datasets: int = BLOCK) -> dict[str, dict[str, float]]:
    """Simulate and analyse some datasets, and add up what each level finds.

    Parameters
    ----------
    scenario : Scenario
    block : int
        What the datasets depend on.
    n_datasets : int

    Returns
    -------
    dict of str to dict
        For each level: datasets, those with a false positive, sums of the false discovery proportion and of its square,
        and of the share of the voxels with an effect that were found.
    """
    rng = np.random.default_rng([zlib.crc32(scenario.name.encode()), block])
    plan = plan_scenario(scenario, rng)
    totals = {level: dict.fromkeys(SUMS, 0.0) for level in scenario.levels}
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        resources = make_resources(Path(folder))
        for number in range(n_datasets):
            data = draw_data(scenario, plan, rng)
            survivors = find_survivors(reseed(plan, block * BLOCK + number), data, resources)
            for level, sums in totals.items():
                _add(sums, survivors[level], scenario.signal)
    return totals


def _add(sums: dict[str, float], survives: NDArray[np.bool_], signal: float) -> None:
    has_effect = find_signal() if signal else np.zeros(len(survives), dtype=bool)
    n_false, n_found = int(np.sum(survives & ~has_effect)), int(np.sum(survives & has_effect))
    proportion = n_false / max(n_false + n_found, 1)
    sums["n_datasets"] += 1
    sums["n_false"] += n_false > 0
    sums["fdp"] += proportion
    sums["fdp_squared"] += proportion**2
    sums["found"] += n_found / has_effect.sum() if signal else 0.0


def name_block(scenario: Scenario, block: int, folder: Path = SCRATCH) -> Path:
    """Return the scratch file of a block: what is computed otherwise has another name, what is said so has not."""
    computed = replace(scenario, fails={}), replace(DESIGNS[scenario.design], title="")
    return folder / f"{scenario.name}-{digest(*computed, __version__)[:8]}-{block:04d}.json"


def _run_block(folder: Path, scenario: Scenario, block: int) -> str:
    path = name_block(scenario, block, folder)
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(compute_block(scenario, block)))
    unfinished.replace(path)
    return scenario.name


def list_blocks(scenarios: Sequence[Scenario], n_datasets: int, folder: Path = SCRATCH) -> list[tuple[Scenario, int]]:
    """List the blocks that are not done, a round of all scenarios at a time, the important ones first."""
    n_blocks = -(-n_datasets // BLOCK)
    all_blocks = [(scenario, block) for scenario in scenarios for block in range(n_blocks)]
    all_blocks.sort(key=lambda one: one[1] // BLOCKS_PER_ROUND)  # stable
    return [one for one in all_blocks if not name_block(*one, folder).exists()]


def merge(scenarios: Iterable[Scenario] = SCENARIOS, folder: Path = SCRATCH) -> pd.DataFrame:
    """Add up the blocks that are done: a row for each scenario and level."""
    rows: list[dict[str, Any]] = []
    for scenario in scenarios:
        parts = [
            json.loads(path.read_text()) for path in sorted(folder.glob(f"{name_block(scenario, 0).stem[:-4]}*.json"))
        ]
        for level in scenario.levels if parts else ():
            sums = {name: sum(part[level][name] for part in parts) for name in SUMS}
            rows.append({"scenario": scenario.name, "level": level, **sums})
    table = pd.DataFrame(rows, columns=["scenario", "level", *SUMS])
    return table.astype({"n_datasets": int, "n_false": int})


def main() -> None:
    """Compute what is not done yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--scenarios", nargs="+", choices=[one.name for one in SCENARIOS], metavar="NAME")
    options = parser.parse_args()
    chosen = [one for one in SCENARIOS if not options.scenarios or one.name in options.scenarios]
    SCRATCH.mkdir(parents=True, exist_ok=True)
    blocks = list_blocks(chosen, options.datasets)
    print(f"{len(blocks)} blocks of {BLOCK} datasets are to be done", flush=True)
    with ProcessPoolExecutor(options.processes) as pool:
        running = [pool.submit(partial(_run_block, SCRATCH), *one) for one in blocks]
        for number, future in enumerate(as_completed(running), start=1):
            print(f"{number}/{len(blocks)} {future.result()}", flush=True)
    write_table()


def write_table() -> None:
    """Write the sums of all that was done."""
    RESULTS.mkdir(exist_ok=True)
    merge().to_csv(TABLE, sep="\t", index=False, float_format="%.6g", lineterminator="\n")


if __name__ == "__main__":
    main()
