"""What the maps hold at peaks: a dot for each subject, means with their confidence intervals, slopes with theirs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bids_group.outputs.figures.canvas import (
    FONT_SIZE,
    GROUP_COLOURS,
    PAGE_WIDTH_INCHES,
    SMALL_FONT_SIZE,
    Picture,
    encode_lines,
    make_figure,
    shorten,
    spell,
    trim_axes,
)

Floats = NDArray[np.float64]

PANEL_INCHES = 2.0
NAME_INCHES = 0.055  # a character of an upright name
LEGEND_INCHES = 0.25
# Panels side by side, by how many means each holds.
COLUMNS_BY_MEANS = ((4, 5), (10, 3), (24, 2))
JITTER = 0.16  # half the width that the dots of a mean are spread over, of the distance between conditions
GROUP_SHIFT = 0.7  # the width that groups are spread over
DOT_AREA, MEAN_SIZE = 5.0, 4.0  # square points, points
SLOPE_POINTS = 40


@dataclass(frozen=True)
class CellPanel:
    """The values at one peak, of groups of subjects and conditions.

    Attributes
    ----------
    title : str
    groups : tuple of str
    conditions : tuple of str
    values : tuple of ndarray of float, shape (n_subjects, n_conditions)
        For each group, in the units of the maps.
    means, half_widths : ndarray of float64, shape (n_groups, n_conditions)
        nan where there is no interval.
    """

    title: str
    groups: tuple[str, ...]
    conditions: tuple[str, ...]
    values: tuple[Floats, ...]
    means: Floats
    half_widths: Floats


@dataclass(frozen=True)
class SlopePanel:
    """The values at one peak against what of a regressor the others leave.

    Attributes
    ----------
    title : str
    x : ndarray of float64, shape (n_subjects,)
        In the units of the regressor, about 0.
    y : ndarray of float64, shape (n_subjects,)
        In the units of the maps.
    slope, half_width : float
        Of the line, and of its confidence interval.
    """

    title: str
    x: Floats
    y: Floats
    slope: float
    half_width: float


def draw_cells(panels: Sequence[CellPanel], *, is_adjusted: bool = False) -> Picture:
    """Draw the values of all subjects at some peaks by group and condition, with means and intervals.

    Dots of one subject are not joined; they are spread sideways in the order of the subjects.

    Parameters
    ----------
    panels : sequence of CellPanel
        Of the same groups and conditions.
    is_adjusted : bool
        Whether the values are less what covariates explain.

    Returns
    -------
    Picture
    """
    first = panels[0]
    ticks = first.conditions if len(first.conditions) > 1 else first.groups
    ticks = ticks if len(ticks) > 1 else ("",)
    per_row = next((n for most, n in COLUMNS_BY_MEANS if first.means.size <= most), 1)
    name = "adjusted effect" if is_adjusted else "effect"
    has_legend = len(first.groups) > 1 and len(first.conditions) > 1
    upright = max(len(shorten(name)) for name in ticks) * len(ticks) * per_row > 50
    names_inches = NAME_INCHES * max(len(shorten(name)) for name in ticks) if upright else 0.0
    figure, places = _make_panels(len(panels), per_row, names_inches + LEGEND_INCHES * has_legend, name)
    for axes, panel in zip(places, panels, strict=True):
        _draw_cell_panel(axes, panel)
        axes.set_xticks(range(len(ticks)), [shorten(name) for name in ticks], rotation=90 if upright else 0)
        axes.set_xlim(-0.6, len(ticks) - 0.4)
        axes.tick_params(axis="x", length=0, labelsize=SMALL_FONT_SIZE if upright else FONT_SIZE)
    if has_legend:
        handles, labels = places[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=FONT_SIZE, frameon=False)
    return encode_lines(figure)


def draw_slopes(panels: Sequence[SlopePanel], *, name: str) -> Picture:
    """Draw the values of all subjects at some peaks against a regressor, with the line of the model and its interval.

    Parameters
    ----------
    panels : sequence of SlopePanel
    name : str
        Of the contrast that is the slope.

    Returns
    -------
    Picture
    """
    per_row = min(len(panels), 3)
    figure, places = _make_panels(len(panels), per_row, NAME_INCHES, "adjusted effect")
    for axes, panel in zip(places, panels, strict=True):
        line = np.linspace(panel.x.min(), panel.x.max(), SLOPE_POINTS)
        edges = [(panel.slope + side * panel.half_width) * line for side in (-1, 1)]
        axes.fill_between(line, *edges, color=GROUP_COLOURS[0], alpha=0.2, linewidth=0)
        axes.plot(line, panel.slope * line, color=GROUP_COLOURS[0], linewidth=1)
        axes.scatter(panel.x, panel.y, s=2 * DOT_AREA, color="0.3", linewidths=0)
        axes.set_xlabel(f"{shorten(name)}, adjusted", fontsize=FONT_SIZE)
        _finish_panel(axes, panel.title)
    return encode_lines(figure)


def _make_panels(n_panels: int, per_row: int, names_inches: float, name: str) -> tuple[Any, list[Any]]:
    """Make panels that share nothing but their size, the first of each row with the name of the values."""
    n_rows = -(-n_panels // per_row)
    columns = min(n_panels, per_row)
    width = PAGE_WIDTH_INCHES * max(columns / per_row, 0.4)
    height = n_rows * (PANEL_INCHES + names_inches)
    figure = make_figure((width, height), layout="constrained")
    places = list(figure.subplots(n_rows, columns, squeeze=False).ravel())
    for axes in places[n_panels:]:
        axes.set_axis_off()
    for axes in places[::columns]:
        axes.set_ylabel(f"{spell(name)}\n(units of the maps)", fontsize=FONT_SIZE)
    return figure, places[:n_panels]


def _draw_cell_panel(axes: Any, panel: CellPanel) -> None:
    n_groups, n_conditions = panel.means.shape
    is_crossed = n_groups > 1 and n_conditions > 1
    for group, (name, values) in enumerate(zip(panel.groups, panel.values, strict=True)):
        colour = GROUP_COLOURS[group % len(GROUP_COLOURS)]
        shift = GROUP_SHIFT * ((group + 0.5) / n_groups - 0.5) if is_crossed else 0.0
        places = np.arange(n_conditions) + shift + (0 if n_conditions > 1 else group)
        spread = JITTER / (n_groups if is_crossed else 1) * np.linspace(-1, 1, len(values))
        x = places + spread[:, None] if len(values) > 1 else places[None]
        axes.scatter(x, values, s=DOT_AREA, color=colour, alpha=0.45, linewidths=0)
        axes.errorbar(
            places, panel.means[group], panel.half_widths[group], fmt="o", color="black", markersize=MEAN_SIZE,
            markerfacecolor=colour, markeredgewidth=0.8, elinewidth=1.2, capsize=2.5, label=shorten(name), zorder=3,
        )  # fmt: skip
    _finish_panel(axes, panel.title)


def _finish_panel(axes: Any, title: str) -> None:
    axes.axhline(0, color="0.6", linewidth=0.6, zorder=0)
    axes.set_title(spell(title), fontsize=SMALL_FONT_SIZE + 1)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4), useMathText=True)
    axes.yaxis.get_offset_text().set_fontsize(SMALL_FONT_SIZE)
    trim_axes(axes)
