"""One simulated dataset of a scenario, analysed by the functions that a run uses: what each level finds."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bids_group.analysis.estimation import FittedVoxels
from bids_group.analysis.fitting import FittedModel, estimate_contrasts
from bids_group.analysis.model import infer_contrasts
from bids_group.analysis.permuting import Resources
from bids_group.analysis.region_tests import fit_regions
from bids_group.analysis.regions import locate_regions
from bids_group.checkpoints import Checkpoints
from bids_group.inputs.images import AnalysedVoxels
from bids_group.inputs.inference_spec import InferenceSpec
from bids_group.inputs.loading import GroupData
from bids_group.inputs.nifti import Grid
from bids_group.inputs.plan import NodePlan
from bids_group.outputs.results import ContrastTest, InferenceResult
from bids_group.stats.clusters import label_clusters
from bids_group.stats.correct import DEFAULT_CLUSTER_FORMING, find_cluster_threshold
from bids_group.stats.inference import Inference
from bids_group.stats.random_fields import log_p_extents
from validation.designs import DESIGNS, plan_design
from validation.fields import SEARCH, SHAPE, VOXEL_SIZE, draw_errors, draw_fields, find_signal
from validation.scenarios import BONFERRONI, FDR, PERM_FDR, REGIONAL, RFT, RFT_CLUSTER, ROI, ROI_FDR, Scenario

Floats = NDArray[np.float64]

ALPHA = 0.05
SUBJECT_SD = 1.0  # of what the maps of a subject share
AUTOCORRELATION = 0.8
NOISY_SD = 2.0
MIN_COVERAGE = 0.7
LACKING_SHARE = (0.1, 0.4)  # of the slices from the top
KNOWN_VARIANCES = (0.5, 2.0)  # of a meta-analysis: between these, and as large again between subjects
PERMUTATION_LEVELS = ("voxel", "cluster-size", "cluster-mass", "tfce")
P_TOLERANCE = 1e-6  # of a p that is a logarithm in between
SPHERE_RADIUS, SPHERE_OFFSETS = 7.0, (7.5, 9.0, 7.5)  # mm: eight spheres around the centre, which share no voxel
GRID = Grid(SHAPE, np.diag([VOXEL_SIZE, VOXEL_SIZE, VOXEL_SIZE, 1.0]))


def ask_inference(scenario: Scenario) -> list[dict[str, Any]]:
    """Write `Inference` of a scenario's spec."""
    entries: list[dict[str, Any]] = []
    levels = [level for level in PERMUTATION_LEVELS if level in scenario.levels]
    if levels or {PERM_FDR, ROI} & set(scenario.levels):
        asked = {"Levels": levels or ["voxel"], "Permutations": scenario.n_permutations}
        entries.append({"Correction": "permutation", **asked})
    wanted = set(scenario.levels) | ({RFT} if RFT_CLUSTER in scenario.levels else set())
    entries += [{"Correction": correction} for correction in (BONFERRONI, FDR, RFT) if correction in wanted]
    return [{**entry, "Alpha": ALPHA, "Tail": scenario.tail} for entry in entries]


def plan_scenario(scenario: Scenario, rng: np.random.Generator) -> NodePlan:
    """Plan a scenario's design, its covariates drawn."""
    settings: dict[str, Any] = {"MinCoverage": MIN_COVERAGE} if scenario.n_lacking else {}
    if set(scenario.levels) & set(REGIONAL):
        settings["ROIs"] = _ask_regions(scenario)
    inference = ask_inference(scenario)
    return plan_design(scenario.design, scenario.groups, rng, inference=inference, settings=settings)


def _ask_regions(scenario: Scenario) -> dict[str, Any]:
    """Write `ROIs` of a scenario's spec: a sphere in each octant of the volume."""
    middle = VOXEL_SIZE * (np.array(SHAPE) - 1) / 2
    corners = middle + np.array(SPHERE_OFFSETS) * (2 * np.indices((2, 2, 2)).reshape(3, -1).T - 1)
    spheres = [{"Name": f"octant {number}", "Center": corner.tolist()} for number, corner in enumerate(corners)]
    return {
        "Sources": [{"Spheres": spheres, "Radius": SPHERE_RADIUS}],
        "Alpha": ALPHA,
        "Tail": scenario.tail,
        "Permutations": scenario.n_permutations,
    }


def reseed(plan: NodePlan, seed: int) -> NodePlan:
    """Return the plan with other random rearrangements."""
    settings = plan.node.settings
    settings = replace(settings, inference=tuple(_reseed_entry(entry, seed) for entry in settings.inference))
    if settings.rois is not None:
        settings = replace(settings, rois=replace(settings.rois, test=_reseed_entry(settings.rois.test, seed)))
    return replace(plan, node=replace(plan.node, settings=settings))


def _reseed_entry(entry: InferenceSpec, seed: int) -> InferenceSpec:
    return entry if entry.permutation is None else replace(entry, permutation=replace(entry.permutation, seed=seed))


def draw_data(scenario: Scenario, plan: NodePlan, rng: np.random.Generator) -> GroupData:
    """Draw the maps of a scenario.

    Parameters
    ----------
    scenario : Scenario
    plan : NodePlan
        Of its design.
    rng : Generator

    Returns
    -------
    GroupData
        Effects of shape (n_rows, n_voxels), rows by subject and then condition.
    """
    n_subjects, n_cells = sum(scenario.groups), len(DESIGNS[scenario.design].cells)
    errors = draw_errors(rng, n_subjects * n_cells, scenario.law).reshape(n_subjects, n_cells, -1)
    errors = np.einsum("cd,sdv->scv", _mix_conditions(scenario, n_cells), errors, optimize=True)
    if n_cells > 1:
        errors += SUBJECT_SD * draw_fields(rng, n_subjects)[:, np.newaxis]
    errors *= _draw_scales(scenario, rng)[:, np.newaxis, np.newaxis]
    variances = None
    if plan.node.model_type == "meta":
        known = rng.uniform(*KNOWN_VARIANCES, (n_subjects, 1))
        variances = np.repeat(known, SEARCH.n_voxels, axis=1).astype(np.float32)
        errors = errors * np.sqrt(known + 1.0)[:, np.newaxis]
    effects = errors.reshape(n_subjects * n_cells, -1)
    if scenario.signal:
        effects = effects + scenario.signal * np.outer(_find_regressor(scenario, plan), find_signal())
    effects = _delete_parts(scenario, effects.astype(np.float32), rng)
    return _wrap(effects, variances, plan.node.settings.min_coverage)


def _mix_conditions(scenario: Scenario, n_cells: int) -> Floats:
    """Return what independent errors are multiplied by, condition by condition."""
    if scenario.conditions == "autocorrelated":
        lag = np.abs(np.subtract.outer(np.arange(n_cells), np.arange(n_cells)))
        return np.linalg.cholesky(AUTOCORRELATION**lag)
    sd = np.ones(n_cells)
    if scenario.conditions == "noisy":
        sd[:2] = NOISY_SD
    return np.diag(sd)


def _draw_scales(scenario: Scenario, rng: np.random.Generator) -> Floats:
    """Return the SD of each subject's errors."""
    scales = np.repeat(scenario.group_sd[: len(scenario.groups)], scenario.groups)
    scales[rng.integers(len(scales))] *= scenario.outlier
    return scales


def _find_regressor(scenario: Scenario, plan: NodePlan) -> Floats:
    """Return what the effect is multiplied by in each map: the tested column, a covariate in its SD."""
    matrix = plan.models[0].design.matrix
    column = matrix[{"mean": "intercept", "groups": "group[a]", "slope": "age"}[scenario.design]].to_numpy(np.float64)
    return column / column.std() if scenario.design == "slope" else column


def _delete_parts(scenario: Scenario, effects: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Take the upper slices away from some of the maps."""
    height = np.nonzero(SEARCH.mask)[2] / SHAPE[2]
    for row in rng.choice(len(effects), scenario.n_lacking, replace=False):
        effects[row, height > 1 - rng.uniform(*LACKING_SHARE)] = np.nan
    return effects


def _wrap(effects: NDArray[np.float32], variances: NDArray[np.float32] | None, min_coverage: float) -> GroupData:
    """Describe maps as the reader of maps does."""
    present = np.isfinite(effects)
    n_rows = len(effects)
    complete = np.zeros(SHAPE, dtype=bool)
    complete[SEARCH.mask] = present.all(axis=0)
    voxels = AnalysedVoxels(
        mask=SEARCH.mask,
        grid=GRID,
        missing=(~present).sum(axis=1),
        finite_share=present.mean(axis=1),
        zero_share=np.zeros(n_rows),
        n_voxels_missing=0,
        min_coverage=min_coverage,
        complete=complete if min_coverage < 1 else None,
    )
    return GroupData(effects, voxels, variances)


def allocate(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return memory for float32 values."""
    return np.empty(shape, dtype=np.float32)


def _show_nothing(_title: str, _total: int) -> AbstractContextManager[Any]:
    return nullcontext(lambda _done: None)


def make_resources(folder: Path) -> Resources:
    """Return one thread, memory, and a folder for checkpoints that short tests never write."""
    return Resources(1, allocate, Checkpoints(folder), _show_nothing)


def describe_tests(found: FittedVoxels) -> tuple[ContrastTest, ...]:
    """Return the statistics of the contrasts, without the sizes of effects."""
    return tuple(
        ContrastTest(
            one.corrected,
            epsilon=one.epsilon,
            variance_ratio=None if one.variance_ratio is None else float(np.median(one.variance_ratio)),
            smoothness=one.smoothness,
            n_subjects=found.n_subjects,
        )
        for one in found.estimates
    )


def analyse(
    plan: NodePlan, data: GroupData, resources: Resources
) -> tuple[ContrastTest, NDArray[np.bool_], list[InferenceResult]]:
    """Analyse maps as a run does, but for what is only shown.

    Returns
    -------
    test : ContrastTest
    mask : ndarray of bool, shape (x, y, z)
        The analysed voxels.
    inferences : list of InferenceResult
    """
    model = plan.models[0]
    found, voxels = estimate_contrasts(plan, model, data)
    tests = describe_tests(found)
    fitted = FittedModel(voxels, np.zeros(int(voxels.mask.sum())), tests)
    (result,) = infer_contrasts(plan, model, fitted, data, resources)
    return tests[0], voxels.mask, list(result.inferences)


def name_level(inference: Inference) -> str:
    """Return the level of an inference."""
    if inference.permutation is None:
        return inference.correction
    return PERM_FDR if inference.permutation.level == "fdr" else inference.permutation.level


def find_survivors(plan: NodePlan, data: GroupData, resources: Resources) -> dict[str, NDArray[np.bool_]]:
    """Return, for each level, the voxels that survive it: shape (n_analysed,); or the regions, where there are any.

    The cluster level of random field theory is that of the extents of all clusters above the cluster-forming
    threshold; the app reports it for those that hold a surviving voxel.
    """
    if plan.node.settings.rois is not None:
        return _find_regions(plan, data, resources)
    test, mask, results = analyse(plan, data, resources)
    found = {name_level(one.inference): one.inference.survives for one in results}
    if RFT in found:
        tail = plan.node.settings.inference[0].tail if test.statistic.test == "t" else None
        found[RFT_CLUSTER] = _test_extents(test, mask, tail)
    return found


def _find_regions(plan: NodePlan, data: GroupData, resources: Resources) -> dict[str, NDArray[np.bool_]]:
    rois = plan.node.settings.rois
    assert rois is not None  # asked by the caller
    located = locate_regions(rois, GRID, Path())
    (test,) = fit_regions(plan, plan.models[0], data, data.voxels, located, resources).tests
    assert test.p_fwe is not None  # asked for
    return {level: p <= ALPHA * (1 + P_TOLERANCE) for level, p in ((ROI, test.p_fwe), (ROI_FDR, test.p_fdr))}


def _test_extents(test: ContrastTest, mask: NDArray[np.bool_], tail: Any) -> NDArray[np.bool_]:
    """Return the voxels in clusters whose extent is significant by random field theory."""
    assert test.smoothness is not None  # asked for
    value = test.statistic.value
    threshold = find_cluster_threshold(test.statistic, DEFAULT_CLUSTER_FORMING, tail)
    height = {"two-sided": np.abs(value), "negative": -value}.get(tail or "", value)
    formed = label_clusters(value, height > threshold, mask)
    log_p = log_p_extents(formed.n_voxels, threshold, test.statistic, test.smoothness, tail)
    survives = np.append(False, log_p <= np.log(ALPHA))
    return survives[formed.labels]
