"""What stands in the JSON beside each map and table: what it is, made from what, and how."""

from typing import Any

import numpy as np

from bids_group.inputs.map_sources import list_uris
from bids_group.outputs.atlases import find_source
from bids_group.outputs.permutation_sidecars import describe_permutation, state_permutation
from bids_group.outputs.results import ContrastResult, ContrastTest, InferenceResult, ModelResult
from bids_group.stats.glm import UNFITTED_PART
from bids_group.stats.inference import Inference

SMALLEST_P = float(np.finfo(np.float32).tiny)  # what a float32 map can hold; a p of 0 would be no p
_STATMAP_TEXTS = {
    "effect": ("Estimated effect c'b", "as the input maps"),
    "variance": ("Estimated variance of the effect, c'(X'X)^- c s^2", "square of the unit of the input maps"),
    "t": ("t, the effect divided by the square root of its variance", "t"),
    "F": ("F = (Cb)'[C (X'X)^- C']^- (Cb) / (r s^2) with r the rank of the contrast", "F"),
    "z": ("z of the same upper tail as the statistic, sf(z) = sf({test}); negative where p (upper tail) > 0.5", "z"),
    "epsilon": ("Epsilon ({sphericity}), by which the degrees of freedom of F are multiplied", "ratio"),
    "d": ("Cohen's d: the effect over the SD of the subjects' scores, or of the residuals of groups", "SD"),
    "dlower": ("Lower bound of the 95% confidence interval of Cohen's d (noncentral t), voxel by voxel", "SD"),
    "dupper": ("Upper bound of the 95% confidence interval of Cohen's d (noncentral t), voxel by voxel", "SD"),
    "etasq": ("Partial eta squared, r1 F / (r1 F + r2)", "ratio"),
    "etasqlower": ("Lower bound of the 95% confidence interval of partial eta squared (noncentral F)", "ratio"),
    "etasqupper": ("Upper bound of the 95% confidence interval of partial eta squared (noncentral F)", "ratio"),
    "tau2": ("Variance between subjects beyond their maps' known variances ({heterogeneity})", "square of the unit"),
    "i2": ("Share of the variance of a typical map that is between subjects (Higgins & Thompson 2002)", "ratio"),
    "dof": ("Degrees of freedom of the error ({source})", "degrees of freedom"),
    "n": ("Subjects whose maps the test of the voxel used", "subjects"),
    "p": ("Uncorrected p, {sides}; 1 outside the analysis mask, at least {smallest:.2g}", "probability"),
}
_CONJUNCTION_TEXTS = {
    "z": (
        "Minimum statistic: the smallest |z| of the contrasts with the sign that all share, 0 where signs differ; "
        "of F the smallest z",
        "z",
    ),
    "p": (
        "Uncorrected p against the conjunction null: the largest of the contrasts' p ({sides}), 1 where signs of t "
        "differ and outside the analysis mask, at least {smallest:.2g}",
        "probability",
    ),
}
_NEIGHBOURS = {6: "faces", 18: "faces and edges", 26: "faces, edges and corners"}


def describe_sources(model: ModelResult) -> dict[str, Any]:
    """Return the BIDS URIs of everything that the maps of a model were made from."""
    uris = dict.fromkeys(uri for source in model.rows["source"] for uri in list_uris(source))
    return {"Sources": [*uris, *model.mask_sources]}


def describe_mask(model: ModelResult) -> dict[str, Any]:
    """Describe the analysis mask."""
    return {
        "Description": f"Analysed voxels: {describe_mask_rule(model)}",
        **describe_sources(model),
        "Type": "Brain",
        "NumberOfVoxels": int(model.voxels.mask.sum()),
        "MinCoverage": model.voxels.min_coverage,
        "VoxelsPartlyCovered": model.voxels.n_voxels_partly,
        "VoxelsMissing": model.voxels.n_voxels_missing,
        "VoxelsUntestable": dict(model.voxels.untestable),
        "VoxelsWithoutResidualVariance": model.voxels.n_voxels_constant,
    }


def describe_mask_rule(model: ModelResult) -> str:
    """Say in words which voxels are analysed."""
    coverage, n_maps = model.voxels.min_coverage, len(model.rows)
    rule = f"finite and non-zero in {f'at least {100 * coverage:g}% of' if coverage < 1 else 'all'} {n_maps} maps"
    if model.mask_sources:
        names = ", ".join(path.name for path in model.mask_sources.values())
        rule = f"within {names}, and {rule}"
    if model.voxels.untestable:
        rule += ", where the maps that a voxel has allow every test"
    if model.voxels.n_voxels_constant:
        rule += f", with residual variance above {UNFITTED_PART:g} of the total"
    return rule


def describe_statmap(model: ModelResult, result: ContrastResult, stat: str) -> dict[str, Any]:
    """Describe an unthresholded map of a contrast."""
    text, units = (_CONJUNCTION_TEXTS if result.conjoined else _STATMAP_TEXTS)[stat]
    is_two_sided = next((one.contrast.test for one in result.conjoined), result.contrast.test) == "t"
    settings = model.node.settings
    source = "Welch-Satterthwaite" if settings.variance_groups else "of the maps that the voxel has"
    text = text.format(
        test=result.contrast.test,
        sides="two-sided" if is_two_sided else "upper tail",
        smallest=SMALLEST_P,
        sphericity=settings.sphericity,
        heterogeneity=settings.heterogeneity,
        source=source,
    )
    return {
        "Description": f"{text} (contrast {_name_tested(result)})",
        **describe_sources(model),
        **_describe_test(model, result),
        "Tail": "two-sided" if stat == "p" and is_two_sided else "n/a",
        "Units": units,
    }


def _name_tested(result: ContrastResult) -> str:
    """Name a contrast, or a conjunction with its contrasts."""
    names = " and ".join(one.contrast.name for one in result.conjoined)
    return f"{result.contrast.name}, the conjunction of {names}" if names else result.contrast.name


def _describe_test(model: ModelResult, result: ContrastResult) -> dict[str, Any]:
    test = result.test
    described: dict[str, Any] = {
        "Contrast": result.contrast.name,
        "Statistic": test.statistic.test,
        "Model": describe_model_type(model),
        **({"SmoothingFwhmMm": fwhm} if (fwhm := model.node.settings.smoothing_fwhm) else {}),
        "ErrorTerm": describe_error_term(model),
    }
    if result.conjoined:
        return {**described, "Conjunction": [one.contrast.name for one in result.conjoined]}
    described["DegreesOfFreedom"] = [int(value) if value == int(value) else value for value in test.dof]
    described["ContrastWeights"] = [
        {c: float(w) for c, w in zip(model.design.columns, row, strict=True) if w} for row in result.contrast.weights
    ]
    if test.n_subjects is not None:
        described |= _describe_coverage(model, test)
    if test.epsilon is not None:
        described["SphericityCorrection"] = model.node.settings.sphericity
        described["MedianEpsilon"] = test.median_epsilon
    if test.variance_ratio is not None:
        described["OwnOverPooledErrorVariance"] = test.variance_ratio
    return described


def _describe_coverage(model: ModelResult, test: ContrastTest) -> dict[str, Any]:
    """Say what differs between voxels because some maps lack them."""
    assert test.n_subjects is not None
    described: dict[str, Any] = {
        "MinCoverage": model.voxels.min_coverage,
        "SubjectsRange": [int(test.n_subjects.min()), int(test.n_subjects.max())],
    }
    if test.own_dof is not None:
        described["DegreesOfFreedomRange"] = [float(test.own_dof.min()), float(test.own_dof.max())]
    return described


def describe_model_type(model: ModelResult) -> str:
    """Say in words how the design is fitted."""
    if model.node.model_type == "glm":
        return "ordinary least squares"
    return f"random-effects meta-analysis, variance between subjects by {model.node.settings.heterogeneity}"


def describe_error_term(model: ModelResult) -> str:
    """Say in words which error the effects are tested against."""
    if model.node.model_type == "meta":
        return "each map's known variance plus the variance between subjects, scaled as Knapp and Hartung do"
    if model.node.settings.variance_groups is not None:
        name = model.node.settings.variance_groups
        return f"a residual variance for each level of {name} (Welch), with Welch-Satterthwaite degrees of freedom"
    return {
        "pooled": "pooled: one residual variance for all conditions, which assumes compound symmetry",
        "partitioned": "partitioned: each contrast against the variance of its own scores between subjects",
        None: "residual variance between subjects",
    }[model.error_term]


def describe_inference(model: ModelResult, result: ContrastResult, entry: InferenceResult, kind: str) -> dict[str, Any]:
    """Describe a map or table of one correction.

    Parameters
    ----------
    kind : str
        ``map``, ``logp``, ``dseg``, ``clusters`` or ``peaks``.
    """
    found = entry.inference
    texts = {
        "map": f"{result.contrast.test} where it survives, 0 elsewhere",
        "logp": "-log10 of the corrected p of this entry's tail; the cluster extent does not act on it",
        "dseg": "Ids of the surviving clusters, positive ones first, then by volume; as in the tables of this name",
        "clusters": "The surviving clusters",
        "peaks": "Local maxima of the surviving clusters, at least 8 mm apart within a cluster",
        "null": "The largest value in the map of each rearrangement, the identity (the data as they are) first",
    }
    units = {"map": result.contrast.test, "logp": "-log10(p)", "dseg": "cluster id", "null": found.threshold_unit}
    return {
        "Description": f"{texts[kind]} (contrast {_name_tested(result)}; {state_inference(entry)})",
        **describe_sources(model),
        **_describe_test(model, result),
        **({"Units": units[kind]} if kind in units else {}),
        "Correction": found.correction,
        "Alpha": found.alpha,
        "Tail": found.tail or "n/a",
        "Threshold": none_if_nan(found.threshold),
        "ThresholdUnit": found.threshold_unit,
        "ThresholdZ": none_if_nan(found.threshold_z),
        **describe_conjoined(result, entry),
        "ClusterExtent": found.cluster_extent,
        "Connectivity": found.connectivity,
        "Neighbourhood": f"voxels that share {_NEIGHBOURS[found.connectivity]}",
        "SearchVolumeVoxels": len(result.statistic.value),
        **(_describe_smoothness(result.test, found) if found.correction == "rft" else {}),
        **describe_permutation(entry),
    }


def describe_conjoined(result: ContrastResult, entry: InferenceResult) -> dict[str, Any]:
    """Describe what each contrast of a conjunction had to reach; nothing of a contrast."""
    pairs = zip(result.conjoined, (one.inference for one in entry.conjoined), strict=True)
    thresholds = [
        {
            "Contrast": member.contrast.label,
            "Threshold": none_if_nan(found.threshold),
            "ThresholdUnit": found.threshold_unit,
            "ThresholdZ": none_if_nan(found.threshold_z),
        }
        for member, found in pairs
    ]
    return {"ConjoinedThresholds": thresholds} if thresholds else {}


def _describe_smoothness(test: ContrastTest, found: Inference) -> dict[str, Any]:
    smoothness = test.smoothness
    if smoothness is None:
        return {}
    return {
        "SmoothnessFwhmMm": [round(float(value), 4) if np.isfinite(value) else None for value in smoothness.fwhm_mm],
        "Resels": [round(float(value), 6) for value in smoothness.resels],
        "ClusterThreshold": found.cluster_threshold,
        "Assumption": "the smoothness is the same everywhere (stationarity)",
    }


def state_inference(entry: InferenceResult) -> str:
    """Say in words what a correction controls, at which level."""
    found = entry.inference
    control = {
        "none": "uncorrected p",
        "fdr": "false discovery rate (Benjamini-Hochberg)",
        "bonferroni": "familywise error (Bonferroni)",
        "rft": "familywise error (the smaller of random field theory and Bonferroni)",
        "permutation": state_permutation(entry),
    }[found.correction]
    tail = f", {found.tail}" if found.tail else ""
    extent = f", clusters of at least {found.cluster_extent} voxels" if found.cluster_extent > 1 else ""
    return f"{control} at most {found.alpha:g}{tail}{extent}"


def none_if_nan(value: float) -> float | None:
    """Return a number as JSON can hold it."""
    return None if np.isnan(value) else float(value)


def describe_columns(model: ModelResult, kind: str, test: str, correction: str) -> dict[str, Any]:
    """Describe the columns of a table of clusters or peaks."""
    columns: dict[str, Any] = {
        "cluster_id": {"Description": "Id of the cluster in the dseg map"},
        "peak_x": {"Description": "World coordinate of the peak, left to right", "Units": "mm"},
        "peak_y": {"Description": "World coordinate of the peak, posterior to anterior", "Units": "mm"},
        "peak_z": {"Description": "World coordinate of the peak, inferior to superior", "Units": "mm"},
        "peak_value": {"Description": f"{test} at the peak"},
        "volume_mm": {"Description": "Volume of the cluster", "Units": "mm^3"},
        "p_corrected": {"Description": "Corrected p at the peak (of the cluster where those are tested), as in logp"},
    }
    columns |= {name: _describe_atlas(model, name, kind) for name in model.node.settings.atlases}
    if kind == "clusters":
        columns["cluster_mean"] = {"Description": f"Mean {test} over the cluster"}
        columns["n_voxels"] = {"Description": "Voxels of the cluster"}
    if kind == "clusters" and correction == "rft" and test != "z":  # a conjunction has no p of extents
        columns["p_rft"] = {
            "Description": "Familywise p, by random field theory, of the extent of the cluster above the "
            "cluster-forming threshold that this one is in"
        }
    return columns


def _describe_atlas(model: ModelResult, name: str, kind: str) -> dict[str, Any]:
    """Describe the column of an atlas: what its labels are of, its space against that of the maps, its terms."""
    source = find_source(name)
    space = model.names.entities.get("space")
    what = "Regions with their shares of the cluster's voxels" if kind == "clusters" else "Region that the peak is in"
    if not model.is_in_mni_space:
        what = f"n/a: the maps are in the space {space}, the atlas in that of MNI"
    return {
        "Description": f"{what} ({source.title})",
        "AtlasSpace": source.space,
        "MapSpace": space or "not named, taken for MNI",
        "Licence": source.licence,
        "Citation": source.citation,
    }
