"""Every picture of a result, as the bytes of a PNG file: the only room that knows matplotlib and nilearn.plotting.

Figures are made without pyplot, so no window, no list of open figures and no backend is touched, and the same data
give the same bytes. Both colour maps are ColorBrewer's and can be told apart by colour-blind readers.
"""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.nifti1 import Nifti1Image
from numpy.typing import NDArray

DOTS_PER_INCH = 150
FONT_SIZE = 8.0
SMALL_FONT_SIZE = 6.0

SIGNED_COLOURS = "RdBu_r"
UNSIGNED_COLOURS = "YlOrRd"
NEUTRAL_COLOURS = "Greys"
COLOUR_LEVELS = 33  # few enough that a matrix of noise stays a small file, odd so that zero has its own
COLOUR_HEADROOM = 1.25  # a matrix stops short of the darkest colours, on which nothing can be written

# Transparent thresholding (Taylor et al. 2023): what did not survive fades out with the statistic, reaching its
# strongest, still translucent, at this fraction of the colour limit.
FADED_OPACITY = 0.55
FADE_FRACTION = 0.5

BRAIN_SIZE_INCHES = (7.4, 2.6)
BRAIN_FRAME = (0.0, 0.03, 0.965, 0.94)  # left, bottom, width, height: room for the name of the colour bar
MATRIX_WIDTH_INCHES = (2.6, 7.4)
MATRIX_HEIGHT_INCHES = (1.6, 6.0)
COLUMN_INCHES = 0.26
DESIGN_ROW_INCHES = 0.035
WEIGHT_ROW_INCHES = 0.3

# Beyond these a label or number would be smaller than its font.
MOST_LABELLED_COLUMNS = 60
MOST_LABELLED_ROWS = 30
MOST_NUMBERED_COLUMNS = 28
LONGEST_LABEL = 28
MOST_PICTURED_CELLS = 300  # along an axis; more are averaged in blocks

# One strip for each measure of the inputs, a dot for each map: smaller ones where there are many.
QUALITY_WIDTH_INCHES = 7.4
QUALITY_STRIP_INCHES = 1.1
QUALITY_NAME_INCHES = 0.055  # a character of an upright name
QUALITY_DOT_AREA, QUALITY_DOT_SIZES = 1600.0, (2.0, 14.0)  # square points
MOST_NAMES_SIDE_BY_SIDE = 60
ORDINARY_COLOUR, ODD_COLOUR = "#4d4d4d", "#b2182b"  # told apart by shape as well

# A mean map is coloured up to this percentile of its absolute values, so that one wild voxel does not bleach the rest.
MEAN_PERCENTILE = 98
# A statistic is coloured up to its largest absolute value, or this many times the percentile if that is less.
STATISTIC_PERCENTILE = 99.9
LARGEST_OVER_PERCENTILE = 1.5


def choose_cut_coords(statistic: Nifti1Image) -> tuple[float, float, float]:
    """Choose where to cut a map: through the voxel with the largest absolute statistic.

    Parameters
    ----------
    statistic : Nifti1Image, shape (x, y, z)
        The whole statistic, so that all corrections of a contrast are shown at the same place.

    Returns
    -------
    tuple of 3 float
        World coordinates, in mm; the first voxel of several tied ones, in C order.
    """
    values = np.abs(_read_values(statistic))
    voxel = np.unravel_index(np.argmax(values), values.shape)
    x, y, z = nib.affines.apply_affine(statistic.affine, voxel)
    return float(x), float(y), float(z)


def choose_colour_limit(statistic: Nifti1Image) -> float:
    """Choose where the colours of a map end: near its largest absolute value, but not where few voxels are far out.

    Larger values have the last colour. The limit is rounded up to two significant digits.

    Parameters
    ----------
    statistic : Nifti1Image, shape (x, y, z)

    Returns
    -------
    float
        In units of the statistic; 1 for a map of zeros.
    """
    values = np.abs(_read_values(statistic))
    values = values[values > 0]
    if not values.size:
        return 1.0
    limit = min(float(values.max()), LARGEST_OVER_PERCENTILE * float(np.percentile(values, STATISTIC_PERCENTILE)))
    step = 10.0 ** (np.floor(np.log10(limit)) - 1)
    return float(np.ceil(limit / step) * step)


def draw_ortho(
    surviving: Nifti1Image,
    statistic: Nifti1Image,
    *,
    cut_coords: Sequence[float],
    colour_limit: float,
    unit: str,
    template: bool,
) -> bytes:
    """Draw three orthogonal slices: the survivors opaque and outlined, the whole statistic translucent behind them.

    Opacity is 1 where a voxel survives, else ``0.55 min(1, |statistic| / (0.5 colour_limit))``.

    Parameters
    ----------
    surviving : Nifti1Image, shape (x, y, z)
        The statistic where it survives, 0 elsewhere; all zeros when nothing survived.
    statistic : Nifti1Image, shape (x, y, z)
        The unthresholded statistic on the same grid, 0 outside the mask.
    cut_coords : sequence of 3 float
        World coordinates of the slices, in mm.
    colour_limit : float
        Where the colours end, in units of the statistic.
    unit : str
        The statistic, as the colour bar names it: ``F`` is drawn from 0 up, anything else (``t``, ``z``) on both
        sides of 0.
    template : bool
        Whether to draw the MNI152 template behind; else the outline of the non-zero voxels is drawn.

    Returns
    -------
    bytes
        A PNG file.

    References
    ----------
    Taylor et al. (2023), NeuroImage 274, 120138: highlight results, don't hide them.
    """
    from nilearn.plotting import plot_stat_map

    figure = _make_figure(BRAIN_SIZE_INCHES)
    values, survives = _read_values(statistic), _read_values(surviving) != 0
    with _accept_zeros():
        display = plot_stat_map(
            _surround(statistic, values),
            bg_img=_load_template() if template else None,
            cut_coords=tuple(cut_coords),
            transparency=_fade(statistic, survives, colour_limit),
            **_choose_scale(colour_limit, signed=unit != "F"),
            draw_cross=False,
            **_plain_brain(figure),
        )
    display.draw_cross(color="0.25", linewidth=0.5)
    if not template:
        _outline(display, statistic, values != 0, colour="0.6")
    _outline(display, statistic, survives, colour="black")
    return _finish_brain(figure, display, unit)


def draw_glass_brain(surviving: Nifti1Image, *, colour_limit: float, unit: str, signed: bool) -> bytes:
    """Draw the survivors projected on a transparent MNI152 brain: the largest absolute value along each line of sight.

    Parameters
    ----------
    surviving : Nifti1Image, shape (x, y, z)
        The statistic where it survives, 0 elsewhere, in MNI152 space; all zeros when nothing survived.
    colour_limit : float
        Where the colours end, in units of the statistic.
    unit : str
        The statistic, as the colour bar names it.
    signed : bool
        Whether the colours run on both sides of 0 (t) or from 0 up (F).

    Returns
    -------
    bytes
        A PNG file.
    """
    from nilearn.plotting import plot_glass_brain

    figure = _make_figure(BRAIN_SIZE_INCHES)
    with _accept_zeros():
        display = plot_glass_brain(
            surviving,
            plot_abs=False,
            threshold=np.finfo(np.float32).tiny,  # only zeros are left blank
            **_choose_scale(colour_limit, signed=signed),
            **_plain_brain(figure),
        )
    return _finish_brain(figure, display, unit)


def draw_mask(mask: Nifti1Image, mean_effect: Nifti1Image) -> bytes:
    """Draw the mean of the inputs with the outline of the analysis mask, cut through the middle of the mask.

    Parameters
    ----------
    mask : Nifti1Image, shape (x, y, z)
        Non-zero inside.
    mean_effect : Nifti1Image, shape (x, y, z)
        The mean input map on the same grid, in the units of the effects.

    Returns
    -------
    bytes
        A PNG file.
    """
    from nilearn.plotting import plot_stat_map

    figure = _make_figure(BRAIN_SIZE_INCHES)
    inside = _read_values(mask) != 0
    values = np.abs(_read_values(mean_effect)[inside])
    limit = float(np.percentile(values, MEAN_PERCENTILE)) if values.size else 0.0
    voxels = np.argwhere(inside)
    middle = voxels.mean(axis=0) if len(voxels) else (np.array(inside.shape) - 1) / 2
    display = plot_stat_map(
        _surround(mean_effect, _read_values(mean_effect)),
        bg_img=None,
        cut_coords=tuple(nib.affines.apply_affine(mask.affine, middle)),
        **_choose_scale(limit, signed=True),
        draw_cross=False,
        **_plain_brain(figure),
    )
    _outline(display, mask, inside, colour="black")
    return _finish_brain(figure, display, "mean effect")


def draw_design_matrix(design: pd.DataFrame) -> bytes:
    """Draw a design matrix, each column scaled by its largest absolute value.

    Columns are labelled while labels stay legible; rows or columns beyond 300 are averaged in blocks.

    Parameters
    ----------
    design : DataFrame of float, shape (n_maps, n_columns)
        Named columns.

    Returns
    -------
    bytes
        A PNG file.
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
    return _encode(figure)


def draw_contrast_weights(weights: pd.DataFrame) -> bytes:
    """Draw the weights of all contrasts, red above and blue below zero.

    Parameters
    ----------
    weights : DataFrame of float, shape (n_contrast_rows, n_columns)
        The index names the contrast of each row (an F contrast may have several), the columns those of the design.

    Returns
    -------
    bytes
        A PNG file.
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
    return _encode(figure)


def draw_quality(measures: pd.DataFrame, labels: Sequence[str | None]) -> bytes:
    """Draw measures of each map one above the other, the maps from left to right, odd ones marked and named.

    Parameters
    ----------
    measures : DataFrame of float, shape (n_maps, n_measures)
        The columns name the measures; one of NaN only is not drawn.
    labels : sequence of str or None, length n_maps
        The name of each odd map, None of an ordinary one.

    Returns
    -------
    bytes
        A PNG file.
    """
    known = [name for name in measures if measures[name].notna().any()]
    rows = np.arange(len(measures))
    is_odd = np.array([label is not None for label in labels])
    height = QUALITY_STRIP_INCHES * len(known) + QUALITY_NAME_INCHES * max(len(name or "") for name in labels)
    figure = _make_figure((QUALITY_WIDTH_INCHES, 0.5 + height), layout="constrained")
    size = float(np.clip(QUALITY_DOT_AREA / max(len(rows), 1), *QUALITY_DOT_SIZES))
    strips = figure.subplots(max(len(known), 1), sharex=True, squeeze=False)[:, 0]
    for axes, name in zip(strips, known, strict=False):
        axes.vlines(rows[is_odd], 0, 1, transform=axes.get_xaxis_transform(), color="0.85", linewidth=0.6, zorder=0)
        axes.axhline(0, color="0.6", linewidth=0.6, zorder=1)
        axes.scatter(rows[~is_odd], measures[name][~is_odd], s=size, color=ORDINARY_COLOUR, linewidths=0)
        axes.scatter(rows[is_odd], measures[name][is_odd], s=3 * size, color=ODD_COLOUR, marker="D", linewidths=0)
        axes.set_ylabel(name, fontsize=FONT_SIZE)
        axes.tick_params(labelsize=FONT_SIZE)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(y=0.15)  # no mark is cut
    strips[-1].set_xlabel(f"{len(rows):,} maps, in the order of the design's rows", fontsize=FONT_SIZE)
    strips[-1].set_xlim(-1, len(rows))
    _label_odd_maps(strips[0], labels)
    return _encode(figure)


def _read_values(image: Nifti1Image) -> NDArray[np.float32]:
    return np.nan_to_num(image.get_fdata(dtype=np.float32, caching="unchanged"))


def _surround(image: Nifti1Image, values: NDArray[Any], *, corner: float = 0.0) -> Nifti1Image:
    """Put a rim of one voxel of zeros around values on an image's grid, so that outlines close at its edges."""
    padded = np.pad(values, 1)
    padded[0, 0, 0] = corner
    affine = image.affine.copy()
    affine[:3, 3] -= affine[:3, :3].sum(axis=1)
    return Nifti1Image(padded, affine)


@contextmanager
def _accept_zeros() -> Iterator[None]:
    """Keep nilearn from warning of a map of zeros: that nothing survived is a normal result."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="empty mask")
        yield


@cache
def _load_template() -> Nifti1Image:
    from nilearn.datasets import load_mni152_template

    return load_mni152_template(resolution=1)  # 1 mm looks right at this size; it ships with nilearn


def _fade(statistic: Nifti1Image, survives: NDArray[np.bool_], colour_limit: float) -> Nifti1Image:
    strength = np.minimum(1.0, np.abs(_read_values(statistic)) / (FADE_FRACTION * colour_limit))
    opacity = np.where(survives, 1.0, FADED_OPACITY * strength)
    # nilearn stretches opacities to their largest; one opaque voxel in the empty rim keeps ours as they are.
    return _surround(statistic, opacity.astype(np.float32), corner=1.0)


def _choose_scale(colour_limit: float, *, signed: bool) -> dict[str, Any]:
    limit = colour_limit if np.isfinite(colour_limit) and colour_limit > 0 else 1.0
    return {
        "cmap": SIGNED_COLOURS if signed else UNSIGNED_COLOURS,
        "vmin": -limit if signed else 0.0,
        "vmax": limit,
        "symmetric_cbar": signed,
        "cbar_tick_format": "%.3g",
    }


def _plain_brain(figure: Any) -> dict[str, Any]:
    return {"figure": figure, "axes": BRAIN_FRAME, "black_bg": False, "annotate": False, "colorbar": True}


def _outline(display: Any, grid: Nifti1Image, inside: NDArray[np.bool_], *, colour: str) -> None:
    if inside.any():
        outline = _surround(grid, inside.astype(np.uint8))
        display.add_contours(outline, levels=[0.5], colors=colour, linewidths=0.6)


def _finish_brain(figure: Any, display: Any, unit: str) -> bytes:
    display.annotate(size=FONT_SIZE)
    for axes in figure.axes:
        axes.tick_params(labelsize=FONT_SIZE)
    # The colour bar is the last axes that nilearn adds; it has no public name.
    figure.axes[-1].yaxis.set_label_position("right")
    figure.axes[-1].set_ylabel(unit, fontsize=FONT_SIZE)
    return _encode(figure)


def _make_figure(size: tuple[float, float], *, layout: Literal["constrained"] | None = None) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, facecolor="white", layout=layout)
    FigureCanvasAgg(figure)
    return figure


def _make_matrix_axes(shape: tuple[int, ...], row_inches: float) -> tuple[Any, Any]:
    rows, columns = shape
    label_inches = 1.5  # of the longest labels beside and above the matrix
    width = float(np.clip(columns * COLUMN_INCHES + label_inches, *MATRIX_WIDTH_INCHES))
    height = float(np.clip(rows * row_inches + label_inches, *MATRIX_HEIGHT_INCHES))
    figure = _make_figure((width, height), layout="constrained")
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


def _shorten(label: object) -> str:
    text = str(label).replace("$", r"\$")  # a dollar would start a formula
    return text if len(text) <= LONGEST_LABEL else text[: LONGEST_LABEL - 1] + "…"


def _label_columns(axes: Any, names: pd.Index) -> None:
    if len(names) > MOST_LABELLED_COLUMNS:
        axes.set_xticks([])
        axes.set_xlabel(f"{len(names):,} columns", fontsize=FONT_SIZE)
        return
    size = FONT_SIZE if len(names) <= MOST_NUMBERED_COLUMNS else SMALL_FONT_SIZE
    axes.set_xticks(range(len(names)), [_shorten(name) for name in names], rotation=90, fontsize=size)


def _label_contrasts(axes: Any, names: pd.Index) -> None:
    if len(names) > MOST_LABELLED_ROWS:
        axes.set_yticks([])
        axes.set_ylabel(f"{len(names):,} contrast rows")
        return
    repeats = [row > 0 and names[row] == names[row - 1] for row in range(len(names))]
    labels = ["" if again else _shorten(name) for name, again in zip(names, repeats, strict=True)]
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


def _label_odd_maps(axes: Any, labels: Sequence[str | None]) -> None:
    """Name odd maps above a strip, leaving out names that would cover the one before."""
    above = axes.secondary_xaxis("top")
    above.spines[:].set_visible(False)
    places: list[int] = []
    for row, label in enumerate(labels):
        if label is not None and (not places or row - places[-1] >= len(labels) / MOST_NAMES_SIDE_BY_SIDE):
            places.append(row)
    names = [_shorten(labels[row]) for row in places]
    above.set_xticks(places, names, rotation=90, fontsize=SMALL_FONT_SIZE)
    above.tick_params(length=0, colors=ODD_COLOUR)


def _encode(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    figure.clear()
    return buffer.getvalue()
