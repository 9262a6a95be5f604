"""How the report says things: numbers with their digits and units, settings as words.

Every function here is a filter of the templates: a value or record in, plain text out. Nothing is escaped here; the
templates escape everything.
"""

from collections.abc import Sequence

from bids_group.report.records import MISSING, ContrastRecord, InferenceRecord, ModelRecord, Peak, RunRecord

CORRECTION_WORDS = {
    "none": "uncorrected",
    "bonferroni": "Bonferroni, family-wise error over voxels",
    "fdr": "Benjamini-Hochberg, false discovery rate over voxels",
    "rft": "random field theory, family-wise error over voxels (Bonferroni where that is less strict)",
}
PERMUTATION_WORDS = {
    "voxel": "permutation, family-wise error over voxels",
    "cluster-size": "permutation, family-wise error over clusters by extent",
    "cluster-mass": "permutation, family-wise error over clusters by mass",
    "tfce": "permutation, family-wise error over voxels by TFCE",
    "uncorrected": "permutation, uncorrected",
    "fdr": "permutation, false discovery rate over voxels",
}
LEVEL_SYMBOLS = {"none": "p", "fdr": "q", "uncorrected": "p"}
UNIT_WORDS = {"voxels": "extent", "mass": "mass", "TFCE": "TFCE"}
SPHERICITY_WORDS = {"greenhouse-geisser": "Greenhouse-Geisser", "huynh-feldt": "Huynh-Feldt", "none": "none"}
HETEROGENEITY_WORDS = {"reml": "restricted maximum likelihood", "dersimonian-laird": "DerSimonian and Laird"}
NEIGHBOUR_WORDS = {6: "faces", 18: "faces and edges", 26: "faces, edges and corners"}
MAP_WORDS = {
    "effect": "effect",
    "variance": "variance of the effect",
    "t": "t statistic",
    "F": "F statistic",
    "z": "z score",
    "p": "p value",
    "epsilon": "epsilon",
    "d": "Cohen's d",
    "dlower": "its lower bound",
    "dupper": "its upper bound",
    "etasq": "partial eta squared",
    "etasqlower": "its lower bound",
    "etasqupper": "its upper bound",
    "dof": "degrees of freedom",
    "n": "subjects in the test",
    "tau2": "variance between subjects",
    "i2": "its share of the variance",
}
FILE_WORDS = {
    "panels": "cuts through the largest clusters",
    "map": "surviving statistic",
    "logp": "-log10 corrected p",
    "dseg": "cluster ids",
    "clusters": "clusters",
    "peaks": "peaks",
    "null": "largest values of the rearrangements",
}
COLUMN_WORDS = {
    "cluster_id": "Cluster",
    "peak_id": "Peak",
    "peak_x": "x (mm)",
    "peak_y": "y (mm)",
    "peak_z": "z (mm)",
    "volume_mm": "Volume (mm³)",
    "n_voxels": "Voxels",
    "p_rft": "Extent p (family-wise)",
    "p_corrected": "p",
}
ATLAS_WORDS = {
    "aal": "AAL",
    "aicha": "AICHA",
    "desikan_killiany": "Desikan-Killiany",
    "destrieux": "Destrieux",
    "harvard_oxford": "Harvard-Oxford",
    "juelich": "Jülich",
    "marsatlas": "MarsAtlas",
    "neuromorphometrics": "Neuromorphometrics",
    "talairach_ba": "Talairach, Brodmann area",
    "talairach_gyrus": "Talairach, gyrus",
}
COORDINATE_COLUMNS = ("peak_x", "peak_y", "peak_z")
WHOLE_COLUMNS = ("volume_mm", "n_voxels")
P_COLUMNS = ("p_rft", "p_corrected")
SMALLEST_SHOWN_P = 0.0001
STATISTIC_COLUMNS = {"peak_value": "Peak", "cluster_mean": "Mean"}  # in units of the test's statistic
# Of quality.tsv.
MEASURE_COLUMNS = ("correlation", "asymmetry", "sd", "distance", "cook_share", "peak_t_without")
FEWEST_PLAIN_DECIMAL = 0.01  # smaller numbers show as 0.00 with two decimals


def format_number(value: float) -> str:
    """Write a number with two decimals, or two significant digits where that would show nothing.

    Examples
    --------
    >>> format_number(3.3734), format_number(0.00042), format_number(12)
    ('3.37', '0.00042', '12.00')
    """
    small = value != 0 and abs(value) < FEWEST_PLAIN_DECIMAL
    return f"{value:.2g}" if small else f"{value:,.2f}"


def format_plain(value: float) -> str:
    """Write a number with no more digits than it needs, at most one decimal.

    Examples
    --------
    >>> format_plain(120.0), format_plain(29.4321), format_plain(-48)
    ('120', '29.4', '-48')
    """
    return f"{round(value, 1):,.1f}".removesuffix(".0")


def format_count(count: int, noun: str) -> str:
    """Write a count with its noun.

    Examples
    --------
    >>> format_count(1, "voxel"), format_count(54000, "voxel")
    ('1 voxel', '54,000 voxels')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def format_cell(text: str, column: str) -> str:
    """Write a cell of a table of clusters with the digits that its column deserves.

    Examples
    --------
    >>> format_cell("9.13181", "peak_value"), format_cell("-48.0", "peak_y"), format_cell("n/a", "peak_x")
    ('9.13', '-48', 'n/a')
    """
    if is_label(column):
        return text.replace("_", " ")
    try:
        value = float(text)
    except ValueError:
        return text
    if column in COORDINATE_COLUMNS:
        return format_plain(value)
    if column in WHOLE_COLUMNS:
        return f"{value:,.0f}"
    if column in P_COLUMNS:
        return format_p(text)
    return format_number(value) if column in STATISTIC_COLUMNS else text


def format_p(text: str) -> str:
    """Write a cell that holds a p, a very small one by what it is below.

    Examples
    --------
    >>> format_p("0.0123456"), format_p("1e-9"), format_p("n/a")
    ('0.0123', '< 0.0001', 'n/a')
    """
    if text == MISSING:
        return text
    return f"{float(text):.3g}" if float(text) >= SMALLEST_SHOWN_P else f"< {SMALLEST_SHOWN_P}"


def is_label(column: str) -> bool:
    """Tell whether a column of a table of clusters holds the labels of an atlas."""
    return column in ATLAS_WORDS


def describe_region(peak: Peak) -> str:
    """Write the region of a peak by the first atlas that has one; empty where there is none."""
    found = [(name, label) for name, label in peak.labels.items() if label]
    return f"{found[0][1].replace('_', ' ')} ({ATLAS_WORDS[found[0][0]]})" if found else ""


def format_measure(text: str, column: str) -> str:
    """Write a cell of the table of the quality of the inputs with few digits.

    Examples
    --------
    >>> format_measure("0.4873", "correlation"), format_measure("n/a", "distance"), format_measure("01", "subject")
    ('0.49', 'n/a', '01')
    """
    return format_number(float(text)) if column in MEASURE_COLUMNS and text != "n/a" else text


def is_numeric(column: str) -> bool:
    """Tell whether a column of a table of clusters holds numbers, to be set flush right."""
    return column == "cluster_id" or column in (*COORDINATE_COLUMNS, *WHOLE_COLUMNS, *STATISTIC_COLUMNS, *P_COLUMNS)


def name_column(column: str, test: str) -> str:
    """Return the heading of a column of a table of clusters, with its unit."""
    if column in STATISTIC_COLUMNS:
        return f"{STATISTIC_COLUMNS[column]} {test}"
    return {**COLUMN_WORDS, **ATLAS_WORDS}.get(column, column.replace("_", " "))


def name_map(kind: str) -> str:
    """Return what a contrast's map shows."""
    return MAP_WORDS.get(kind, kind)


def name_file(kind: str) -> str:
    """Return what a correction's file holds."""
    return FILE_WORDS.get(kind, kind)


def describe_coordinates(peak: Peak) -> str:
    """Write where a peak is, such as ``(42, -48, -20)``."""
    return "(" + ", ".join(format_plain(value) for value in peak.xyz) + ")"


def describe_test(contrast: ContrastRecord, model: ModelRecord) -> str:
    """Say which test a contrast is, its degrees of freedom, and what is known of its error."""
    if contrast.conjoined:
        return f"Conjunction of {', '.join(contrast.conjoined)}: the smallest z of all"
    dof = " and ".join(format_plain(value) for value in contrast.dof)
    test = f"{contrast.test} test with {dof} degree{'' if dof == '1' else 's'} of freedom"
    if model.variance_groups is not None:
        test += " (median over voxels, Welch-Satterthwaite)"
    if contrast.median_epsilon is not None:
        name = SPHERICITY_WORDS[model.sphericity]
        test += f", multiplied by each voxel's epsilon ({name}, median {contrast.median_epsilon:.2f})"
    if contrast.variance_ratio is not None:
        test += f"; its own error variance is {contrast.variance_ratio:.2f} times the pooled one (median over voxels)"
    return test


def describe_dof(contrast: ContrastRecord) -> str:
    """Write the test as papers do, such as ``t(120)`` or ``F(4, 120)``; of a conjunction its contrasts."""
    if contrast.conjoined:
        return f"conjunction of {', '.join(contrast.conjoined)}"
    return f"{contrast.test}({', '.join(format_plain(value) for value in contrast.dof)})"


def describe_level(inference: InferenceRecord) -> str:
    """Write the level of a correction: of p uncorrected, of q for the false discovery rate, else alpha."""
    kind = inference.permutation["Level"] if inference.permutation else inference.correction
    return f"{LEVEL_SYMBOLS.get(kind, 'α')} = {inference.alpha:g}"


def describe_correction(inference: InferenceRecord) -> str:
    """Say what a correction controls, and at which level."""
    if inference.permutation:
        words = PERMUTATION_WORDS[inference.permutation["Level"]]
    else:
        words = CORRECTION_WORDS.get(inference.correction, inference.correction)
    return f"{words}, {describe_level(inference)}"


def describe_tail(inference: InferenceRecord) -> str:
    """Say in which direction a test looked and what that does to its level."""
    half = f"{inference.alpha / 2:g} in each direction" if inference.permutation is None else "by absolute values"
    words = {
        "two-sided": f"two-sided, {half}",
        "positive": "positive effects only",
        "negative": "negative effects only",
    }
    return "upper tail" if inference.tail is None else words.get(inference.tail, inference.tail)


def describe_threshold(inference: InferenceRecord) -> str:
    """Write the threshold as a condition with its unit, such as ``|t| ≥ 3.37``."""
    if inference.threshold is None:
        level = inference.correction if inference.permutation is None else inference.permutation["Level"]
        if level == "uncorrected":
            return "each voxel's own"
        return "each contrast's own" if inference.conjoined and level != "fdr" else "none passed"
    if _is_by_voxel(inference):
        return "each voxel's own"
    unit, value = inference.threshold_unit, abs(inference.threshold)
    if unit in UNIT_WORDS:
        return f"{UNIT_WORDS[unit]} > {format_plain(value) if unit == 'voxels' else format_number(value)}"
    # A permutation threshold is itself one of the null distribution's values, and must be exceeded.
    is_exceeded = inference.permutation is not None and inference.permutation["Level"] == "voxel"
    above, below = (">", "<") if is_exceeded else ("≥", "≤")
    if inference.tail == "two-sided":
        return f"|{unit}| {above} {format_number(value)}"
    if inference.tail == "negative":
        return f"{unit} {below} -{format_number(value)}"
    return f"{unit} {above} {format_number(inference.threshold)}"


def _is_by_voxel(inference: InferenceRecord) -> bool:
    """Say whether each voxel has a null distribution of its own, so that one as large as a survivor may fail."""
    return inference.permutation is not None and inference.permutation["Level"] == "fdr"


def describe_threshold_z(inference: InferenceRecord) -> str:
    """Write the threshold as a z score; empty where there is none, or it is one."""
    if inference.threshold_z is None or inference.threshold_unit == "z" or _is_by_voxel(inference):
        return ""
    return f"z {format_number(abs(inference.threshold_z))}"


def describe_survivors(inference: InferenceRecord, test: str) -> str:
    """Say in one sentence what survived."""
    if inference.n_voxels == 0 or inference.peak is None:
        return "Nothing survived this threshold."
    voxels = format_count(inference.n_voxels, "voxel")
    clusters = format_count(inference.n_clusters, "cluster")
    verb = "survives" if inference.n_voxels == 1 else "survive"
    return (
        f"{voxels} in {clusters} {verb}; the peak is {test} = {format_number(inference.peak.value)} "
        f"at {describe_coordinates(inference.peak)} mm."
    )


def describe_outcome(run: RunRecord) -> str:
    """Say in one sentence in how many results anything survived."""
    inferences = [
        inference
        for node in run.nodes
        for model in node.models
        for contrast in model.results
        for inference in contrast.inferences
    ]
    n_some = sum(inference.n_voxels > 0 for inference in inferences)
    results = format_count(len(inferences), "result")
    if n_some == 0:
        return f"Nothing survived in any of {results} (contrast by correction)."
    return f"Voxels survive in {n_some} of {results} (contrast by correction)."


def describe_extent(inference: InferenceRecord) -> str:
    """Say what the extent filter did; empty where there was none."""
    if inference.cluster_extent <= 1:
        return ""
    rule = f"Clusters of fewer than {inference.cluster_extent} voxels are left out"
    if inference.removed_clusters == 0:
        return f"{rule}; there were none."
    clusters = format_count(inference.removed_clusters, "cluster")
    return f"{rule}: {clusters} with {format_count(inference.removed_voxels, 'voxel')} in all."


def describe_permutation(inference: InferenceRecord, test: str) -> str:
    """Say what was rearranged, how often, and whether the test is exact; empty for other corrections."""
    facts = inference.permutation
    if facts is None:
        return ""
    count = f"all {facts['Permutations']:,} distinct" if facts["Exhaustive"] else f"{facts['Permutations']:,} random"
    said = f"{count} {facts['Rearrangement']}" + ("" if facts["Exhaustive"] else f" (seed {facts['Seed']})")
    if facts["ExactTest"]:
        said += "; an exact test"
    if facts["Level"] in ("cluster-size", "cluster-mass") and inference.cluster_threshold is not None:
        height = f"|{test}|" if inference.tail == "two-sided" else test
        said += f"; clusters above {height} = {format_number(inference.cluster_threshold)}"
    if facts["Level"] == "cluster-mass":
        said += ", mass the sum of what exceeds it"
    if facts["Level"] == "tfce":
        said += f"; TFCE with E = {facts['TfceExtentPower']:g}, H = {facts['TfceHeightPower']:g}"
    if facts.get("TailApproximation"):
        accepted = "below p = 0.1 read off a fitted tail" if facts["TailAccepted"] else "no tail could be fitted"
        said += f"; {accepted} (generalised Pareto)"
    return said


def describe_random_field(inference: InferenceRecord, test: str) -> str:
    """Say what random field theory was based on; empty for other corrections."""
    if inference.smoothness_fwhm is None or inference.cluster_threshold is None:
        return ""
    size = " × ".join("∞" if value is None else f"{value:.1f}" for value in inference.smoothness_fwhm)
    height = f"|{test}|" if inference.tail == "two-sided" else test
    return (
        f"smoothness {size} mm FWHM, taken to be the same everywhere; extents are those of clusters above "
        f"{height} = {format_number(inference.cluster_threshold)}"
    )


def describe_neighbours(connectivity: int) -> str:
    """Say which voxels are neighbours in a cluster."""
    return f"{connectivity} neighbours ({NEIGHBOUR_WORDS.get(connectivity, 'of each voxel')})"


def describe_error(model: ModelRecord) -> str:
    """Say what the effects are judged against."""
    if model.error_term == "pooled":
        epsilon = "" if model.pooled_epsilon is None else f" (Huynh-Feldt epsilon, median {model.pooled_epsilon:.2f})"
        return f"one error term pooled over all conditions, which assumes compound symmetry{epsilon}"
    if model.error_term == "partitioned":
        return "an error term of its own for each contrast, from the scores of the subjects (partitioned)"
    if model.heterogeneity is not None:
        estimator = HETEROGENEITY_WORDS[model.heterogeneity]
        return (
            f"each map's known variance plus the variance between subjects ({estimator}), "
            "with Knapp and Hartung's scale"
        )
    if model.variance_groups is not None:
        return f"a residual variance for each level of {model.variance_groups} (Welch)"
    return "the residuals of the model"


def describe_terms(model: ModelRecord) -> str:
    """Write the model's formula, or the list of its variables."""
    return model.formula if model.formula else " + ".join(model.terms)


def describe_voxel_size(size: Sequence[float]) -> str:
    """Write the edges of a voxel, such as ``3 × 3 × 3 mm``."""
    return " × ".join(f"{edge:.3g}" for edge in size) + " mm"
