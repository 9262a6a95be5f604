"""A model fitted to the means of its maps over regions of interest: the same design, error term and contrasts."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bids_group.analysis.estimation import FittedVoxels, fit_voxels
from bids_group.analysis.fitting import describe_contrast
from bids_group.analysis.permuting import Resources, TestedContrast, permute_contrast
from bids_group.errors import SpecError
from bids_group.inputs.entries import selects
from bids_group.inputs.images import AnalysedVoxels
from bids_group.inputs.loading import GroupData
from bids_group.inputs.nifti import Grid
from bids_group.inputs.plan import ModelPlan, NodePlan
from bids_group.inputs.roi_spec import RoiSpec
from bids_group.outputs.permutation_sidecars import describe_permutation
from bids_group.outputs.region_results import LocatedRegions, RegionResult, RegionTest
from bids_group.stats.correct import adjust_fdr
from bids_group.stats.glm import compute_log_p

OUTSIDE = "no voxel of it is in the analysis mask"
NOWHERE = "no voxel of it is on the grid of the maps"
INCOMPLETE = "no voxel of it in the analysis mask is in every map"
CONSTANT = "its means have no residual variance"

Singles = NDArray[np.float32]


def fit_regions(
    plan: NodePlan,
    model: ModelPlan,
    data: GroupData,
    voxels: AnalysedVoxels,
    located: LocatedRegions,
    resources: Resources,
) -> RegionResult:
    """Average each map over each region, and fit the model to the means.

    The mean is over the analysed voxels of a region that every map has, so that means of all maps are of the same
    voxels. Of a meta-analysis the standard error of a mean is the mean of those of its voxels: that of voxels whose
    errors are the same, and the largest that it can be.

    Parameters
    ----------
    plan : NodePlan
        With `ROIs`.
    model : ModelPlan
    data : GroupData
    voxels : AnalysedVoxels
        Those of the data that the model was fitted to.
    located : LocatedRegions
        On the grid of the data.
    resources : Resources

    Raises
    ------
    SpecError
        If no region can be tested.
    """
    rois = plan.node.settings.rois
    assert rois is not None
    columns = _find_columns(data, voxels, located)
    means = _average(data.effects, columns)
    reasons = {i: _explain(voxels, located, i) for i, own in enumerate(columns) if not len(own)}
    _require_any(rois, located, reasons)
    tested = [i for i in range(len(columns)) if i not in reasons]
    errors = None if data.variances is None else _average(data.variances, columns, of_roots=True)[:, tested] ** 2
    complete = _leave_coverage(plan)
    found = fit_voxels(complete, model, means[:, tested], None, errors)
    reasons |= {i: CONSTANT for i, is_kept in zip(tested, found.kept, strict=True) if not is_kept}
    _require_any(rois, located, reasons)
    kept = [i for i in range(len(columns)) if i not in reasons]
    regions = GroupData(
        means[:, kept], _make_row(len(kept), len(means)), None if errors is None else errors[:, found.kept]
    )
    return RegionResult(
        located=located,
        alpha=rois.test.alpha,
        tail=rois.test.tail,
        n_voxels=np.array([len(own) for own in columns]),
        means=means,
        tests=_test_contrasts(complete, model, found, regions, resources),
        reasons=dict(sorted(reasons.items())),
    )


def _find_columns(data: GroupData, voxels: AnalysedVoxels, located: LocatedRegions) -> list[NDArray[np.intp]]:
    """Return the columns of the data that are averaged for each region."""
    place = np.cumsum(data.voxels.mask.ravel()) - 1
    used = voxels.mask if data.voxels.complete is None else voxels.mask & data.voxels.complete
    is_used = used.ravel()
    return [place[region.voxels[is_used[region.voxels]]] for region in located.regions]


def _average(values: Singles, columns: list[NDArray[np.intp]], *, of_roots: bool = False) -> Singles:
    """Average rows, or their roots, over columns, in float64; nan where there are none."""
    means = np.full((len(values), len(columns)), np.nan, dtype=np.float32)
    for region, own in enumerate(columns):
        if len(own):
            here = np.sqrt(values[:, own]) if of_roots else values[:, own]
            means[:, region] = here.mean(axis=1, dtype=np.float64)
    return means


def _explain(voxels: AnalysedVoxels, located: LocatedRegions, position: int) -> str:
    """Say why there is no mean of a region."""
    own = located.regions[position].voxels
    if not len(own):
        return NOWHERE
    return INCOMPLETE if voxels.mask.ravel()[own].any() else OUTSIDE


def _require_any(rois: RoiSpec, located: LocatedRegions, reasons: dict[int, str]) -> None:
    if len(reasons) == len(located.regions):
        told = "; ".join(f"{located.regions[i].name}: {reason}" for i, reason in list(reasons.items())[:3])
        raise SpecError(rois.path, f"no region can be tested ({told}); check regions, space and mask")


def _leave_coverage(plan: NodePlan) -> NodePlan:
    """Return the plan of maps without holes, which means of regions are."""
    settings = replace(plan.node.settings, min_coverage=1.0)
    return replace(plan, node=replace(plan.node, settings=settings))


def _make_row(n_regions: int, n_maps: int) -> AnalysedVoxels:
    """Return a grid with a voxel for each region."""
    none = np.zeros(n_maps)
    return AnalysedVoxels(
        mask=np.ones((n_regions, 1, 1), dtype=bool),
        grid=Grid((n_regions, 1, 1), np.eye(4)),
        missing=none.astype(np.int64),
        finite_share=none + 1,
        zero_share=none,
        n_voxels_missing=0,
    )


def _test_contrasts(
    plan: NodePlan, model: ModelPlan, found: FittedVoxels, regions: GroupData, resources: Resources
) -> tuple[RegionTest, ...]:
    rois = plan.node.settings.rois
    assert rois is not None
    tests = []
    for index, (contrast, estimate) in enumerate(zip(model.contrasts, found.estimates, strict=True)):
        if not selects(rois.test, contrast):
            continue
        test = describe_contrast(model, found, estimate)
        log_p = compute_log_p(test.statistic, None if contrast.test == "F" else rois.test.tail)
        p, p_fdr = np.exp(log_p), np.exp(adjust_fdr(log_p))
        made = RegionTest(contrast, test.statistic, test.epsilon, test.effect_size, p, p_fdr)
        if rois.test.permutation is not None:
            tested = TestedContrast(plan, model, index, test, regions, regions.voxels)
            for over_regions in permute_contrast(tested, rois.test, resources)[:1]:  # of voxel, or none of a shard
                p_fwe = 10.0**-over_regions.inference.logp
                made = replace(made, p_fwe=p_fwe, permutation=describe_permutation(over_regions))
        tests.append(made)
    return tuple(tests)
