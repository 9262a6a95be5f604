"""Axial slices side by side: the statistic of a contrast, the mean and spread of the maps, how many a voxel has."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.nifti1 import Nifti1Image
from numpy.typing import NDArray

from bids_group.outputs.figures.brains import MEAN_PERCENTILE
from bids_group.outputs.figures.canvas import (
    PAGE_WIDTH_INCHES,
    SIGNED_COLOURS,
    SMALL_FONT_SIZE,
    UNSIGNED_COLOURS,
    Picture,
    add_bar,
    encode,
    make_figure,
    read_values,
    shorten,
)
from bids_group.outputs.figures.painting import TEMPLATE_HEADROOM, Floats, describe_template, fade, locate, sample

SLICES_PER_ROW = 7
# Slices go from the lower to the upper of these quantiles of the voxels' heights: beyond there is little to see.
LOWEST_QUANTILE, HIGHEST_QUANTILE = 0.02, 0.98
PIXELS_ALONG_SLICE = 180  # from back to front: as many as a slice has on the page
MARGIN = 0.04  # around the brain, of its length
BAR_INCHES = 0.95  # for the colour bar and its labels
GAP_INCHES = 0.1
PLAIN_GREY = 0.92  # of the search volume where there is no template


@dataclass(frozen=True)
class _Montage:
    """Axial slices at some heights, left on the left, front up; all in mm."""

    heights: Floats
    x: Floats
    y: Floats

    @property
    def shape(self) -> tuple[int, int]:
        """Return the number of rows and columns of slices."""
        return -(-len(self.heights) // SLICES_PER_ROW), SLICES_PER_ROW

    @property
    def row_inches(self) -> float:
        """Return the height of a row of slices."""
        return (PAGE_WIDTH_INCHES - BAR_INCHES) / SLICES_PER_ROW * len(self.y) / len(self.x)

    def sample(self, affine: Floats, values: NDArray[Any], *, order: int = 0) -> NDArray[np.float32]:
        """Return all slices of values on a grid as one picture, 0 where the grid has none."""
        heights, y, x = np.ix_(self.heights, self.y[::-1], self.x)
        slices = sample(affine, values, x, y, heights, order=order)
        rows, columns = self.shape
        blank = np.zeros((rows * columns - len(slices), *slices.shape[1:]), dtype=slices.dtype)
        grid = np.concatenate([slices, blank]).reshape(rows, columns, *slices.shape[1:])
        return grid.transpose(0, 2, 1, 3).reshape(rows * len(self.y), columns * len(self.x))


def draw_mosaic(
    surviving: Nifti1Image, statistic: Nifti1Image, *, colour_limit: float, unit: str, template: bool
) -> Picture:
    """Draw axial slices: the survivors opaque and outlined, the whole statistic translucent behind them.

    Parameters
    ----------
    surviving : Nifti1Image, shape (x, y, z)
        The statistic where it survives, 0 elsewhere; all zeros when nothing survived.
    statistic : Nifti1Image, shape (x, y, z)
        The unthresholded statistic on the same grid, 0 outside the mask.
    colour_limit : float
        Where the colours end, in units of the statistic.
    unit : str
        The statistic, as the colour bar names it: ``F`` is drawn from 0 up, anything else on both sides of 0.
    template : bool
        Whether to draw the MNI152 template behind; else the search volume is grey.

    Returns
    -------
    Picture

    References
    ----------
    Taylor et al. (2023), NeuroImage 274, 120138: highlight results, don't hide them.
    """
    montage = _choose_slices(statistic, read_values(statistic) != 0, n_rows=2, template=template)
    figure, (axes,) = _make_rows(montage, 1)
    _draw_statistic(
        axes,
        montage,
        surviving,
        statistic,
        colour_limit=colour_limit,
        name=unit,
        signed=unit != "F",
        template=template,
    )
    return encode(figure)


def draw_pair(
    pairs: Sequence[tuple[Nifti1Image, Nifti1Image]],
    names: Sequence[str],
    *,
    colour_limit: float,
    signed: bool,
    template: bool,
) -> Picture:
    """Draw several z maps on one grid below each other, in the same slices and with the same colours.

    Parameters
    ----------
    pairs : sequence of (Nifti1Image, Nifti1Image)
        Of each the z where it survives, and the whole of it; as for `draw_mosaic`.
    names : sequence of str
        What each of them is; written beside its colour bar.
    colour_limit : float
        Where the colours end, in z.
    signed : bool
        Whether the colours run on both sides of 0.
    template : bool
        As for `draw_mosaic`.

    Returns
    -------
    Picture
    """
    covered = np.logical_or.reduce([read_values(statistic) != 0 for _, statistic in pairs])
    montage = _choose_slices(pairs[0][1], covered, n_rows=2, template=template)
    figure, rows = _make_rows(montage, len(pairs))
    for axes, (surviving, statistic), name in zip(rows, pairs, names, strict=True):
        _draw_statistic(
            axes,
            montage,
            surviving,
            statistic,
            colour_limit=colour_limit,
            name=f"{shorten(name)}\nz",
            signed=signed,
            template=template,
        )
    return encode(figure)


def _draw_statistic(
    axes: Any,
    montage: _Montage,
    surviving: Nifti1Image,
    statistic: Nifti1Image,
    *,
    colour_limit: float,
    name: str,
    signed: bool,
    template: bool,
) -> None:
    """Draw one statistic in the slices of a montage, with its colour bar."""
    values, survives = read_values(statistic), read_values(surviving) != 0
    if template:
        template_affine, template_values, _ = describe_template()
        tissue = montage.sample(template_affine, template_values, order=1)
        axes.imshow(np.where(tissue > 0, tissue, np.nan), cmap="gray", vmin=0, vmax=TEMPLATE_HEADROOM * tissue.max())
    else:
        inside = montage.sample(statistic.affine, values != 0) > 0
        axes.imshow(np.where(inside, PLAIN_GREY, np.nan), cmap="gray", vmin=0, vmax=1)
    opacity = montage.sample(statistic.affine, fade(values, survives, colour_limit))
    lowest, colours = (-colour_limit, SIGNED_COLOURS) if signed else (0.0, UNSIGNED_COLOURS)
    sampled = montage.sample(statistic.affine, values)
    axes.imshow(sampled, cmap=colours, vmin=lowest, vmax=colour_limit, alpha=opacity)
    _outline(axes, montage.sample(statistic.affine, survives))
    _add_bar(axes, colours, lowest, colour_limit, name)


def draw_spread(mask: Nifti1Image, mean_effect: Nifti1Image, sd: Nifti1Image) -> Picture:
    """Draw axial slices of the mean of the inputs and, below, of their standard deviation.

    Parameters
    ----------
    mask : Nifti1Image, shape (x, y, z)
        Non-zero inside.
    mean_effect, sd : Nifti1Image, shape (x, y, z)
        Over all maps, in the units of the maps.

    Returns
    -------
    Picture
    """
    inside = read_values(mask) != 0
    montage = _choose_slices(mask, inside, n_rows=1)
    figure, rows = _make_rows(montage, 2)
    covered = montage.sample(mask.affine, inside) > 0
    for axes, image, name in zip(rows, (mean_effect, sd), ("mean", "SD"), strict=True):
        values = read_values(image)
        lowest, highest = _choose_limits(values[inside], signed=image is mean_effect)
        colours = SIGNED_COLOURS if image is mean_effect else UNSIGNED_COLOURS
        shown = np.where(covered, montage.sample(image.affine, values), np.nan)
        axes.imshow(shown, cmap=colours, vmin=lowest, vmax=highest)
        _outline(axes, covered)
        _add_bar(axes, colours, lowest, highest, f"{name}\n(units of the maps)")
    return encode(figure)


def draw_coverage(n_maps: Nifti1Image, *, most: int) -> Picture:
    """Draw axial slices of the number of maps that each analysed voxel has.

    Parameters
    ----------
    n_maps : Nifti1Image, shape (x, y, z)
        0 outside the mask.
    most : int
        All maps.

    Returns
    -------
    Picture
    """
    values = read_values(n_maps)
    montage = _choose_slices(n_maps, values != 0, n_rows=2)
    figure, (axes,) = _make_rows(montage, 1)
    lowest = float(values[values != 0].min(initial=most - 1))
    lowest = min(lowest, most - 1)
    sampled = montage.sample(n_maps.affine, values)
    axes.imshow(np.where(sampled > 0, sampled, np.nan), cmap="viridis", vmin=lowest, vmax=most)
    _outline(axes, sampled > 0)
    _add_bar(axes, "viridis", lowest, float(most), f"maps (of {most:,})", whole=True)
    return encode(figure)


def _choose_limits(values: NDArray[np.float32], *, signed: bool) -> tuple[float, float]:
    """Return where the colours of values end, so that few wild ones do not bleach the rest."""
    if signed:
        limit = float(np.percentile(np.abs(values), MEAN_PERCENTILE)) if values.size else 0.0
        return (-limit, limit) if limit > 0 else (-1.0, 1.0)
    lowest, highest = np.percentile(values, (100 - MEAN_PERCENTILE, MEAN_PERCENTILE)) if values.size else (0.0, 0.0)
    return (float(lowest), float(highest)) if highest > lowest else (0.0, float(highest) or 1.0)


def _choose_slices(image: Nifti1Image, inside: NDArray[np.bool_], *, n_rows: int, template: bool = False) -> _Montage:
    """Spread slices over the heights of the voxels inside, each as large as the template or these voxels need."""
    places = locate(image.affine, inside if inside.any() else np.ones_like(inside))
    lowest, highest = np.quantile(places[:, 2], (LOWEST_QUANTILE, HIGHEST_QUANTILE))
    heights = np.linspace(lowest, highest, n_rows * SLICES_PER_ROW)
    low, high = describe_template()[2] if template else (places.min(axis=0), places.max(axis=0))
    margin = MARGIN * (high[1] - low[1]) + float(np.abs(image.affine[:3, :3]).max())
    step = (high[1] - low[1] + 2 * margin) / PIXELS_ALONG_SLICE
    x, y = (np.arange(low[axis] - margin, high[axis] + margin, step) for axis in (0, 1))
    return _Montage(heights, x, y)


def _make_rows(montage: _Montage, n_panels: int) -> tuple[Any, list[Any]]:
    """Make axes below each other, each for a whole montage, with the heights of the slices written into them."""
    inches = montage.shape[0] * montage.row_inches
    height = n_panels * (inches + GAP_INCHES)
    figure = make_figure((PAGE_WIDTH_INCHES, height))
    width = 1 - BAR_INCHES / PAGE_WIDTH_INCHES
    panels = []
    for panel in range(n_panels):
        bottom = 1 - (panel + 1) * (inches + GAP_INCHES) / height + 0.5 * GAP_INCHES / height
        axes = figure.add_axes((0.0, bottom, width, inches / height))
        axes.set_axis_off()
        _label_slices(axes, montage)
        panels.append(axes)
    return figure, panels


def _label_slices(axes: Any, montage: _Montage) -> None:
    n_rows, n_columns = len(montage.y), len(montage.x)
    for number, height in enumerate(montage.heights):
        row, column = divmod(number, SLICES_PER_ROW)
        text = f"z = {height:.0f} mm" if number == 0 else f"{height:.0f}"
        axes.text((column + 0.03) * n_columns, (row + 0.02) * n_rows, text, fontsize=SMALL_FONT_SIZE, va="top")
    for name, place in (("L", 0.04), ("R", 0.96)):
        axes.text(place * n_columns, 0.5 * n_rows, name, fontsize=SMALL_FONT_SIZE, ha="center", va="center")


def _outline(axes: Any, inside: NDArray[Any]) -> None:
    if np.any(inside):
        axes.contour(inside, levels=[0.5], colors="black", linewidths=0.5)


def _add_bar(axes: Any, colours: str, lowest: float, highest: float, name: str, *, whole: bool = False) -> None:
    """Draw the colour bar to the right of a row of slices."""
    box = axes.get_position()
    left = box.x1 + GAP_INCHES / PAGE_WIDTH_INCHES
    place = (left, box.y0 + 0.08 * box.height, 0.012, 0.84 * box.height)
    add_bar(axes.figure, place, colours, (lowest, highest), name, whole=whole)
