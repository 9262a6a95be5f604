"""The sentences of the methods section about the model: design, errors, contrasts, effect sizes, clusters."""

from collections.abc import Mapping
from fractions import Fraction

from bids_group.report.citations import Sentence
from bids_group.report.methods_inference import join_words, list_by_value
from bids_group.report.records import ContrastRecord, ModelRecord
from bids_group.report.wording import (
    ATLAS_WORDS,
    HETEROGENEITY_WORDS,
    NEIGHBOUR_WORDS,
    SPHERICITY_WORDS,
    describe_terms,
    format_count,
    format_plain,
)

MOST_LEVELS = 4  # of a factor, to be named one by one
MOST_ROWS = 8  # of a contrast, likewise
LARGEST_DENOMINATOR, SAME_WEIGHT = 360, 1e-9  # a weight this near to such a fraction is written as one
MINUS = "−"
SOMETHING_FOUND = "for each, voxels passed at least one of the thresholds"
ATLAS_CITATIONS = {
    "aal": ("tzouriomazoyer2002", "rolls2015"),
    "aicha": ("joliot2015",),
    "desikan_killiany": ("desikan2006", "fischl2004"),
    "destrieux": ("destrieux2009", "fischl2004"),
    "harvard_oxford": ("makris2006", "frazier2005", "desikan2006", "goldstein2007"),
    "juelich": ("eickhoff2005", "eickhoff2006", "eickhoff2007"),
    "marsatlas": ("auzias2016",),
    "neuromorphometrics": ("landman2012", "marcus2007"),
    "talairach_ba": ("lancaster2000", "lancaster2007", "talairach1988"),
    "talairach_gyrus": ("lancaster2000", "lancaster2007", "talairach1988"),
}


def describe_design(model: ModelRecord) -> list[Sentence]:
    """Describe the model and its design matrix."""
    design = model.design
    kind = "a general linear model" if model.heterogeneity is None else "a random-effects meta-analysis"
    fitted = f"The model {describe_terms(model)} was fitted in each voxel as {kind}"
    by = " by ordinary least squares" if model.heterogeneity is None else ""
    size = f"{format_count(design.n_rows, 'row')} and {format_count(len(design.columns), 'column')}"
    whose = "the subjects' scores have" if model.error_term == "partitioned" else "the maps have"
    return [
        Sentence(f"{fitted}{by}"),
        Sentence(f"The design matrix has {size}: {join_words(_list_columns(model))}"),
        Sentence(f"Its rank is {design.rank}; {whose} {format_plain(design.residual_dof)} residual degrees of freedom"),
    ]


def _list_columns(model: ModelRecord) -> list[str]:
    """List the columns of the design, those of a factor with many levels by their number."""
    factors: dict[str, list[str]] = {}
    for name in model.design.columns:
        factor, bracket, _ = name.partition("[")
        factors.setdefault(factor if bracket and ":" not in name else name, []).append(name)
    listed: dict[str, list[str]] = {}  # by how many maps they are about
    for factor, names in factors.items():
        counts = {model.design.indicators.get(name) for name in names}
        if len(names) > MOST_LEVELS and len(counts) == 1:
            listed.setdefault(_count_maps(*counts), []).append(f"one for each of {len(names)} levels of {factor}")
        else:
            for name in names:
                listed.setdefault(_count_maps(model.design.indicators.get(name)), []).append(name)
    return [f"{join_words(names)}{count}" for count, names in listed.items()]


def _count_maps(count: int | None) -> str:
    return "" if count is None else f" ({format_count(count, 'map')} each)"


def describe_error_term(model: ModelRecord) -> list[Sentence]:
    """Describe what effects were tested against, and what that assumes."""
    if model.error_term == "pooled":
        return [_describe_pooled_error(model)]
    if model.error_term == "partitioned":
        said = "Each contrast was tested against the variance between subjects of its own scores (partitioned errors)"
        return [Sentence(said), *_describe_sphericity(model)]
    if model.heterogeneity is not None:
        return _describe_meta(model)
    if model.variance_groups is not None:
        tests = {contrast.test for contrast in model.contrasts}
        cited = (*(("welch1947",) if "t" in tests else ()), *(("welch1951",) if "F" in tests else ()), "winkler2014")
        said = f"Each level of {model.variance_groups} had a residual variance of its own (Welch)"
        return [Sentence(f"{said}, with Welch-Satterthwaite degrees of freedom", cited)]
    return [Sentence("Effects were tested against the residual variance, taken to be the same for all subjects")]


def _describe_pooled_error(model: ModelRecord) -> Sentence:
    said = (
        "All effects were tested against one residual variance pooled over conditions, which assumes compound symmetry"
    )
    if model.pooled_epsilon is None:
        return Sentence(said)
    epsilon = f"Huynh-Feldt epsilon, median over voxels: {model.pooled_epsilon:.2f}"
    return Sentence(f"{said} ({epsilon})", ("huynhfeldt1976", "lecoutre1991"))


def _describe_meta(model: ModelRecord) -> list[Sentence]:
    estimator = model.heterogeneity or ""
    key = {"reml": "viechtbauer2005", "dersimonian-laird": "dersimonianlaird1986"}[estimator]
    weights = "Maps were weighted by the inverse of their known variance plus the variance between subjects"
    return [
        Sentence(f"{weights}, estimated by the method of {HETEROGENEITY_WORDS[estimator]}", (key,)),
        Sentence("Tests had the scale and degrees of freedom of Knapp and Hartung", ("knapphartung2003",)),
    ]


def _describe_sphericity(model: ModelRecord) -> list[Sentence]:
    corrected = [contrast for contrast in model.contrasts if contrast.median_epsilon is not None]
    if corrected:
        medians = list_by_value(corrected, lambda one: f"{one.median_epsilon:.2f}")
        cited = {
            "greenhouse-geisser": ("greenhousegeisser1959",),
            "huynh-feldt": ("huynhfeldt1976", "lecoutre1991"),
        }[model.sphericity]
        name = SPHERICITY_WORDS[model.sphericity]
        said = "Degrees of freedom of F tests of several within-subject directions were multiplied by each voxel's"
        return [Sentence(f"{said} {name} epsilon (median over voxels: {medians})", cited)]
    if model.sphericity == "none" and any(contrast.test == "F" for contrast in model.contrasts):
        return [Sentence("No correction for departures from sphericity was made")]
    return []


def describe_contrasts(model: ModelRecord) -> list[Sentence]:
    """State every contrast with its weights, its degrees of freedom and whether anything was found."""
    sentences = [Sentence(f"{one.name} ({one.test} test): {_write_rows(one)}") for one in model.contrasts]
    dof = list_by_value(model.contrasts, lambda one: " and ".join(format_plain(value) for value in one.dof))
    differ = model.mask.min_coverage < 1 or model.variance_groups is not None
    median = " (medians over voxels)" if differ else ""
    epsilon = " before epsilon" if any(one.median_epsilon is not None for one in model.contrasts) else ""
    sentences.append(Sentence(f"Degrees of freedom{epsilon}{median}: {dof}"))
    judged = [contrast for contrast in model.contrasts if contrast.variance_ratio is not None]
    if judged:
        ratios = list_by_value(judged, lambda one: f"{one.variance_ratio:.2f}")
        sentences.append(
            Sentence(f"A contrast's own error variance over the pooled one (median over voxels): {ratios}")
        )
    nothing = [one.name for one in model.contrasts if not any(found.n_voxels for found in one.inferences)]
    shown = f"no voxel passed any of the thresholds for {join_words(nothing)}" if nothing else SOMETHING_FOUND
    sentences.append(Sentence(f"These are all contrasts that were tested; {shown}"))
    return sentences


def _write_rows(contrast: ContrastRecord) -> str:
    rows = contrast.weights
    if len(rows) > MOST_ROWS:
        return f"{len(rows)} rows, which the table of contrasts lists"
    return "; ".join(write_weights(row) for row in rows)


def write_weights(weights: Mapping[str, float]) -> str:
    """Write a weighted sum, columns of the same weight in one bracket, such as ``1/2 (a + b) − c``."""
    groups: dict[float, list[str]] = {}
    for name, weight in weights.items():
        same = next((one for one in groups if abs(one - weight) < SAME_WEIGHT), weight)
        groups.setdefault(same, []).append(name)
    said = ""
    for weight, names in groups.items():
        sign = MINUS if weight < 0 else "+"
        factor = "" if abs(weight) == 1 else f"{_write_weight(abs(weight))} "
        term = factor + (names[0] if len(names) == 1 else f"({' + '.join(names)})")
        said += f" {sign} {term}" if said else (f"{MINUS}{term}" if weight < 0 else term)
    return said


def _write_weight(weight: float) -> str:
    fraction = Fraction(weight).limit_denominator(LARGEST_DENOMINATOR)
    return str(fraction) if abs(float(fraction) - weight) < SAME_WEIGHT else f"{weight:.4g}"


def describe_conjunctions(model: ModelRecord) -> list[Sentence]:
    """Say which conjunctions were made of which contrasts, and what their p are."""
    if not model.conjunctions:
        return []
    names = {contrast.label: contrast.name for contrast in model.contrasts}
    made = [
        f"{one.name} (of {join_words([names[label] for label in one.conjoined])}, under {_list_labels(one)})"
        for one in model.conjunctions
    ]
    said = "against the null hypothesis that at least one of its contrasts has no effect (minimum statistic)"
    sentences = [
        Sentence(f"Conjunctions were tested as well: {'; '.join(made)}; each {said}", ("nichols2005",)),
        Sentence(
            "The p of a conjunction is the largest of its contrasts', and 1 where two-sided t have different signs"
        ),
    ]
    levels = {
        (found.permutation or {}).get("Level", found.correction)
        for one in model.conjunctions
        for found in one.inferences
    }
    if "fdr" in levels:
        adjusted = "Of the false discovery rate, the largest uncorrected p was adjusted anew"
        sentences.append(Sentence(adjusted, ("benjaminiheller2008",)))
    return sentences


def _list_labels(contrast: ContrastRecord) -> str:
    return join_words([found.label for found in contrast.inferences])


def describe_effect_sizes(model: ModelRecord) -> list[Sentence]:
    """Name the effect sizes that were computed."""
    kinds = {kind for contrast in model.contrasts for kind in contrast.maps}
    sizes = {"d": ("Cohen's d", "t", "steigerfouladi1997"), "etasq": ("Partial eta squared", "F", "smithson2001")}
    interval = "was computed with its 95% confidence interval from the noncentral"
    return [
        Sentence(f"{name} {interval} {test} distribution", (key,))
        for kind, (name, test, key) in sizes.items()
        if kind in kinds
    ]


def describe_clusters(model: ModelRecord) -> list[Sentence]:
    """Say which voxels are neighbours."""
    return [
        Sentence(
            f"Clusters join voxels that share {NEIGHBOUR_WORDS[model.connectivity]} ({model.connectivity} neighbours)"
        )
    ]


def describe_atlases(model: ModelRecord) -> list[Sentence]:
    """Name the atlases of the labels."""
    if not model.atlas_names:
        return []
    names = join_words([ATLAS_WORDS[name] for name in model.atlas_names])
    keys = dict.fromkeys(key for name in model.atlas_names for key in ATLAS_CITATIONS[name])
    package = f"{model.atlas_package['Name']} {model.atlas_package['Version']}"
    plural = "atlas" if len(model.atlas_names) == 1 else "atlases"
    return [
        Sentence(f"Peaks and clusters were labelled by the {plural} {names}, from {package}", ("notter2019", *keys))
    ]
