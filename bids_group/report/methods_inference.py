"""The sentences of the methods section about corrections for multiple comparisons."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bids_group.report.citations import Sentence
from bids_group.report.records import ContrastRecord, InferenceRecord, ModelRecord
from bids_group.report.wording import format_count, format_number, format_plain
from bids_group.vocabulary import CLUSTER_LEVELS

# What the familywise error of each level is controlled by the largest of.
LEVEL_WORDS = {
    "voxel": "the statistic (over voxels)",
    "cluster-size": "the extent of a cluster (over clusters)",
    "cluster-mass": "the mass of a cluster (over clusters)",
    "tfce": "TFCE (over voxels)",
}
SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class _Correction:
    """One correction of a model with the contrasts that it was done for."""

    tests: tuple[tuple[ContrastRecord, InferenceRecord], ...]

    @property
    def first(self) -> InferenceRecord:
        return self.tests[0][1]

    @property
    def contrasts(self) -> tuple[ContrastRecord, ...]:
        return tuple(contrast for contrast, _ in self.tests)

    @property
    def level(self) -> str:
        facts = self.first.permutation
        return self.first.correction if facts is None else str(facts["Level"])

    @property
    def tail(self) -> str | None:
        """Return the tail of its t tests; None where all are F."""
        return next((found.tail for _, found in self.tests if found.tail is not None), None)


def join_words(words: Sequence[str]) -> str:
    """Join words as a sentence does.

    Examples
    --------
    >>> join_words(["a"]), join_words(["a", "b"]), join_words(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def list_by_value(contrasts: Iterable[ContrastRecord], measure: Callable[[ContrastRecord], str]) -> str:
    """List a value of each contrast, each value once with the contrasts that have it."""
    found: dict[str, list[str]] = {}
    for contrast in contrasts:
        found.setdefault(measure(contrast), []).append(contrast.name)
    return "; ".join(f"{value} for {join_words(names)}" for value, names in found.items())


def describe_corrections(model: ModelRecord) -> list[Sentence]:
    """Describe every correction of a model.

    Parameters
    ----------
    model : ModelRecord

    Returns
    -------
    list of Sentence
        Each of which can stand alone.
    """
    corrections = _list_corrections(model)
    sentences = [_describe_parametric(one, model) for one in corrections if one.first.permutation is None]
    for family in _group_permutations(corrections):
        sentences += _describe_permutation(family, model)
    for correction in corrections:
        sentences += _describe_extent(correction)
    return list(dict.fromkeys(sentences))


def describe_multiplicity(model: ModelRecord) -> list[Sentence]:
    """Say how many tests there were, and across which no correction was made.

    Parameters
    ----------
    model : ModelRecord
    """
    counts = {len(contrast.inferences) for contrast in model.contrasts}
    n_tests = sum(len(contrast.inferences) for contrast in model.contrasts)
    n_contrasts = format_count(len(model.contrasts), "contrast")
    tested = f"{n_contrasts} × {format_count(max(counts), 'threshold')}" if len(counts) == 1 else n_contrasts
    said = "Every correction holds within one contrast, not across contrasts or thresholds"
    sentences = [Sentence(f"{said}; {tested} gave {format_count(n_tests, 'test')}")]
    if {"positive", "negative"} <= {found.tail for contrast in model.contrasts for found in contrast.inferences}:
        doubled = "Positive and negative effects were tested apart, each at its own level, which doubles that level"
        sentences.append(Sentence(doubled))
    return sentences


def _list_corrections(model: ModelRecord) -> list[_Correction]:
    tests: dict[str, list[tuple[ContrastRecord, InferenceRecord]]] = {}
    for contrast in model.contrasts:
        for found in contrast.inferences:
            tests.setdefault(found.label, []).append((contrast, found))
    return [_Correction(tuple(pairs)) for pairs in tests.values()]


def _state_scope(contrasts: Sequence[ContrastRecord], model: ModelRecord) -> str:
    """Name the contrasts that something is about; nothing where they are all."""
    names = [contrast.name for contrast in contrasts]
    return "" if len(names) == len(model.contrasts) else f" for {join_words(names)}"


def _describe_tail(correction: _Correction) -> str:
    if correction.tail is None:
        return "upper tail"
    words = {"two-sided": "two-sided", "positive": "positive effects", "negative": "negative effects"}[correction.tail]
    has_f = any(found.tail is None for _, found in correction.tests)
    return f"{words}; upper tail of F" if has_f else words


def _describe_parametric(correction: _Correction, model: ModelRecord) -> Sentence:
    found, scope = correction.first, _state_scope(correction.contrasts, model)
    level = f"{found.alpha:g} ({_describe_tail(correction)}){scope}"
    if found.correction == "none":
        return Sentence(f"Voxels were shown at an uncorrected p ≤ {level}")
    if found.correction == "fdr":
        said = f"The false discovery rate over voxels was controlled at q = {level}"
        return Sentence(f"{said} by the procedure of Benjamini and Hochberg", ("benjaminihochberg1995",))
    familywise = f"The familywise error over voxels was controlled at α = {level}"
    if found.correction == "bonferroni":
        return Sentence(f"{familywise} by Bonferroni's correction for {format_count(model.mask.n_voxels, 'voxel')}")
    by = "by random field theory, or by Bonferroni's correction where that is less strict"
    smoothness = (
        f"smoothness, taken to be the same everywhere, was that of the residuals: {_list_smoothness(correction)}"
    )
    extents = f"clusters above {_describe_forming(correction, model)} have a familywise p of their extent"
    return Sentence(f"{familywise} {by}; {smoothness}; {extents}", ("worsley1996", "kiebel1999", "friston1994"))


def _list_smoothness(correction: _Correction) -> str:
    by_name = {contrast.name: _write_smoothness(found) for contrast, found in correction.tests}
    return list_by_value(correction.contrasts, lambda one: by_name[one.name])


def _write_smoothness(found: InferenceRecord) -> str:
    sizes = " × ".join("∞" if value is None else f"{value:.1f}" for value in found.smoothness_fwhm or ())
    return f"{sizes} mm FWHM" + (f" ({format_plain(found.resels)} resels)" if found.resels is not None else "")


def _describe_forming(correction: _Correction, model: ModelRecord) -> str:
    """Write the cluster-forming threshold as it was asked for, and what it is of each test."""
    heights = {contrast.name: _write_height(contrast, found, model) for contrast, found in correction.tests}
    asked = join_words([f"{unit} = {value:g}" for unit, value in (correction.first.cluster_forming or {}).items()])
    values = list_by_value(correction.contrasts, lambda one: heights[one.name])
    return f"a cluster-forming threshold of {asked} ({values})"


def _write_height(contrast: ContrastRecord, found: InferenceRecord, model: ModelRecord) -> str:
    is_in_z = found.permutation is not None and _compares_z(model)
    symbol = "z" if is_in_z else contrast.test
    value = format_number(abs(found.cluster_threshold or 0.0))
    if found.tail == "negative":
        return f"{symbol} < −{value}"
    return f"{f'|{symbol}|' if found.tail == 'two-sided' else symbol} > {value}"


def _compares_z(model: ModelRecord) -> bool:
    """Tell whether degrees of freedom differ between voxels, so that maxima are of z."""
    return model.mask.min_coverage < 1 or model.variance_groups is not None


def _describe_extent(correction: _Correction) -> list[Sentence]:
    found = correction.first
    if found.cluster_extent <= 1:
        return []
    removed = sum(one.removed_clusters for _, one in correction.tests)
    said = f"Of the result {found.label} clusters of fewer than {found.cluster_extent} voxels are not shown"
    return [Sentence(f"{said} ({format_count(removed, 'cluster')} in all contrasts)")]


def _group_permutations(corrections: Sequence[_Correction]) -> list[list[_Correction]]:
    """Put the levels of one permutation test together."""
    families: dict[object, list[_Correction]] = {}
    for one in corrections:
        facts = one.first.permutation
        if facts is not None:
            names = tuple(contrast.name for contrast in one.contrasts)
            key = (one.first.alpha, one.tail, facts["Seed"], facts["Permutations"], one.first.cluster_extent, names)
            families.setdefault(key, []).append(one)
    return list(families.values())


def _describe_permutation(family: Sequence[_Correction], model: ModelRecord) -> list[Sentence]:
    return [
        *_describe_rearrangements(family[0], model),
        *_describe_method(model),
        *_describe_levels(family, model),
        *_describe_definitions(family, model),
        *_describe_voxel_p(family, model),
        *_describe_tail_fits(family),
        *_find_hopeless(family[0]),
    ]


def _describe_rearrangements(correction: _Correction, model: ModelRecord) -> list[Sentence]:
    """Say what was rearranged, how often, and whether the test is exact."""
    told: dict[str, list[tuple[ContrastRecord, InferenceRecord]]] = {}
    for contrast, found in correction.tests:
        facts = found.permutation or {}
        number = f"{facts['Permutations']:,}"
        count = f"all {number} distinct" if facts["Exhaustive"] else f"{number} random"
        exact = ", which makes the test exact" if facts["ExactTest"] else ""
        said = f"{count} {facts['Rearrangement']}, the data as they are among them{exact}"
        told.setdefault(said, []).append((contrast, found))
    in_blocks = ("winkler2015",) if model.blocks or model.error_term == "pooled" else ()
    cited = ("nicholsholmes2002", "winkler2014", *in_blocks)
    sentences = []
    for said, tests in told.items():
        scope = _state_scope([contrast for contrast, _ in tests], model)
        drawn = _describe_draws(_Correction(tuple(tests)))
        sentences.append(Sentence(f"The null distribution{scope} was that of {said}{drawn}", cited))
    return sentences


def _describe_draws(correction: _Correction) -> str:
    """Say how random rearrangements were drawn, and of how many; nothing where all were visited."""
    facts = {contrast.name: found.permutation or {} for contrast, found in correction.tests}
    first = facts[correction.contrasts[0].name]
    if first["Exhaustive"]:
        return ""
    counts = {name: _write_distinct(one["DistinctRearrangements"]) for name, one in facts.items()}
    same = len(set(counts.values())) == 1
    listed = next(iter(counts.values())) if same else list_by_value(correction.contrasts, lambda one: counts[one.name])
    return f" (seed {first['Seed']}; distinct ones: {listed})"


def _write_distinct(count: int | str) -> str:
    """Write a number of rearrangements; very large ones are stored as texts such as ``6.144e+30``."""
    if isinstance(count, int):
        return f"{count:,}"
    mantissa, _, exponent = count.partition("e+")
    return f"{mantissa} × 10{exponent.translate(SUPERSCRIPTS)}"


def _describe_method(model: ModelRecord) -> list[Sentence]:
    """Say how the statistic of a rearrangement was computed."""
    sentences = [
        Sentence(
            "What was rearranged is the part of the design that the contrast tests, orthogonalised to the rest "
            "(Smith's method), and the statistic was computed anew each time",
            ("dekker2007", "winkler2014"),
        )
    ]
    if model.heterogeneity is not None:
        kept = "Variances stayed with their maps, and the variance between subjects was estimated anew each time"
        sentences.append(Sentence(kept))
    if _compares_z(model):
        why = "Because degrees of freedom differ between voxels"
        sentences.append(Sentence(f"{why}, each rearranged statistic was turned into the z of the same tail"))
    return sentences


def _describe_levels(family: Sequence[_Correction], model: ModelRecord) -> list[Sentence]:
    """Say of which largest values the null distributions are, and what a corrected p is."""
    levels = [LEVEL_WORDS[one.level] for one in family if one.level in LEVEL_WORDS]
    if not levels:
        return []
    first = family[0]
    level = f"{first.first.alpha:g} ({_describe_tail(first)})"
    said = f"The familywise error was controlled at α = {level}{_state_scope(first.contrasts, model)}"
    signs = ", of both signs," if first.tail == "two-sided" else ""
    ways = f"by the largest value in the search volume{signs} of {join_words(levels)}"
    share = "the share of rearrangements whose largest value is as large as the observed one or larger"
    return [Sentence(f"{said} {ways}"), Sentence(f"A familywise p by permutation is {share}")]


def _describe_definitions(family: Sequence[_Correction], model: ModelRecord) -> list[Sentence]:
    """Define clusters, their mass and TFCE where they were tested."""
    sentences = []
    clusters = [one for one in family if one.level in CLUSTER_LEVELS]
    if clusters:
        signs = (
            ", positive and negative effects apart and the largest of both taken"
            if clusters[0].tail == "two-sided"
            else ""
        )
        forming = _describe_forming(clusters[0], model)
        sentences.append(Sentence(f"Clusters tested by permutation were those above {forming}{signs}"))
    if any(one.level == "cluster-mass" for one in clusters):
        part = "what the absolute statistic exceeds the cluster-forming threshold by"
        said = f"The mass of a cluster is the sum over its voxels of {part}"
        sentences.append(Sentence(said, ("bullmore1999",)))
    return sentences + [_describe_tfce(one) for one in family if one.level == "tfce"]


def _describe_tfce(correction: _Correction) -> Sentence:
    facts = correction.first.permutation or {}
    powers = f"E = {facts['TfceExtentPower']:g} and H = {facts['TfceHeightPower']:g}"
    root = " (of F: of its square root)" if any(contrast.test == "F" for contrast in correction.contrasts) else ""
    how = f"extents in voxels, integrated exactly from 0{root}"
    return Sentence(f"Threshold-free cluster enhancement (TFCE) had {powers}, {how}", ("smithnichols2009",))


def _describe_voxel_p(family: Sequence[_Correction], model: ModelRecord) -> list[Sentence]:
    sentences = []
    for one in family:
        level = f"{one.first.alpha:g} ({_describe_tail(one)}){_state_scope(one.contrasts, model)}"
        if one.level == "uncorrected":
            sentences.append(Sentence(f"Each voxel's own permutation p is shown uncorrected at p ≤ {level}"))
        if one.level == "fdr":
            said = f"The false discovery rate over permutation p was controlled at q = {level}"
            sentences.append(Sentence(said, ("benjaminihochberg1995",)))
    return sentences


def _describe_tail_fits(family: Sequence[_Correction]) -> list[Sentence]:
    """Say where small p were read off a fitted tail."""
    accepted: list[tuple[str, Mapping[str, Any]]] = []
    refused: list[tuple[str, Mapping[str, Any]]] = []
    for contrast, found in (pair for one in family for pair in one.tests):
        facts = found.permutation or {}
        if facts.get("TailApproximation"):
            (accepted if facts["TailAccepted"] else refused).append((f"{contrast.name}: {found.label}", facts))
    sentences = []
    if accepted:
        names, below = join_words([name for name, _ in accepted]), accepted[0][1]["TailBelowP"]
        said = (
            f"Permutation p below {below:g} were read off a generalised Pareto distribution fitted to the null's tail"
        )
        sentences.append(Sentence(f"{said} ({names})", ("winkler2016", "knijnenburg2009")))
    if refused:
        names = join_words([name for name, _ in refused])
        said = "No generalised Pareto distribution fitted the tail, so that the permutation p stayed as they are"
        sentences.append(Sentence(f"{said} ({names})", ("winkler2016", "knijnenburg2009")))
    return sentences


def _find_hopeless(correction: _Correction) -> list[Sentence]:
    """Name the contrasts of which the smallest possible p is above the level."""
    smallest = {contrast.name: (found.permutation or {})["SmallestPossibleP"] for contrast, found in correction.tests}
    return [
        Sentence(f"No p of {name} can be below {p:.3g} with these rearrangements, so that nothing could be significant")
        for name, p in smallest.items()
        if p > correction.first.alpha
    ]
