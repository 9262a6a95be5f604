"""Matrices: the design, the weights of the contrasts, the correlations of the columns."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bids_group.outputs.figures.canvas import (
    FONT_SIZE,
    NEUTRAL_COLOURS,
    SIGNED_COLOURS,
    SMALL_FONT_SIZE,
    Picture,
    encode_lines,
    make_figure,
    shorten,
)

COLOUR_LEVELS = 33  # few enough that a matrix of noise stays a small file, odd so that zero has its own
COLOUR_HEADROOM = 1.25  # a matrix stops short of the darkest colours, on which nothing can be written

MATRIX_WIDTH_INCHES = (2.6, 7.4)
MATRIX_HEIGHT_INCHES = (1.6, 6.0)
COLUMN_INCHES = 0.26
DESIGN_ROW_INCHES = 0.035
WEIGHT_ROW_INCHES = 0.3

# Beyond these a label or number would be smaller than its font.
MOST_LABELLED_COLUMNS = 60
MOST_LABELLED_ROWS = 30
MOST_NUMBERED_COLUMNS = 28
MOST_CORRELATED_COLUMNS = 16
MOST_PICTURED_CELLS = 300  # along an axis; more are averaged in blocks


def draw_design_matrix(design: pd.DataFrame) -> Picture:
    """Draw a design matrix, each column scaled by its largest absolute value.

    Columns are labelled while labels stay legible; rows or columns beyond 300 are averaged in blocks.

    Parameters
    ----------
    design : DataFrame of float, shape (n_maps, n_columns)
        Named columns.

    Returns
    -------
    Picture
    """
    values = design.to_numpy(dtype=np.float64)
    largest = np.abs(values).max(axis=0, initial=0.0)
    values = values / np.where(largest > 0, largest, 1.0)
    signed = bool((values < 0).any())
    figure, axes = _make_matrix_axes(values.shape, DESIGN_ROW_INCHES)
    rows, columns = values.shape
    axes.imshow(
        _average_blocks(values),
        extent=(-0.5, columns - 0.5, rows - 0.5, -0.5),
        **_choose_colours(SIGNED_COLOURS if signed else NEUTRAL_COLOURS, -1.0 if signed else 0.0),
    )
    _label_columns(axes, design.columns)
    axes.set_ylabel(f"{rows:,} maps (rows)")
    axes.set_yticks([])
    return encode_lines(figure)


def draw_contrast_weights(weights: pd.DataFrame) -> Picture:
    """Draw the weights of all contrasts, red above and blue below zero.

    Parameters
    ----------
    weights : DataFrame of float, shape (n_contrast_rows, n_columns)
        The index names the contrast of each row (an F contrast may have several), the columns those of the design.

    Returns
    -------
    Picture
    """
    values = weights.to_numpy(dtype=np.float64)
    largest = float(np.abs(values).max(initial=0.0)) or 1.0
    figure, axes = _make_matrix_axes(values.shape, WEIGHT_ROW_INCHES)
    rows, columns = values.shape
    axes.imshow(
        _average_blocks(values / largest),
        extent=(-0.5, columns - 0.5, rows - 0.5, -0.5),
        **_choose_colours(SIGNED_COLOURS, -1.0),
    )
    _label_columns(axes, weights.columns)
    _label_contrasts(axes, weights.index)
    if columns <= MOST_NUMBERED_COLUMNS and rows <= MOST_LABELLED_ROWS:
        _write_weights(axes, values / largest, values)
    return encode_lines(figure)


def draw_correlation(design: pd.DataFrame) -> Picture:
    """Draw the correlations between the columns of a design, red above and blue below zero.

    Columns are labelled, and correlations written, while that stays legible.

    Parameters
    ----------
    design : DataFrame of float, shape (n_maps, n_columns)
        Named columns, none of them constant.

    Returns
    -------
    Picture
    """
    values = np.atleast_2d(np.corrcoef(design.to_numpy(dtype=np.float64), rowvar=False))
    n_columns = len(values)
    figure, axes = _make_matrix_axes(values.shape, COLUMN_INCHES)
    picture = axes.imshow(
        _average_blocks(values),
        extent=(-0.5, n_columns - 0.5, n_columns - 0.5, -0.5),
        **_choose_colours(SIGNED_COLOURS, -1.0),
    )
    _label_columns(axes, design.columns)
    axes.set_yticks([])
    if n_columns <= MOST_LABELLED_ROWS:
        axes.set_yticks(range(n_columns), [shorten(name) for name in design.columns])
    if n_columns <= MOST_CORRELATED_COLUMNS:
        _write_weights(axes, values, values)
    else:
        bar = figure.colorbar(picture, ax=axes, shrink=0.4, aspect=30, ticks=[-1, -0.5, 0, 0.5, 1])
        bar.ax.set_ylim(-1, 1)
        bar.ax.tick_params(labelsize=FONT_SIZE)
        bar.set_label("correlation", fontsize=FONT_SIZE)
    return encode_lines(figure)


def _make_matrix_axes(shape: tuple[int, ...], row_inches: float) -> tuple[Any, Any]:
    rows, columns = shape
    label_inches = 1.5  # of the longest labels beside and above the matrix
    width = float(np.clip(columns * COLUMN_INCHES + label_inches, *MATRIX_WIDTH_INCHES))
    height = float(np.clip(rows * row_inches + label_inches, *MATRIX_HEIGHT_INCHES))
    figure = make_figure((width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelsize=FONT_SIZE)
    axes.yaxis.label.set_size(FONT_SIZE)
    axes.spines[:].set_color("0.6")
    return figure, axes


def _choose_colours(name: str, lowest: float) -> dict[str, Any]:
    from matplotlib import colormaps

    return {
        "cmap": colormaps[name].resampled(COLOUR_LEVELS),
        "vmin": COLOUR_HEADROOM * lowest,
        "vmax": COLOUR_HEADROOM,
        "aspect": "auto",
        "interpolation": "nearest",
    }


def _average_blocks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    for axis in (0, 1):
        length = values.shape[axis]
        if length > MOST_PICTURED_CELLS:
            edges = np.linspace(0, length, MOST_PICTURED_CELLS + 1).astype(int)
            shape = (-1, 1) if axis == 0 else (1, -1)
            values = np.add.reduceat(values, edges[:-1], axis=axis) / np.diff(edges).reshape(shape)
    return values


def _label_columns(axes: Any, names: pd.Index) -> None:
    if len(names) > MOST_LABELLED_COLUMNS:
        axes.set_xticks([])
        axes.set_xlabel(f"{len(names):,} columns", fontsize=FONT_SIZE)
        return
    size = FONT_SIZE if len(names) <= MOST_NUMBERED_COLUMNS else SMALL_FONT_SIZE
    axes.set_xticks(range(len(names)), [shorten(name) for name in names], rotation=90, fontsize=size)


def _label_contrasts(axes: Any, names: pd.Index) -> None:
    if len(names) > MOST_LABELLED_ROWS:
        axes.set_yticks([])
        axes.set_ylabel(f"{len(names):,} contrast rows")
        return
    repeats = [row > 0 and names[row] == names[row - 1] for row in range(len(names))]
    labels = ["" if again else shorten(name) for name, again in zip(names, repeats, strict=True)]
    axes.set_yticks(range(len(names)), labels)
    for row, again in enumerate(repeats):
        if row and not again:
            axes.axhline(row - 0.5, color="0.6", linewidth=0.6)


def _write_weights(axes: Any, shades: NDArray[np.float64], values: NDArray[np.float64]) -> None:
    for row, column in np.argwhere(values != 0):
        dark = abs(shades[row, column]) > 0.6  # there white text reads better than black
        axes.text(
            column,
            row,
            f"{values[row, column]:.2g}",
            ha="center",
            va="center",
            fontsize=SMALL_FONT_SIZE,
            color="white" if dark else "black",
        )
