"""The tables and figures of docs/validation.md, from what stands in validation/results.

    python -m validation.report

What stands between two comments ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->`` of the page is written anew; the
words around them are not touched.
"""

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from validation import pictures
from validation.alarms import TABLE as ALARMS
from validation.designs import DESIGNS
from validation.judging import FAMILYWISE, Verdict, compute_attained, judge
from validation.power import SCENARIOS as POWER_SCENARIOS
from validation.power import TABLE as POWER
from validation.rates import TABLE as RATES
from validation.real_nulls import TABLE as REAL
from validation.real_nulls import count_false, measure_uniformity
from validation.scenarios import LEVELS, REGIONAL, SCENARIOS, VOXEL, Scenario

DOCS = Path(__file__).parents[1] / "docs"
PAGE, IMAGES, PAGE_WIDTH = DOCS / "validation.md", DOCS / "images", 120
TITLES = {
    "voxel": "voxel",
    "cluster-size": "extent",
    "cluster-mass": "mass",
    "tfce": "TFCE",
    "permutation-fdr": "perm. FDR",
    "bonferroni": "Bonferroni",
    "rft": "RFT height",
    "rft-cluster": "RFT extent",
    "fdr": "FDR",
    "roi": "permutation over regions",
    "roi-fdr": "FDR over regions",
}
GROUPS = {
    "By permutation:": LEVELS[:4],
    "By distribution:": LEVELS[5:9],
    "Of the means of eight regions of interest:": REGIONAL,
}
SCHEMES = {"flips": "random sign flips", "groups": "random groups"}

Cells = dict[tuple[str, str], Verdict]


def read_cells(path: Path = RATES) -> tuple[list[Scenario], Cells]:
    """Read the measured rates, and judge each."""
    table = pd.read_csv(path, sep="\t")
    scenarios = [one for one in SCENARIOS if one.name in set(table["scenario"])]
    cells: Cells = {}
    for scenario in scenarios:
        attained = compute_attained(scenario)
        for _, row in table[table["scenario"] == scenario.name].iterrows():
            cells[scenario.name, row["level"]] = judge(
                row, n_cells=len(table), has_signal=scenario.signal > 0, attained=attained
            )
    return scenarios, cells


def write_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_rate(verdict: Verdict) -> str:
    """Write a rate with its interval, in percent; bold and with a mark where it is not what it should be."""
    text = f"{100 * verdict.rate:.1f} ({100 * verdict.low:.1f}–{100 * verdict.high:.1f})"
    if verdict.is_high:
        return f"**{text} ↑**"
    return f"**{text} ↓**" if verdict.is_low else text


def write_rates(scenarios: Sequence[Scenario], cells: Cells, levels: Sequence[str]) -> str:
    """Write the table of some levels, without the scenarios that have none of them."""
    shown = [one for one in scenarios if any((one.name, level) in cells for level in levels)]
    rows = []
    for one in shown:
        n = max(verdict.n_datasets for (name, _), verdict in cells.items() if name == one.name)
        found = [cells.get((one.name, level)) for level in levels]
        rates = ["" if verdict is None else write_rate(verdict) for verdict in found]
        rows.append([DESIGNS[one.design].title, " + ".join(map(str, one.groups)), one.title, str(n), *rates])
    return write_table(["design", "subjects", "errors", "datasets", *(TITLES[level] for level in levels)], rows)


def write_error_rates() -> str:
    """Write the tables of what is expected to hold, and how many cells did."""
    scenarios, cells = read_cells()
    null = [one for one in scenarios if not one.signal]
    expected = {key: one for key, one in cells.items() if key[1] not in find_scenario(key[0]).fails}
    high = [key for key, one in expected.items() if one.is_high]
    low = [key for key, one in expected.items() if one.is_low]
    counted = (
        f"{len(cells)} cells, each judged at {FAMILYWISE:g} / {len(cells)}. {len(expected)} are expected to hold; of "
        f"these {len(high)} are above the level, and {len(low)} below the one that an exact test attains"
        f"{list_cells([*high, *low])}."
    )
    holding = [one for one in null if not one.fails]
    parts = [textwrap.fill(counted, PAGE_WIDTH)]
    for title, levels in GROUPS.items():
        parts += [title, write_rates(holding, cells, levels)]
    return "\n\n".join(parts)


def list_cells(keys: Sequence[tuple[str, str]]) -> str:
    """Name some cells in brackets."""
    named = (
        f"{DESIGNS[find_scenario(name).design].title}, {find_scenario(name).title}: {TITLES[level]}"
        for name, level in keys
    )
    return f" ({'; '.join(named)})" if keys else ""


def find_scenario(name: str) -> Scenario:
    """Return the scenario of a name."""
    return next(one for one in SCENARIOS if one.name == name)


def write_failures() -> str:
    """Write the table of what is known not to hold."""
    scenarios, cells = read_cells()
    failing = [one for one in scenarios if one.fails]
    levels = [level for level in LEVELS if any((one.name, level) in cells for one in failing)]
    alarms, rows = pd.read_csv(ALARMS, sep="\t").set_index("scenario"), []
    for one in failing:
        rates = [cells.get((one.name, level)) for level in levels]
        n = max(verdict.n_datasets for (name, _), verdict in cells.items() if name == one.name)
        why, warned = next(iter(one.fails.values())), alarms.loc[one.name]
        shown = ["" if verdict is None else write_rate(verdict) for verdict in rates]
        rows.append(
            [
                DESIGNS[one.design].title,
                " + ".join(map(str, one.groups)),
                one.title,
                why,
                str(n),
                *shown,
                write_share(warned),
            ]
        )
    named = (TITLES[level] for level in levels)
    table = write_table(["design", "subjects", "errors", "why", "datasets", *named, "warned"], rows)
    others = alarms.loc[[one.name for one in scenarios if not one.fails]].sum()
    return f"{table}\n\nOf the datasets of the other scenarios the app warned in {write_share(others)}."


def write_share(row: pd.Series) -> str:
    """Write the share of the datasets in which the app warned."""
    return f"{100 * row['n_warned'] / row['n_datasets']:.1f}%"


def write_discoveries() -> str:
    """Write the table of false discovery rates where there is an effect."""
    scenarios, cells = read_cells()
    shown = [one for one in scenarios if one.signal]
    sums = pd.read_csv(RATES, sep="\t").set_index(["scenario", "level"])
    rows = []
    for one in shown:
        for level in one.levels:
            verdict, row = cells[one.name, level], sums.loc[(one.name, level)]
            found = f"{100 * row['found'] / row['n_datasets']:.0f}"
            what = "mean share of false voxels" if "fdr" in level else "datasets with a false voxel"
            design = f"{DESIGNS[one.design].title}, {' + '.join(map(str, one.groups))}"
            rows.append([design, TITLES[level], what, write_rate(verdict), found, str(verdict.n_datasets)])
    return write_table(
        ["design, subjects", "level", "error", "rate (%)", "effect found (% of its voxels)", "datasets"], rows
    )


def write_power() -> str:
    """Write what is found of an effect, by this app and by nilearn."""
    table = pd.read_csv(POWER, sep="\t").set_index(["scenario", "program", "level"])
    levels = [level for level in LEVELS if level in set(table.index.get_level_values("level"))]
    rows = []
    for one in POWER_SCENARIOS:
        for program in ("bids_group", "nilearn"):
            keys = [(one.name, program, level) for level in levels]
            found = [f"{100 * table.loc[key, 'found']:.0f}" if key in table.index else "" for key in keys]
            design = f"{DESIGNS[one.design].title}, {' + '.join(map(str, one.groups))}"
            rows.append([design, f"{one.signal:g} SD", program, *found])
    n = int(table["n_datasets"].iloc[0])
    counted = f"{n} datasets for each design; mean share of the effect's voxels that survive, in percent."
    heading = ["design, subjects", "effect", "program", *(TITLES[level] for level in levels)]
    return f"{counted}\n\n{write_table(heading, rows)}"


def write_real() -> str:
    """Write false positives on real maps."""
    table = pd.read_csv(REAL, sep="\t")
    levels = list(dict.fromkeys(table["level"]))
    lines = []
    for (name, scheme), rows in table.groupby(["dataset", "scheme"], sort=False):
        by_level = {row["level"]: row for _, row in rows.iterrows()}
        verdicts = {level: judge(count_false(row), n_cells=len(table)) for level, row in by_level.items()}
        maps = f"{name}; {rows['n_voxels'].iloc[0]} voxels"
        rates = [write_rate(verdicts[level]) for level in levels]
        uniform = f"{measure_uniformity(by_level[VOXEL]):.2f}"
        lines.append([maps, SCHEMES[str(scheme)], str(rows["n_datasets"].iloc[0]), *rates, uniform])
    heading = ["maps", "made null by", "datasets", *(TITLES[level] for level in levels), "uniform"]
    return write_table(heading, lines)


SECTIONS: dict[str, Callable[[], str]] = {
    "error-rates": write_error_rates,
    "failures": write_failures,
    "discoveries": write_discoveries,
    "power": write_power,
    "real-nulls": write_real,
}


def fill_page(page: str) -> str:
    """Return the page with every section written anew.

    Raises
    ------
    ValueError
        If it has no place for one.
    """
    for name, write in SECTIONS.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, found, rest = page.partition(begin)
        _, also_found, after = rest.partition(end)
        if not found or not also_found:
            raise ValueError(f"{PAGE.name} has no place for {name}")
        page = f"{before}{begin}\n\n{write()}\n\n{end}{after}"
    return page


def main() -> None:
    """Write the page and its figures."""
    scenarios, cells = read_cells()
    (IMAGES / "error-rates.png").write_bytes(pictures.draw_rates(scenarios, cells, TITLES))
    (IMAGES / "real-nulls.png").write_bytes(pictures.draw_real(pd.read_csv(REAL, sep="\t"), SCHEMES))
    PAGE.write_text(fill_page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
