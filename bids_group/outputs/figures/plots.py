"""Plots: the quality of the maps, null distributions, p against what chance would give."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bids_group.outputs.figures.canvas import (
    FONT_SIZE,
    SMALL_FONT_SIZE,
    Picture,
    encode_lines,
    make_figure,
    shorten,
    trim_axes,
)

# One strip for each measure of the inputs, a dot for each map: smaller ones where there are many.
QUALITY_WIDTH_INCHES = 7.4
QUALITY_STRIP_INCHES = 1.1
QUALITY_NAME_INCHES = 0.055  # a character of an upright name
QUALITY_DOT_AREA, QUALITY_DOT_SIZES = 1600.0, (2.0, 14.0)  # square points
MOST_NAMES_SIDE_BY_SIDE = 60
NULL_COLOUR, OBSERVED_COLOUR = "#9ecae1", "#d55e00"
MOST_BINS = 40
# What was observed is marked by an arrow where it lies further out than this many times all the rest.
LARGEST_OVER_NULL = 2.0
QQ_COLOUR = "#0072b2"
PANELS_PER_ROW = 4
PANEL_INCHES = 1.85
# Of a quantile-quantile plot all of the smallest p are drawn, and of the others as many as can be told apart.
MOST_SMALL_P, MOST_OTHER_P = 1000, 500


@dataclass(frozen=True)
class NullPanel:
    """The null distribution of a maximum, the identity first.

    Attributes
    ----------
    title : str
    maxima : ndarray of float64, shape (n,)
    cutoff : float
        What a value must exceed; nan where nothing can be significant.
    alpha : float
    p : float
        Of the observed maximum, which is the first.
    unit : str
    """

    title: str
    maxima: NDArray[np.float64]
    cutoff: float
    alpha: float
    p: float
    unit: str


ORDINARY_COLOUR, ODD_COLOUR = "#4d4d4d", "#b2182b"  # told apart by shape as well


def draw_quality(measures: pd.DataFrame, labels: Sequence[str | None]) -> Picture:
    """Draw measures of each map one above the other, the maps from left to right, odd ones marked and named.

    Parameters
    ----------
    measures : DataFrame of float, shape (n_maps, n_measures)
        The columns name the measures; one of NaN only is not drawn.
    labels : sequence of str or None, length n_maps
        The name of each odd map, None of an ordinary one.

    Returns
    -------
    Picture
    """
    known = [name for name in measures if measures[name].notna().any()]
    rows = np.arange(len(measures))
    is_odd = np.array([label is not None for label in labels])
    height = QUALITY_STRIP_INCHES * len(known) + QUALITY_NAME_INCHES * max(len(name or "") for name in labels)
    figure = make_figure((QUALITY_WIDTH_INCHES, 0.5 + height), layout="constrained")
    size = float(np.clip(QUALITY_DOT_AREA / max(len(rows), 1), *QUALITY_DOT_SIZES))
    strips = figure.subplots(max(len(known), 1), sharex=True, squeeze=False)[:, 0]
    for axes, name in zip(strips, known, strict=False):
        axes.vlines(rows[is_odd], 0, 1, transform=axes.get_xaxis_transform(), color="0.85", linewidth=0.6, zorder=0)
        axes.axhline(0, color="0.6", linewidth=0.6, zorder=1)
        axes.scatter(rows[~is_odd], measures[name][~is_odd], s=size, color=ORDINARY_COLOUR, linewidths=0)
        axes.scatter(rows[is_odd], measures[name][is_odd], s=3 * size, color=ODD_COLOUR, marker="D", linewidths=0)
        axes.set_ylabel(name, fontsize=FONT_SIZE)
        trim_axes(axes)
        axes.margins(y=0.15)  # no mark is cut
    strips[-1].set_xlabel(f"{len(rows):,} maps, in the order of the design's rows", fontsize=FONT_SIZE)
    strips[-1].set_xlim(-1, len(rows))
    _label_odd_maps(strips[0], labels)
    return encode_lines(figure)


def draw_null(panels: Sequence[NullPanel]) -> Picture:
    """Draw null distributions of maxima, with what was observed and what it must exceed.

    Parameters
    ----------
    panels : sequence of NullPanel

    Returns
    -------
    Picture
    """
    n_columns = min(len(panels), PANELS_PER_ROW)
    n_rows = -(-len(panels) // PANELS_PER_ROW)
    figure = make_figure((0.3 + n_columns * PANEL_INCHES, 0.15 + n_rows * PANEL_INCHES), layout="constrained")
    places = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axes, panel in zip(places, panels, strict=False):
        _draw_null_panel(axes, panel)
    for axes in places[len(panels) :]:
        axes.set_axis_off()
    for axes in places[::n_columns]:
        axes.set_ylabel("rearrangements", fontsize=FONT_SIZE)
    return encode_lines(figure)


def _draw_null_panel(axes: Any, panel: NullPanel) -> None:
    maxima = panel.maxima
    others = maxima[1:] if len(maxima) > 1 else maxima
    axes.hist(others, bins=int(np.clip(np.sqrt(len(maxima)), 5, MOST_BINS)), color=NULL_COLOUR)
    furthest = float(others.max())
    if np.isfinite(panel.cutoff):
        label = f"cutoff {panel.cutoff:.4g} (p = {panel.alpha:g})"
        axes.axvline(panel.cutoff, color="black", linewidth=1, linestyle="--", label=label)
        furthest = max(furthest, panel.cutoff)
    _mark_observed(axes, maxima[0], LARGEST_OVER_NULL * furthest, f"observed {maxima[0]:.4g} (p = {panel.p:.2g})")
    axes.set_title(shorten(panel.title), fontsize=FONT_SIZE, pad=22)
    axes.set_xlabel(f"maximum ({panel.unit})", fontsize=FONT_SIZE)
    axes.legend(
        fontsize=SMALL_FONT_SIZE, frameon=False, loc="lower left", bbox_to_anchor=(-0.03, 0.98), borderpad=0,
        labelspacing=0.2, handlelength=1.4,
    )  # fmt: skip
    axes.ticklabel_format(axis="x", style="sci", scilimits=(-3, 4), useMathText=True)
    axes.xaxis.get_offset_text().set_fontsize(SMALL_FONT_SIZE)
    trim_axes(axes)


def _mark_observed(axes: Any, observed: float, limit: float, label: str) -> None:
    """Draw a line where something was observed, or beyond a limit an arrow that points there."""
    if observed <= limit:
        axes.axvline(observed, color=OBSERVED_COLOUR, linewidth=1.5, label=label)
        return
    axes.set_xlim(right=limit)
    axes.plot([], [], color=OBSERVED_COLOUR, marker=r"$\rightarrow$", linestyle="none", label=label)
    arrow = {"arrowstyle": "->", "color": OBSERVED_COLOUR, "linewidth": 1.5}
    axes.annotate("", (1.0, 0.5), xytext=(0.78, 0.5), xycoords="axes fraction", arrowprops=arrow)


def draw_qq(log10_p: NDArray[np.float64]) -> Picture:
    """Draw the uncorrected p of all voxels against those that chance would give, both as ``-log10 p``.

    The i-th smallest of n p is expected at ``(i - 1/2) / n``.

    Parameters
    ----------
    log10_p : ndarray of float64, shape (n_voxels,)
        ``-log10`` of the p.

    Returns
    -------
    Picture
    """
    observed = np.sort(log10_p)[::-1]
    n = len(observed)
    expected = -np.log10((np.arange(n) + 0.5) / n)
    others = np.geomspace(min(MOST_SMALL_P, n), n, MOST_OTHER_P).astype(int) - 1
    shown = np.unique(np.concatenate([np.arange(min(MOST_SMALL_P, n)), others]))
    figure = make_figure((3.2, 3.0), layout="constrained")
    axes = figure.add_subplot()
    axes.axline((0, 0), slope=1, color="0.5", linewidth=0.8)
    axes.scatter(expected[shown], observed[shown], s=5, color=QQ_COLOUR, linewidths=0)
    axes.set_xlim(0, None)
    axes.set_ylim(0, 1.05 * max(float(observed[0]), float(expected[0])))
    axes.set_xlabel(r"expected by chance, $-\log_{10}\,p$", fontsize=FONT_SIZE)
    axes.set_ylabel(r"observed, $-\log_{10}\,p$ (uncorrected)", fontsize=FONT_SIZE)
    trim_axes(axes)
    return encode_lines(figure)


def _label_odd_maps(axes: Any, labels: Sequence[str | None]) -> None:
    """Name odd maps above a strip, leaving out names that would cover the one before."""
    above = axes.secondary_xaxis("top")
    above.spines[:].set_visible(False)
    places: list[int] = []
    for row, label in enumerate(labels):
        if label is not None and (not places or row - places[-1] >= len(labels) / MOST_NAMES_SIDE_BY_SIDE):
            places.append(row)
    names = [shorten(labels[row]) for row in places]
    above.set_xticks(places, names, rotation=90, fontsize=SMALL_FONT_SIZE)
    above.tick_params(length=0, colors=ODD_COLOUR)
