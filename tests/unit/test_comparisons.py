"""How results overlap: counts on packed bits against NumPy, and what is not compared."""

import numpy as np
import pytest

from bids_group.inputs.nifti import Grid
from bids_group.outputs.comparisons import (
    KeptContrast,
    KeptInference,
    KeptModel,
    choose_shown,
    find_shared_labels,
    list_comparisons,
    list_pairs,
)
from bids_group.outputs.naming import ModelNames
from bids_group.stats.overlap import correlate, count_overlap, pack_mask, pack_survivors

SHAPE = (5, 4, 3)
GRID = Grid(SHAPE, np.diag([3.0, 3.0, 3.0, 1.0]))
MOVED = Grid(SHAPE, np.diag([-3.0, 3.0, 3.0, 1.0]))


def draw(seed):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(SHAPE), rng.random(SHAPE) < 0.8


def keep(node, label="A", *, seed=0, cutoffs=(("bonferroni", 1.0),), grid=GRID, test="t", **asked):
    """Keep what a result is compared by; it survives beyond a cutoff."""
    values, mask = draw(seed)
    z = values[mask]
    inferences = tuple(
        KeptInference(
            correction, asked.get("alpha", 0.05), asked.get("tail"), rank, pack_survivors(np.abs(z) > cutoff, z, mask)
        )
        for rank, (correction, cutoff) in enumerate(cutoffs)
    )
    contrast = KeptContrast(label, test, is_conjunction=False, inferences=inferences, z=z.astype(np.float32))
    return KeptModel(node, ModelNames({"space": "T1w"}), grid, pack_mask(mask), (contrast,))


def compare(first, second):
    """Return the row of two nodes as the first has it."""
    (row,) = list_comparisons([first], list_pairs([[first], [second]])).to_dict("records")
    return row


def test_counts_are_those_of_numpy_within_the_voxels_that_both_have():
    (one, mask), (other, other_mask) = draw(0), draw(1)
    common = mask & other_mask
    first, second = (np.abs(one) > 0.5) & common, (np.abs(other) > 0.8) & common
    packed = [pack_survivors(np.abs(v[m]) > cut, v[m], m) for v, m, cut in ((one, mask, 0.5), (other, other_mask, 0.8))]
    found = count_overlap(*packed, pack_mask(common))
    assert (found.n_first, found.n_second, found.n_both) == (first.sum(), second.sum(), (first & second).sum())
    assert found.n_opposite == (first & second & (np.sign(one) != np.sign(other))).sum() > 0
    assert found.dice == 2 * (first & second).sum() / (first.sum() + second.sum())


def test_dice_of_nothing_is_not_a_number():
    nothing = pack_survivors(np.zeros(60, bool), np.ones(60), np.ones(SHAPE, bool))
    assert np.isnan(count_overlap(nothing, nothing, pack_mask(np.ones(SHAPE, bool))).dice)


@pytest.mark.parametrize("values", [[], [2.0], [2.0, 2.0, 2.0]])
def test_correlation_of_too_little_is_not_a_number(values):
    assert np.isnan(correlate(np.array(values), np.arange(float(len(values)))))


def test_nodes_are_compared_over_the_voxels_that_both_have_from_both_sides():
    first, second = keep("one"), keep("two", seed=1, cutoffs=(("bonferroni", 0.7),))
    (one, mask), (other, other_mask) = draw(0), draw(1)
    common = mask & other_mask
    row = compare(first, second)
    assert row["n_voxels_compared"] == common.sum() < mask.sum()
    assert row["n_voxels"] == ((np.abs(one) > 1) & common).sum() < ((np.abs(one) > 1) & mask).sum()
    expected = np.corrcoef(one[common].astype(np.float32), other[common].astype(np.float32))[0, 1]
    assert row["correlation"] == pytest.approx(expected, rel=1e-12)
    mirrored = list_comparisons([second], list_pairs([[first], [second]])).to_dict("records")[0]
    assert (mirrored["n_voxels"], mirrored["n_only"]) == (row["n_other_voxels"], row["n_only_other"])
    assert (row["other_node"], mirrored["other_node"]) == ("two", "one")
    assert row["figure"] == "figures/space-T1w_contrast-A_desc-two_comparison.png"
    assert mirrored["figure"] is None


def test_maps_on_different_grids_are_not_compared_and_the_reason_is_told():
    row = compare(keep("one"), keep("two", grid=MOVED))
    assert "different grids" in row["note"]
    assert row["figure"] is None
    assert all(row[name] is None or np.isnan(row[name]) for name in ("n_both", "dice", "correlation"))


def test_without_a_correction_in_common_only_the_maps_are_compared():
    row = compare(keep("one"), keep("two", seed=1, cutoffs=(("fdr", 1.0),)))
    assert row["note"] == "no correction in common"
    assert -1 < row["correlation"] < 1


def test_t_against_f_has_no_signs_and_no_correlation():
    row = compare(keep("one"), keep("two", seed=1, test="F"))
    assert row["n_both"] > 0
    assert row["n_opposite"] is None
    assert row["correlation"] is None


def test_another_alpha_or_tail_is_told():
    first, second = keep("one", tail="positive"), keep("two", alpha=0.01, tail="two-sided")
    assert compare(first, second)["note"] == "alpha 0.05 against 0.01; positive against two-sided"


def test_the_strictest_correction_with_survivors_in_either_node_is_drawn():
    strict, mild = ("voxelFWE", 99.0), ("fdr", 0.5)
    nothing = keep("one", cutoffs=(strict, mild))
    (pair,) = list_pairs([[nothing], [keep("two", seed=1, cutoffs=(strict, mild))]])
    assert [one.label for one in choose_shown(pair)] == ["fdr", "fdr"]
    (pair,) = list_pairs([[nothing], [keep("two", seed=1, cutoffs=(("voxelFWE", 0.5), mild))]])
    assert [one.label for one in choose_shown(pair)] == ["voxelFWE", "voxelFWE"]
    (pair,) = list_pairs([[nothing], [keep("two", cutoffs=(strict,))]])
    assert choose_shown(pair) is None


def test_labels_are_shared_by_nodes_and_not_within_one():
    assert find_shared_labels([["A", "A", "B"], ["B", "C"], ["C", "D"]]) == {"B", "C"}
