"""How the results of a run overlap: corrections of a contrast, contrasts of a node, a contrast in several nodes.

Of every result its survivors are kept, packed, until all nodes are analysed.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bids_group.inputs.nifti import Grid
from bids_group.outputs.naming import ModelNames
from bids_group.outputs.results import ContrastResult, InferenceResult, ModelResult, rank_headline
from bids_group.stats.glm import compute_z
from bids_group.stats.overlap import Survivors, correlate, count_bits, count_overlap, pack_mask, pack_survivors

COLUMNS = (
    *("comparison", "contrast", "correction", "other_node", "other_contrast", "other_correction"),
    *("n_voxels", "n_other_voxels", "n_both", "n_only", "n_only_other", "n_opposite", "dice"),
    *("n_voxels_compared", "correlation", "figure", "note"),
)
COLUMN_TEXTS = {
    "comparison": "What is compared: corrections of one contrast, contrasts of one node, or one contrast in two nodes",
    "contrast": "Label of the contrast",
    "correction": "Label of its correction",
    "other_node": "The node of the other contrast; n/a where it is this one",
    "other_contrast": "Label of the other contrast",
    "other_correction": "Label of its correction",
    "n_voxels": "Survivors, among the voxels compared",
    "n_other_voxels": "Survivors of the other, among the voxels compared",
    "n_both": "Voxels that survive in both",
    "n_only": "Voxels that survive here only",
    "n_only_other": "Voxels that survive in the other only",
    "n_opposite": "Voxels that survive in both with different signs; n/a where one has no sign (F)",
    "dice": "2 n_both / (n_voxels + n_other_voxels); n/a where nothing survives in either",
    "n_voxels_compared": "Voxels that both analysed",
    "correlation": "Pearson's correlation of the z maps over the voxels compared; between nodes, of the same test",
    "figure": "Both maps in the same slices; stands in the folder of the first of the two nodes",
    "note": "What is not the same in both, or why they are not compared",
}


@dataclass(frozen=True)
class KeptInference:
    """What is kept of one correction: its survivors, and what was asked for."""

    label: str
    alpha: float
    tail: str | None
    rank: int
    survivors: Survivors


@dataclass(frozen=True)
class KeptContrast:
    """What is kept of one contrast or conjunction; `z` only where another node has the same label."""

    label: str
    test: str
    is_conjunction: bool
    inferences: tuple[KeptInference, ...]
    z: NDArray[np.float32] | None


@dataclass(frozen=True)
class KeptModel:
    """What is kept of one model when its maps have been written.

    Attributes
    ----------
    node : str
    names : ModelNames
    grid : Grid
    mask : ndarray of uint8
        The analysed voxels of the grid, packed.
    contrasts : tuple of KeptContrast
        The contrasts, then the conjunctions.
    """

    node: str
    names: ModelNames
    grid: Grid
    mask: NDArray[np.uint8]
    contrasts: tuple[KeptContrast, ...]

    def unpack_mask(self) -> NDArray[np.bool_]:
        """Return the analysed voxels, shape (x, y, z)."""
        n_voxels = int(np.prod(self.grid.shape))
        return np.unpackbits(self.mask, count=n_voxels).astype(bool).reshape(self.grid.shape)


@dataclass(frozen=True)
class Pair:
    """A contrast in two nodes, with what both correct in the same way."""

    first: tuple[KeptModel, KeptContrast]
    second: tuple[KeptModel, KeptContrast]

    @property
    def figure(self) -> str | None:
        """Return the name of its figure in the folder of the first node; None where there is none."""
        (model, contrast), (other, _) = self.first, self.second
        if model.grid.differs_from(other.grid) or not self.is_of_one_test:
            return None
        return model.names.comparison_figure(contrast.label, other.node)

    @property
    def is_of_one_test(self) -> bool:
        """Return whether both have a sign, or both have none."""
        return self.first[1].test == self.second[1].test

    def swap(self) -> "Pair":
        """Return the pair seen from the other node."""
        return Pair(self.second, self.first)


def find_shared_labels(labels: Iterable[Iterable[str]]) -> frozenset[str]:
    """Return the labels that more than one node has.

    Parameters
    ----------
    labels : iterable of iterable of str
        Of the contrasts and conjunctions of each node.
    """
    counts = Counter(label for of_node in labels for label in set(of_node))
    return frozenset(label for label, count in counts.items() if count > 1)


def keep_model(model: ModelResult, shared: frozenset[str]) -> KeptModel:
    """Keep of a model what it is compared by.

    Parameters
    ----------
    model : ModelResult
    shared : frozenset of str
        Labels that other nodes have as well.
    """
    return KeptModel(
        model.node.name,
        model.names,
        model.voxels.grid,
        pack_mask(model.voxels.mask),
        tuple(_keep_contrast(result, model.voxels.mask, shared) for result in model.results),
    )


def _keep_contrast(result: ContrastResult, mask: NDArray[np.bool_], shared: frozenset[str]) -> KeptContrast:
    label = result.contrast.label
    z = compute_z(result.statistic).astype(np.float32) if label in shared else None
    kept = tuple(_keep_inference(entry, result, mask) for entry in result.inferences)
    return KeptContrast(label, result.contrast.test, bool(result.conjoined), kept, z)


def _keep_inference(entry: InferenceResult, result: ContrastResult, mask: NDArray[np.bool_]) -> KeptInference:
    found = entry.inference
    survivors = pack_survivors(found.survives, result.statistic.value, mask)
    return KeptInference(entry.label, found.alpha, found.tail, rank_headline(found), survivors)


def list_pairs(nodes: Sequence[Sequence[KeptModel]]) -> list[Pair]:
    """Return every contrast and conjunction that two nodes have, the earlier node first."""
    return [
        Pair((model, contrast), (other_model, other))
        for first, second in combinations(nodes, 2)
        for model, other_model in product(first, second)
        for contrast, other in product(model.contrasts, other_model.contrasts)
        if contrast.label == other.label
    ]


def list_comparisons(models: Sequence[KeptModel], pairs: Sequence[Pair]) -> pd.DataFrame:
    """List how the results of a node overlap with each other, and with those of the same contrasts in other nodes.

    Parameters
    ----------
    models : sequence of KeptModel
        Of the node.
    pairs : sequence of Pair
        Of all nodes.

    Returns
    -------
    DataFrame
        The columns of `COLUMN_TEXTS`; missing values are None.
    """
    lines = [line for model in models for contrast in model.contrasts for line in _compare_corrections(model, contrast)]
    tested = [(model, contrast) for model in models for contrast in model.contrasts if not contrast.is_conjunction]
    for first, second in combinations(tested, 2):
        lines += _compare_contrasts("contrasts", first, second)
    for pair in pairs:
        for one, figure in ((pair, pair.figure), (pair.swap(), None)):
            if any(one.first[0] is model for model in models):
                lines += _compare_nodes(one, figure)
    return pd.DataFrame(lines, columns=list(COLUMNS), dtype=object)


_Tested = tuple[KeptModel, KeptContrast]


def _compare_corrections(model: KeptModel, contrast: KeptContrast) -> Iterator[dict[str, object]]:
    for one, other in combinations(contrast.inferences, 2):
        yield {
            "comparison": "corrections",
            "contrast": contrast.label,
            "correction": one.label,
            "other_contrast": contrast.label,
            "other_correction": other.label,
            **_count(one, other, model.mask, has_sign=contrast.test != "F"),
        }


def _compare_contrasts(kind: str, first: _Tested, second: _Tested) -> list[dict[str, object]]:
    """Compare two contrasts correction by correction."""
    (model, contrast), (other_model, other) = first, second
    names = {"comparison": kind, "contrast": contrast.label, "other_contrast": other.label}
    if model.grid.differs_from(other_model.grid):
        return [{**names, "note": "not compared: the maps are on different grids"}]
    common, has_sign = model.mask & other_model.mask, "F" not in (contrast.test, other.test)
    return [
        {
            **names,
            "correction": one.label,
            "other_correction": two.label,
            **_count(one, two, common, has_sign=has_sign),
            "note": _note_differences(one, two),
        }
        for one, two in _match_corrections(contrast, other)
    ]


def _compare_nodes(pair: Pair, figure: str | None) -> list[dict[str, object]]:
    other = pair.second[0]
    lines = _compare_contrasts("nodes", pair.first, pair.second)
    if not lines:
        names = {"comparison": "nodes", "contrast": pair.first[1].label, "other_contrast": pair.second[1].label}
        n_compared = count_bits(pair.first[0].mask & other.mask)
        lines = [{**names, "n_voxels_compared": n_compared, "note": "no correction in common"}]
    correlation = _correlate(pair)
    return [{**line, "other_node": other.node, "correlation": correlation, "figure": figure} for line in lines]


def _correlate(pair: Pair) -> float | None:
    """Correlate the z maps of both nodes; None where the tests or the grids differ."""
    (model, contrast), (other_model, other) = pair.first, pair.second
    if contrast.z is None or other.z is None or pair.figure is None:
        return None
    mask, other_mask = model.unpack_mask(), other_model.unpack_mask()
    return correlate(contrast.z[other_mask[mask]], other.z[mask[other_mask]])


def _match_corrections(contrast: KeptContrast, other: KeptContrast) -> list[tuple[KeptInference, KeptInference]]:
    others = {two.label: two for two in other.inferences}
    return [(one, others[one.label]) for one in contrast.inferences if one.label in others]


def _count(one: KeptInference, other: KeptInference, common: NDArray[np.uint8], *, has_sign: bool) -> dict[str, object]:
    found = count_overlap(one.survivors, other.survivors, common)
    return {
        "n_voxels": found.n_first,
        "n_other_voxels": found.n_second,
        "n_both": found.n_both,
        "n_only": found.n_first - found.n_both,
        "n_only_other": found.n_second - found.n_both,
        "n_opposite": found.n_opposite if has_sign else None,
        "dice": found.dice,
        "n_voxels_compared": count_bits(common),
    }


def _note_differences(one: KeptInference, other: KeptInference) -> str | None:
    """Say what two corrections were asked for differently."""
    notes = []
    if one.alpha != other.alpha:
        notes.append(f"alpha {one.alpha:g} against {other.alpha:g}")
    if None not in (one.tail, other.tail) and one.tail != other.tail:
        notes.append(f"{one.tail} against {other.tail}")
    return "; ".join(notes) or None


def choose_shown(pair: Pair) -> tuple[KeptInference, KeptInference] | None:
    """Return the strictest correction that both nodes have and in which anything survives; None without any."""
    matched = _match_corrections(pair.first[1], pair.second[1])
    found = [both for both in matched if any(count_bits(one.survivors.any_sign) for one in both)]
    return min(found, key=lambda both: both[0].rank, default=None)
