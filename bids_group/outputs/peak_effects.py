"""What is drawn of the maps at the peaks of a contrast, or in regions: means of groups and conditions, or a slope."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bids_group.column_space import decompose
from bids_group.inputs.error_terms import weigh_maps
from bids_group.outputs.figures.effects import CellPanel, SlopePanel
from bids_group.outputs.results import ContrastResult, ModelResult, PeakValues
from bids_group.outputs.tables import label_voxels, to_millimetres
from bids_group.stats.intervals import find_mean_interval, find_partial_points

CONFIDENCE = 0.95
LONGEST_REGION = 24  # characters above a panel
MOST_REGIONS = 12  # of interest
MOST_MEANS = 24  # in a panel; more are too small to read
INDICATOR_DECIMALS = 6  # what rounding leaves of 0 and 1
# Weights of a group that sum to less than this share of their size are those of a slope.
SLOPE_TOLERANCE = 1e-6

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Layout:
    """Which map is of which subject, group and condition; -1 where a subject has none."""

    groups: tuple[str, ...]
    conditions: tuple[str, ...]
    rows: tuple[NDArray[np.intp], ...]  # of each group: (n_subjects, n_conditions)


def has_peak_panels(model: ModelResult, result: ContrastResult) -> bool:
    """Return whether anything is drawn at the peaks of a contrast.

    Nothing is where no drawing would say what is tested: where nothing survived, of meta-analyses (whose means are
    weighted), of slopes in repeated measures, and of more than 24 groups and conditions.
    """
    if result.contrast.label not in model.pictures.peaks or model.node.model_type == "meta":
        return False
    layout = _lay_out(model)
    if sum(rows.size for rows in layout.rows) != len(model.rows):
        return False  # a subject has several maps of a condition, or lacks one
    if _is_slope(model, result, layout):
        return model.error_term is None and result.contrast.test == "t"
    return len(layout.groups) * len(layout.conditions) <= MOST_MEANS


def list_peak_panels(model: ModelResult, result: ContrastResult) -> Sequence[CellPanel] | Sequence[SlopePanel]:
    """Return what is drawn at the peaks of a contrast that `has_peak_panels`.

    Parameters
    ----------
    model : ModelResult
    result : ContrastResult
        Of this model.

    Returns
    -------
    sequence of CellPanel or SlopePanel
        One for each of the largest clusters.
    """
    peaks, layout = model.pictures.peaks[result.contrast.label], _lay_out(model)
    titles = _title_peaks(model, peaks)
    if _is_slope(model, result, layout):
        return [_make_slope(model, result, peaks, peak, title) for peak, title in enumerate(titles)]
    covariates = list_covariates(model)
    adjusted = [_leave_out(model, covariates, values) for values in peaks.values.T]
    return [_make_cells(layout, values, title) for values, title in zip(adjusted, titles, strict=True)]


def list_shown_regions(model: ModelResult) -> list[int]:
    """Return the positions of the regions of interest whose means are drawn; of many, those with the smallest p.

    None are where no drawing of groups and conditions would say what is tested: of meta-analyses, and of more than 24
    groups and conditions.
    """
    found = model.regions
    if found is None or not found.tests or model.node.model_type == "meta":
        return []
    layout = _lay_out(model)
    if sum(rows.size for rows in layout.rows) != len(model.rows):
        return []
    if len(layout.groups) * len(layout.conditions) > MOST_MEANS:
        return []
    smallest = np.min([test.p for test in found.tests], axis=0)
    return sorted(found.tested[np.argsort(smallest, kind="stable")[:MOST_REGIONS]].tolist())


def list_region_panels(model: ModelResult) -> list[CellPanel]:
    """Return what is drawn of the regions that `list_shown_regions` names."""
    found, layout, covariates = model.regions, _lay_out(model), list_covariates(model)
    assert found is not None
    panels = []
    for position in list_shown_regions(model):
        region, values = found.located.regions[position], found.means[:, position]
        adjusted = _leave_out(model, covariates, values)
        title = f"{region.name[:LONGEST_REGION]}\n{found.n_voxels[position]} voxels"
        panels.append(_make_cells(layout, adjusted, title))
    return panels


def list_covariates(model: ModelResult) -> list[str]:
    """Return the columns that values at peaks are adjusted for: all but indicators; none of repeated measures."""
    if model.error_term is not None:
        return []
    matrix = model.design.matrix
    return [name for name in model.design.columns if not np.isin(matrix[name].to_numpy(), (0.0, 1.0)).all()]


def _leave_out(model: ModelResult, covariates: Sequence[str], values: NDArray[np.float32]) -> Floats:
    """Return values less what covariates explain, as if each were 0: what the model's contrasts are about."""
    matrix = model.design.matrix
    left, has_map = values.astype(np.float64), ~np.isnan(values)
    coefficients = np.linalg.lstsq(matrix.to_numpy()[has_map], left[has_map], rcond=None)[0]
    places = [model.design.columns.index(name) for name in covariates]
    return left - matrix.to_numpy()[:, places] @ coefficients[places]


def _title_peaks(model: ModelResult, peaks: PeakValues) -> list[str]:
    places = to_millimetres(peaks.voxels, model)
    labels = next(iter(label_voxels(model, peaks.voxels).values()), [None] * len(places))
    titles = []
    for cluster, xyz, label in zip(peaks.clusters, places, labels, strict=True):
        place = f"cluster {cluster}\n{', '.join(f'{value:.0f}' for value in xyz)} mm"
        titles.append(place if label is None else f"{place}\n{label[:LONGEST_REGION]}")
    return titles


def _lay_out(model: ModelResult) -> _Layout:
    """Sort the maps by group, subject and condition; a group has the same indicators in the design."""
    conditions = _order_conditions(model)
    numbers = {name: number for number, name in enumerate(conditions)}
    cells = [numbers[name] if model.error_term else 0 for name in model.pictures.cells]
    subjects, inverse = np.unique(model.rows["subject"].to_numpy(dtype=str), return_inverse=True)
    rows = np.full((len(subjects), len(conditions)), -1, dtype=np.intp)
    rows[inverse, cells] = np.arange(len(cells))
    columns = [name for name in model.design.columns if not re.match(r"(C\()?subject\)?\[", name)]
    design = np.round(model.design.matrix[columns].to_numpy(), INDICATOR_DECIMALS)
    indicators = np.asarray(np.isin(design, (0.0, 1.0)).all(axis=0))
    of_subjects = np.where(rows[..., None] >= 0, design[:, indicators][rows], 0.0).max(axis=1)
    kinds, group = np.unique(of_subjects, axis=0, return_inverse=True)
    kinds, order = kinds[::-1], np.arange(len(kinds))[::-1]  # those of the first columns first
    names = _name_groups(kinds, [name for name, is_kept in zip(columns, indicators, strict=True) if is_kept])
    members = tuple(rows[group.ravel() == number] for number in order)
    return _Layout(names, tuple(conditions), members)


def _order_conditions(model: ModelResult) -> list[str]:
    """Return the conditions as the design has them, where its columns are named after them; one without repeats."""
    if model.error_term is None:
        return [""]
    found = list(dict.fromkeys(model.pictures.cells))
    of_design = [name for name in model.design.columns if name in found]
    return of_design if len(of_design) == len(found) else found


def _name_groups(kinds: Floats, columns: Sequence[str]) -> tuple[str, ...]:
    """Name groups by the columns that some of them have and others have not, a level by itself."""
    if len(kinds) == 1:
        return ("all subjects",)
    varying = np.ptp(kinds, axis=0) > 0
    names = []
    for kind in kinds:
        own = [name for name, value, varies in zip(columns, kind, varying, strict=True) if varies and value]
        levels = dict.fromkeys(level for name in own for level in re.findall(r"\[(?:T\.)?([^\]]+)\]", name) or [name])
        names.append(", ".join(levels) or "others")
    return tuple(names)


def _is_slope(model: ModelResult, result: ContrastResult, layout: _Layout) -> bool:
    """Return whether the weights of a contrast sum to nothing in every group and condition."""
    on_maps = weigh_maps(model.design.space, result.contrast.weights)
    sums = [on_maps[:, rows].sum(axis=1) for rows in layout.rows]  # no model with a slope lacks maps of subjects
    return float(np.abs(sums).max()) < SLOPE_TOLERANCE * float(np.abs(on_maps).sum())


def _make_slope(model: ModelResult, result: ContrastResult, peaks: PeakValues, peak: int, title: str) -> SlopePanel:
    voxel, statistic = peaks.voxels[peak], result.statistic
    values = peaks.values[:, peak].astype(np.float64)
    has_map = ~np.isnan(values)
    space = decompose(model.design.matrix.to_numpy()[has_map])
    on_maps = weigh_maps(space, result.contrast.weights)[0]
    x, y = find_partial_points(values[has_map], space, on_maps)
    assert statistic.effect is not None  # what every t has
    assert statistic.variance is not None
    dof = np.broadcast_to(statistic.dof, statistic.value.shape)[voxel]
    half_width = stats.t.isf((1 - CONFIDENCE) / 2, dof) * np.sqrt(statistic.variance[voxel])
    return SlopePanel(title, x, y, float(statistic.effect[voxel]), float(half_width))


def _make_cells(layout: _Layout, values: Floats, title: str) -> CellPanel:
    """Return the values of all groups at a peak, of the subjects that have all of their maps there."""
    of_groups = [values[rows] for rows in layout.rows]
    complete = [of_group[~np.isnan(of_group).any(axis=1)] for of_group in of_groups]
    size = (len(layout.groups), len(layout.conditions))
    means, half_widths = np.full((2, *size), np.nan)
    for group, of_group in enumerate(complete):
        if len(of_group):
            means[group], half_widths[group] = find_mean_interval(of_group, level=CONFIDENCE)
    return CellPanel(title, layout.groups, layout.conditions, tuple(complete), means, half_widths)
