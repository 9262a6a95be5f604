"""How results in regions of interest are said: what was found, the rows of the table, the sentences of the methods."""

from collections.abc import Mapping
from typing import Any

from bids_group.report.citations import Sentence
from bids_group.report.collect import MISSING, ModelRecord, RegionRecord, Table
from bids_group.report.methods_inference import join_words
from bids_group.report.wording import (
    ATLAS_WORDS,
    format_count,
    format_number,
    format_p,
    format_plain,
)

MOST_ROWS = 60  # of the table in the report
MOST_NAMED = 8
P_COLUMNS = {"p_fwe": "family-wise over regions, by permutation", "p_fdr": "false discovery rate over regions"}
HEADINGS = ("Region", "Source", "Voxels", "Contrast", "Test", "Statistic", "dof", "Effect, 95% CI", "Effect size")
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
    column, found = choose_p(regions), {}
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
    kept = sorted(order[:MOST_ROWS])
    ps = [name for name in P_HEADINGS if any(row[name] != MISSING for row in rows)]
    cells = [(*_format_row(rows[i]), *(format_p(rows[i][name]) for name in ps)) for i in kept]
    return Table(regions.table.file, (*HEADINGS, *(P_HEADINGS[name] for name in ps)), tuple(cells))


def _to_number(cell: str) -> float:
    return float("inf") if cell == MISSING else float(cell)


def _format_row(row: Row) -> tuple[str, ...]:
    voxels = f"{row['n_voxels_in_mask']} of {row['n_voxels']}"
    first = (row["roi"], _name_source(row["source"]), voxels, row["contrast"], row["test"])
    if row["statistic"] == MISSING:
        return (*first, MISSING, MISSING, MISSING, row["reason"])
    dof = [format_plain(round(float(row[name]), 2)) for name in ("dof_effect", "dof")]
    return (
        *first,
        format_number(float(row["statistic"])),
        ", ".join(dof) if row["test"] == "F" else dof[1],
        _format_interval(row, ("effect", "ci_low", "ci_high")),
        _format_size(row),
    )


def _format_interval(row: Row, names: tuple[str, str, str]) -> str:
    value, low, high = (row[name] if row[name] == MISSING else f"{float(row[name]):.3g}" for name in names)
    return MISSING if value == MISSING else f"{value} [{low}, {high}]"


def _format_size(row: Row) -> str:
    for name, words in SIZES.items():
        if row[name] != MISSING:
            return f"{words} = {_format_interval(row, (name, f'{name}lower', f'{name}upper'))}"
    return MISSING


def _name_source(source: str) -> str:
    return ATLAS_WORDS.get(source, source)


def describe_regions(model: ModelRecord) -> list[Sentence]:
    """Write the sentences of the methods section about regions of interest; none where there are none."""
    regions = model.regions
    if regions is None:
        return []
    where = join_words([_describe_source(source) for source in regions.sources])
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
