"""The figures of docs/validation.md."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from bids_group.outputs.figures.canvas import FONT_SIZE, GROUP_COLOURS, SMALL_FONT_SIZE, encode, make_figure, trim_axes
from validation.designs import DESIGNS
from validation.judging import Verdict, find_interval
from validation.real_nulls import N_BINS, list_bins
from validation.scenarios import LEVELS, Scenario
from validation.simulate import ALPHA

WIDTH, ROW_HEIGHT, MARGIN_HEIGHT = 7.4, 0.155, 1.1  # inches
PANEL_INCHES = 1.9
LEVEL_COLOURS = dict(zip(LEVELS, (*GROUP_COLOURS, "#999999", "#000000", "#8c6d1f", "#1b1b8f", "#5a5aff"), strict=True))
MARKERS = dict(zip(LEVELS, "osD^vPX*h<>", strict=True))
SPREAD = 0.6  # of a row, that its levels share
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
LEAST_SHOWN = 0.003
N_COLOURS = 64


def draw_rates(
    scenarios: Sequence[Scenario], cells: Mapping[tuple[str, str], Verdict], titles: Mapping[str, str]
) -> bytes:
    """Draw the rate of each cell with its interval, a row for each scenario, those known not to hold below.

    Parameters
    ----------
    scenarios : sequence of Scenario
    cells : Mapping
        What is said of a scenario and a level.
    titles : Mapping of str to str
        Of the levels.

    Returns
    -------
    bytes
        A PNG file.
    """
    rows = [one for one in scenarios if not one.fails] + [one for one in scenarios if one.fails]
    figure = make_figure((WIDTH, MARGIN_HEIGHT + ROW_HEIGHT * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    seen: dict[str, Any] = {}
    for place, scenario in enumerate(rows):
        levels = [level for level in LEVELS if (scenario.name, level) in cells]
        for offset, level in zip(np.linspace(-SPREAD / 2, SPREAD / 2, len(levels) + 2)[1:-1], levels, strict=True):
            drawn = _draw_cell(axes, place + offset, cells[scenario.name, level], level)
            seen.setdefault(level, drawn)
    axes.axvline(ALPHA, color="black", linewidth=0.8)
    axes.axhline(sum(not one.fails for one in rows) - 0.5, color="black", linewidth=0.6, linestyle=":")
    axes.set_yticks(range(len(rows)), [name_scenario(one) for one in rows])
    axes.set(xscale="log", xlim=(LEAST_SHOWN, 1.0), ylim=(len(rows) - 0.5, -0.5))
    axes.set_xticks(TICKS, [f"{100 * tick:g}%" for tick in TICKS])
    axes.set_xlabel("false positives (logarithmic)", fontsize=FONT_SIZE)
    axes.minorticks_off()
    trim_axes(axes)
    axes.tick_params(axis="y", labelsize=SMALL_FONT_SIZE - 1, length=0)
    names = [titles[level] for level in LEVELS if level in seen]
    figure.legend(
        [seen[level] for level in LEVELS if level in seen],
        names,
        loc="outside upper center",
        ncols=5,
        fontsize=SMALL_FONT_SIZE,
    )
    return _reduce(encode(figure).png)


def name_scenario(scenario: Scenario) -> str:
    """Name a scenario by its design, its subjects and its errors."""
    sizes = " + ".join(map(str, scenario.groups))
    return f"{DESIGNS[scenario.design].title.replace('`', '')} ({sizes}): {scenario.title}"


def _draw_cell(axes: Any, height: float, verdict: Verdict, level: str) -> Any:
    low, high, rate = (max(value, LEAST_SHOWN) for value in (verdict.low, verdict.high, verdict.rate))
    colour = LEVEL_COLOURS[level]
    axes.plot((low, high), (height, height), color=colour, linewidth=0.7)
    return axes.plot(rate, height, marker=MARKERS[level], markersize=2.4, color=colour, linestyle="none")[0]


def draw_real(table: pd.DataFrame, schemes: Mapping[str, str]) -> bytes:
    """Draw how familywise p of the largest statistic are distributed on real maps, a panel for each null.

    Parameters
    ----------
    table : DataFrame
        What `validation.real_nulls` wrote.
    schemes : Mapping of str to str
        What the null hypothesis is made true by, in words.

    Returns
    -------
    bytes
        A PNG file.
    """
    shown = table[table["level"].isin(("voxel", "tfce"))]
    groups = list(shown.groupby(["dataset", "scheme"], sort=False))
    figure = make_figure((WIDTH, PANEL_INCHES * -(-len(groups) // 2) + 0.3), layout="constrained")
    every = figure.subplots(-(-len(groups) // 2), 2, sharey=True, squeeze=False).ravel()
    for axes, ((name, scheme), rows) in zip(every, groups, strict=False):
        n = int(rows["n_datasets"].iloc[0])
        low, high = find_interval(round(n / N_BINS), n)
        axes.axhspan(low * N_BINS, high * N_BINS, color="#dddddd")
        for colour, (_, row) in zip(GROUP_COLOURS, rows.iterrows(), strict=False):
            share = row[list_bins()].to_numpy(np.float64) / n * N_BINS
            axes.stairs(share, np.linspace(0, 1, N_BINS + 1), color=colour, label=row["level"])
        axes.axhline(1.0, color="black", linewidth=0.6)
        axes.set(ylim=(0, 2.2), xlim=(0, 1))
        axes.set_xlabel("familywise p", fontsize=FONT_SIZE)
        axes.set_ylabel("density", fontsize=FONT_SIZE)
        axes.set_title(
            f"{name.split(',')[0]}, {rows['n_subjects'].iloc[0]} maps: {schemes[scheme]}", fontsize=SMALL_FONT_SIZE
        )
        axes.legend(fontsize=SMALL_FONT_SIZE, frameon=False)
        trim_axes(axes)
    return _reduce(encode(figure).png)


def _reduce(png: bytes) -> bytes:
    """Return a picture of few colours as a file of a third of the size."""
    small = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        image.convert("RGB").quantize(N_COLOURS).save(small, format="png", optimize=True)
    return small.getvalue()
