"""How results in regions of interest are said: what was found, the rows of the table, the sentences of the methods."""

from collections.abc import Mapping
from typing import Any

from bids_group.report.citations import Sentence
from bids_group.report.folder import Table
from bids_group.report.methods_inference import join_words
from bids_group.report.records import MISSING, ModelRecord, RegionRecord
from bids_group.report.wording import (
    ATLAS_WORDS,
    format_count,
    format_number,
    format_p,
    format_plain,
)

MOST_ROWS = 60  # of the table in the report
MOST_NAMED = 8
NO_BREAK = "\N{NO-BREAK SPACE}"
P_COLUMNS = {"p_fwe": "family-wise over regions, by permutation", "p_fdr": "false discovery rate over regions"}
HEADINGS = ("Region", "Source", "Voxels", "Contrast", "Test", "Statistic", "dof")
EFFECT_HEADINGS = ("Effect", "95% CI", "Effect size, 95% CI")
P_HEADINGS = {"p": "p", "p_fdr": "p (FDR)", "p_fwe": "p (FWE)"}
SIZES = {"d": "d", "etasq": "η²"}
METHOD_CITATIONS = {"p_fwe": ("nicholsholmes2002", "winkler2014"), "p_fdr": ("benjaminihochberg1995",)}

Row = Mapping[str, str]


def read_rows(regions: RegionRecord) -> list[Row]:
    """Return the rows of the table of tests, by column."""
    return [dict(zip(regions.table.columns, row, strict=True)) for row in regions.table.rows]


def choose_p(regions: RegionRecord) -> str:
    """Return the column of the p that decides: familywise where there was a permutation test, else adjusted."""
    return "p_fwe" if regions.permutation else "p_fdr"


def describe_regions_found(regions: RegionRecord) -> list[tuple[str, str]]:
    """Say of each contrast in which regions it is significant.

    Returns
    -------
    list of (str, str)
        The label of the contrast, and what was found.
    """
    column = choose_p(regions)
    found: dict[str, list[str]] = {}
    for row in read_rows(regions):
        passed = found.setdefault(row["contrast"], [])
        if row[column] != MISSING and float(row[column]) <= regions.alpha:
            passed.append(row["roi"])
    return [(contrast, _say_found(names, regions, column)) for contrast, names in found.items()]


def _say_found(names: list[str], regions: RegionRecord, column: str) -> str:
    n_tested, level = format_count(regions.n_tested, "region"), f"p ≤ {regions.alpha:g} ({P_COLUMNS[column]})"
    if not names:
        return f"none of {n_tested} at {level}"
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{len(names)} of {n_tested} at {level}: {', '.join(names[:MOST_NAMED])}{more}"


def excerpt_regions(regions: RegionRecord) -> Table:
    """Return the table of tests as the report shows it; of many rows those with the smallest p, in their order."""
    rows = read_rows(regions)
    order = sorted(range(len(rows)), key=lambda i: (_to_number(rows[i]["p"]), i))
    ps = [name for name in P_HEADINGS if any(row[name] != MISSING for row in rows)]
    shown = [rows[i] for i in sorted(order[:MOST_ROWS])]
    cells = [(*_format_test(row), *(format_p(row[name]) for name in ps), *_format_effect(row)) for row in shown]
    headings = (*HEADINGS, *(P_HEADINGS[name] for name in ps), *EFFECT_HEADINGS)
    return Table(regions.table.file, headings, tuple(cells))


def _to_number(cell: str) -> float:
    return float("inf") if cell == MISSING else float(cell)


def _format_test(row: Row) -> tuple[str, ...]:
    voxels = NO_BREAK.join((row["n_voxels_in_mask"], "of", row["n_voxels"]))
    first = (row["roi"], _name_source(row["source"]), voxels, row["contrast"], row["test"])
    if row["statistic"] == MISSING:
        return (*first, MISSING, MISSING)
    dof = [format_plain(round(float(row[name]), 2)) for name in ("dof_effect", "dof")]
    return (*first, format_number(float(row["statistic"])), ", ".join(dof) if row["test"] == "F" else dof[1])


def _format_effect(row: Row) -> tuple[str, str, str]:
    """Write the effect with its interval and the effect size with its own, or why there are none."""
    if row["reason"] != MISSING:
        return MISSING, MISSING, row["reason"]
    effect, low, high = (_format_short(row[name]) for name in ("effect", "ci_low", "ci_high"))
    interval = MISSING if low == MISSING else f"[{low},{NO_BREAK}{high}]"
    for name, words in SIZES.items():
        if row[name] != MISSING:
            value, lower, upper = (_format_short(row[f"{name}{end}"]) for end in ("", "lower", "upper"))
            return effect, interval, f"{words} = {value} [{lower},{NO_BREAK}{upper}]"
    return effect, interval, MISSING


def _format_short(cell: str) -> str:
    return cell if cell == MISSING else f"{float(cell):.3g}"


def _name_source(source: str) -> str:
    return ATLAS_WORDS.get(source, source)


def describe_regions(model: ModelRecord) -> list[Sentence]:
    """Write the sentences of the methods section about regions of interest; none where there are none."""
    regions = model.regions
    if regions is None:
        return []
    where = "; ".join(_describe_source(source) for source in regions.sources)
    of = format_count(regions.n_regions, "region")
    averaged = f"Each map was averaged over the analysed voxels of {of} of interest ({where})"
    left = regions.n_regions - regions.n_tested
    sentences = [Sentence(averaged + (f", of which {left:,} had none or could not be tested" if left else ""))]
    sentences.append(Sentence(f"The model was fitted to these means, {_describe_tail(regions)}"))
    if model.heterogeneity is not None:
        sentences.append(Sentence("The standard error of a mean was taken to be the mean of those of its voxels"))
    fdr = "The false discovery rate over regions was controlled within each contrast"
    return [*sentences, *_describe_permutations(regions), Sentence(fdr, METHOD_CITATIONS["p_fdr"])]


def _describe_tail(regions: RegionRecord) -> str:
    tail = "two-sided" if regions.tail == "two-sided" else f"for {regions.tail} effects"
    return f"with the same error term and contrasts, t tests {tail}, at a level of {regions.alpha:g}"


def _describe_source(source: Mapping[str, Any]) -> str:
    if "Atlas" in source:
        least = source.get("LeastProbabilityPercent")
        chosen = "" if least is None else f", each voxel's most probable region of at least {least:g}%"
        return f"{ATLAS_WORDS[source['Atlas']]} atlas{chosen}"
    if "Image" in source:
        resampled = "" if source["Resampling"] == "none" else ", by nearest neighbour"
        return f"the image {source['Image']}{resampled}"
    return f"spheres of {source['RadiusMm']:g} mm radius"


def _describe_permutations(regions: RegionRecord) -> list[Sentence]:
    """Say what the null distribution over regions was, once for contrasts that share it."""
    said: dict[str, list[str]] = {}
    for contrast, facts in regions.permutation.items():
        count = f"all {facts['Permutations']:,}" if facts["Exhaustive"] else f"{facts['Permutations']:,} random"
        seed = "" if facts["Exhaustive"] else f" (seed {facts['Seed']})"
        exact = ", which makes the test exact" if facts["ExactTest"] else ""
        said.setdefault(f"{count} {facts['Rearrangement']}{exact}{seed}", []).append(contrast)
    n_contrasts = len(regions.permutation)
    return [
        Sentence(
            "The family-wise error over regions was controlled by the largest statistic over regions in "
            + text
            + ("" if len(names) == n_contrasts else f" for {join_words(names)}"),
            METHOD_CITATIONS["p_fwe"],
        )
        for text, names in said.items()
    ]
