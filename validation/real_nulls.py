"""False positives on real maps whose null hypothesis is made true: random sign flips, random groups.

    python -m validation.real_nulls DIR [DIR ...] [--datasets 500] [--radius 30] [--processes 2]

DIR is a BIDS derivative of effect maps; of several contrasts the first is taken. Flipping the signs of whole maps at
random makes their mean 0 whatever they show, and groups drawn at random do not differ; the spread over subjects, its
shape, and its smoothness stay what they are. The maps are searched within a sphere, so that many datasets are quick.
The table is validation/results/real_nulls.tsv.
"""

import argparse
import json
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from threadpoolctl import threadpool_limits

from bids_group.analysis.model import load_maps
from bids_group.inputs.loading import GroupData
from bids_group.inputs.plan import NodePlan, plan_node
from bids_group.inputs.query import InputTable
from bids_group.inputs.spec import parse_spec
from bids_group.inputs.study import InputOptions, prepare_study
from bids_group.outputs.results import InferenceResult
from tests.builders import make_participants
from validation.rates import RESULTS
from validation.scenarios import BONFERRONI, EXTENT, FDR, MASS, RFT, TFCE, VOXEL
from validation.simulate import ALPHA, PERMUTATION_LEVELS, allocate, analyse, make_resources, name_level, reseed

TABLE = RESULTS / "real_nulls.tsv"
CENTRE = (0.0, -20.0, 20.0)  # mm: about the middle of the brain
LEVELS = (VOXEL, EXTENT, MASS, TFCE, BONFERRONI, RFT, FDR)
N_PERMUTATIONS, N_BINS = 200, 20
BLOCK = 25
CONTRASTS = {
    "flips": {"Name": "tested", "Test": "t", "ConditionList": [1], "Weights": [1]},
    "groups": {"Name": "tested", "Test": "t", "ConditionList": ["group[a]", "group[b]"], "Weights": [1, -1]},
}
COLUMNS = {"flips": [1], "groups": ["group"]}


def write_spec(scheme: str) -> dict[str, Any]:
    """Write the spec of a scheme, as a user would."""
    inference = [{"Correction": "permutation", "Permutations": N_PERMUTATIONS, "Levels": list(PERMUTATION_LEVELS)}]
    inference += [{"Correction": correction} for correction in (BONFERRONI, FDR, RFT)]
    own = {"Inference": [{**entry, "Alpha": ALPHA} for entry in inference]}
    model = {"Type": "glm", "X": COLUMNS[scheme], "Software": {"bids_group": own}}
    node = {"Level": "Dataset", "Name": "node", "GroupBy": [], "Model": model, "Contrasts": [CONTRASTS[scheme]]}
    return {"Name": "real", "BIDSModelVersion": "1.0.0", "Nodes": [node]}


def load_real(folder: Path, radius: float) -> tuple[str, pd.DataFrame, GroupData]:
    """Read the maps of the first contrast of a dataset, within a sphere.

    Parameters
    ----------
    folder : Path
    radius : float
        In mm.

    Returns
    -------
    name : str
        Of the dataset.
    rows : DataFrame
        One for each map.
    data : GroupData
    """
    with tempfile.TemporaryDirectory() as output:
        study = prepare_study(InputOptions(folder, None), Path(output))
    (node,) = study.nodes
    model, grid = node.plan.models[0], node.grids[0]
    data = load_maps(node.plan, model, grid, (), allocate=allocate, n_threads=1, report_progress=lambda: None)
    place = np.indices(grid.shape).reshape(3, -1)
    distance = np.linalg.norm((grid.affine[:3, :3] @ place).T + grid.affine[:3, 3] - CENTRE, axis=1)
    mask = data.voxels.mask & (distance.reshape(grid.shape) <= radius)
    voxels = replace(data.voxels, mask=mask)
    name = json.loads((folder / "dataset_description.json").read_text())["Name"]
    return name, model.rows, GroupData(data.effects[:, mask[data.voxels.mask]], voxels)


def plan_groups(rows: pd.DataFrame, scheme: str, rng: np.random.Generator) -> NodePlan:
    """Plan a scheme's design, the subjects in two groups drawn at random."""
    subjects = list(rows["subject"])
    groups = rng.permutation(np.array(list("ab") * len(subjects))[: len(subjects)])
    node = parse_spec(write_spec(scheme), Path("real")).nodes[0]
    return plan_node(node, InputTable(rows, rows.iloc[:0]), make_participants(subjects, group=groups))


def compute_block(rows: pd.DataFrame, data: GroupData, scheme: str, block: int) -> dict[str, NDArray[np.int64]]:
    """Make some null datasets of real maps, and count familywise p in twenty bins, level by level.

    Returns
    -------
    dict of str to ndarray of int64, shape (n_bins,)
        Datasets by their smallest corrected p; those of at most alpha are false positives.
    """
    rng = np.random.default_rng([list(CONTRASTS).index(scheme), block])
    counts = {level: np.zeros(N_BINS, np.int64) for level in LEVELS}
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        resources = make_resources(Path(folder))
        for number in range(BLOCK):
            plan = reseed(plan_groups(rows, scheme, rng), block * BLOCK + number)
            signs = rng.choice([-1.0, 1.0], len(rows)) if scheme == "flips" else np.ones(len(rows))
            flipped = GroupData((data.effects * signs[:, np.newaxis]).astype(np.float32), data.voxels)
            _, _, results = analyse(plan, flipped, resources)
            for result in results:
                if name_level(result.inference) in counts:
                    counts[name_level(result.inference)][find_bin(result)] += 1
    return counts


def find_bin(result: InferenceResult) -> int:
    """Return which twentieth the smallest corrected p lies in; each holds its upper end."""
    p = 10.0 ** -float(result.inference.logp.max())
    return int(np.clip(np.ceil(p * N_BINS - 1e-9) - 1, 0, N_BINS - 1))


def count_false(row: pd.Series) -> pd.Series:
    """Return a row of the table as `validation.judging.judge` reads it."""
    return pd.Series({"level": row["level"], "n_datasets": row["n_datasets"], "n_false": row[list_bins()[0]]})


def measure_uniformity(row: pd.Series) -> float:
    """Return the p of a chi-squared test that familywise p are uniform."""
    return float(stats.chisquare(row[list_bins()].to_numpy(np.float64)).pvalue)


def list_bins() -> list[str]:
    """Return the columns of the table that count familywise p."""
    return [f"p{number:02d}" for number in range(1, N_BINS + 1)]


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--datasets", type=int, default=500)
    parser.add_argument("--radius", type=float, default=30.0)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    tables = []
    for folder in options.folders:
        name, maps, data = load_real(folder, options.radius)
        for scheme in CONTRASTS:
            with ProcessPoolExecutor(options.processes) as pool:
                blocks = list(
                    pool.map(partial(compute_block, maps, data, scheme), range(-(-options.datasets // BLOCK)))
                )
            for level in LEVELS:
                counts = np.sum([block[level] for block in blocks], axis=0)
                bins = dict(zip(list_bins(), counts, strict=True))
                tables.append(
                    {
                        "dataset": name,
                        "n_subjects": len(maps),
                        "n_voxels": int(data.voxels.mask.sum()),
                        "scheme": scheme,
                        "level": level,
                        "n_datasets": int(counts.sum()),
                        **bins,
                    }
                )
            print(f"{name}, {scheme}: done", flush=True)
    RESULTS.mkdir(exist_ok=True)
    pd.DataFrame(tables).to_csv(TABLE, sep="\t", index=False, lineterminator="\n")


if __name__ == "__main__":
    main()
