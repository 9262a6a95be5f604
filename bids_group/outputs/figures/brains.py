"""Brains: slices through a peak, through those of the largest clusters, the glass brain, the mask."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import nibabel as nib
import numpy as np
from nibabel.nifti1 import Nifti1Image
from numpy.typing import NDArray

from bids_group.outputs.figures.canvas import (
    DOTS_PER_INCH,
    FONT_SIZE,
    PAGE_WIDTH_INCHES,
    SMALL_FONT_SIZE,
    Picture,
    encode,
    make_figure,
    read_values,
)
from bids_group.outputs.figures.painting import (
    ACROSS_AND_UP,
    BAR_INCHES,
    ORTHO_ORDER,
    SIDES,
    Corners,
    Floats,
    Page,
    Pixels,
    Shown,
    Singles,
    add_bar_of_row,
    check_limit,
    colour,
    locate,
    mark_place,
)

MARGIN_MM = 5.0  # around the brain
GAP_PIXELS = 8
TALLEST_PIXELS = 600  # of slices that are much higher than wide
TEXT_PIXELS = 4  # between an edge and what is written there
GLASS_SIZE_INCHES = (7.4, 2.6)
GLASS_FRAME = (0.0, 0.03, 0.9, 0.94)  # left, bottom, width, height

# Clusters side by side, each with a title of two lines.
CLUSTERS_PER_ROW = 2
TITLE_INCHES = 0.32

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
    values = np.abs(read_values(statistic))
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
    values = np.abs(read_values(statistic))
    values = values[values > 0]
    if not values.size:
        return 1.0
    limit = min(float(values.max()), LARGEST_OVER_PERCENTILE * float(np.percentile(values, STATISTIC_PERCENTILE)))
    step = 10.0 ** (np.floor(np.log10(limit)) - 1)
    return float(np.ceil(limit / step) * step)


@dataclass(frozen=True)
class ClusterPanel:
    """A surviving cluster: its title, its id in the map of clusters, and where its peak is, in mm."""

    title: str
    cluster: int
    peak: tuple[float, float, float]


def draw_ortho(
    surviving: Nifti1Image,
    statistic: Nifti1Image,
    *,
    cut_coords: Sequence[float],
    colour_limit: float,
    unit: str,
    template: bool,
) -> Picture:
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
    Picture

    References
    ----------
    Taylor et al. (2023), NeuroImage 274, 120138: highlight results, don't hide them.
    """
    survives = read_values(surviving) != 0
    limit = check_limit(colour_limit)
    shown = Shown(statistic.affine, read_values(statistic), survives, survives, limit, unit != "F", template)
    return _draw_cuts(shown, np.array(cut_coords, dtype=np.float64), unit)


def draw_mask(mask: Nifti1Image, mean_effect: Nifti1Image) -> Picture:
    """Draw the mean of the inputs with the outline of the analysis mask, cut through the middle of the mask.

    Parameters
    ----------
    mask : Nifti1Image, shape (x, y, z)
        Non-zero inside.
    mean_effect : Nifti1Image, shape (x, y, z)
        The mean input map on the same grid, in the units of the effects.

    Returns
    -------
    Picture
    """
    inside, values = read_values(mask) != 0, read_values(mean_effect)
    limit = float(np.percentile(np.abs(values[inside]), MEAN_PERCENTILE)) if inside.any() else 0.0
    voxels = np.argwhere(inside)
    middle = voxels.mean(axis=0) if len(voxels) else (np.array(inside.shape) - 1) / 2
    shown = Shown(mask.affine, np.where(inside, values, 0), inside, inside, check_limit(limit), True, False)
    return _draw_cuts(shown, nib.affines.apply_affine(mask.affine, middle), "mean effect")


def draw_clusters(
    clusters: Nifti1Image,
    statistic: Nifti1Image,
    panels: Sequence[ClusterPanel],
    *,
    colour_limit: float,
    unit: str,
    template: bool,
) -> Picture:
    """Draw three slices through the peak of each of some clusters, its voxels outlined, all survivors opaque.

    Parameters
    ----------
    clusters : Nifti1Image of int, shape (x, y, z)
        The id of each voxel's cluster, 0 where it survives in none.
    statistic : Nifti1Image, shape (x, y, z)
        The unthresholded statistic on the same grid, 0 outside the mask.
    panels : sequence of ClusterPanel
        At least one.
    colour_limit, unit, template
        As in `draw_ortho`.

    Returns
    -------
    Picture
    """
    ids, values, limit = np.asarray(clusters.dataobj), read_values(statistic), check_limit(colour_limit)
    width = round(PAGE_WIDTH_INCHES * DOTS_PER_INCH) - round(BAR_INCHES * DOTS_PER_INCH)
    room, title = width // CLUSTERS_PER_ROW - 2 * GAP_PIXELS, round(TITLE_INCHES * DOTS_PER_INCH)
    whole = Shown(statistic.affine, values, ids != 0, ids != 0, limit, unit != "F", template)
    corners = whole.find_corners(MARGIN_MM)
    height = _measure_height(corners, room) + title + GAP_PIXELS
    n_rows = -(-len(panels) // CLUSTERS_PER_ROW)
    figure = make_figure((PAGE_WIDTH_INCHES, n_rows * height / DOTS_PER_INCH))
    page = Page(figure)
    for number, panel in enumerate(panels):
        row, column = divmod(number, CLUSTERS_PER_ROW)
        left, top = column * (room + 2 * GAP_PIXELS), row * height
        one = Shown(statistic.affine, values, ids != 0, ids == panel.cluster, limit, unit != "F", template)
        page.write(panel.title, left + TEXT_PIXELS, top + TEXT_PIXELS, size=SMALL_FONT_SIZE + 1, linespacing=1.25)
        _put_cuts(page, one, np.array(panel.peak), corners, (left, top + title, room), size=SMALL_FONT_SIZE)
    add_bar_of_row(page.finish(), height, limit, unit, signed=whole.signed)
    return encode(figure)


def _draw_cuts(shown: Shown, at: Floats, unit: str) -> Picture:
    corners = shown.find_corners(MARGIN_MM)
    room = round((PAGE_WIDTH_INCHES - BAR_INCHES) * DOTS_PER_INCH)
    height = _measure_height(corners, room)
    figure = make_figure((PAGE_WIDTH_INCHES, height / DOTS_PER_INCH))
    page = Page(figure)
    _put_cuts(page, shown, at, corners, (0, 0, room), size=FONT_SIZE)
    add_bar_of_row(page.finish(), height, shown.colour_limit, unit, signed=shown.signed)
    return encode(figure)


def _choose_scale(corners: Corners, room: int) -> float:
    """Return the pixels per mm with which three slices fill the room across, or reach the largest height."""
    size = corners[1] - corners[0]
    across = sum(size[ACROSS_AND_UP[axis][0]] for axis in ORTHO_ORDER)
    tallest = max(size[ACROSS_AND_UP[axis][1]] for axis in ORTHO_ORDER)
    return float(min((room - len(ORTHO_ORDER) * (GAP_PIXELS + 1)) / across, TALLEST_PIXELS / tallest))


def _measure_height(corners: Corners, room: int) -> int:
    size = corners[1] - corners[0]
    tallest = max(size[ACROSS_AND_UP[axis][1]] for axis in ORTHO_ORDER)
    return int(np.ceil(tallest * _choose_scale(corners, room))) + GAP_PIXELS


def _put_cuts(
    page: Page, shown: Shown, at: Floats, corners: Corners, box: tuple[int, int, int], *, size: float
) -> None:
    """Put three slices through a place side by side, each with where it is and which side is which."""
    left, top, room = box
    height, scale = _measure_height(corners, room), _choose_scale(corners, room)
    for axis in ORTHO_ORDER:
        picture = shown.paint(axis, at, corners, scale)
        mark_place(picture, axis, at, corners, scale)
        n_rows, n_columns, _ = picture.shape
        page.put(picture, left, top + (height - n_rows) // 2)
        page.write(f"{'xyz'[axis]} = {at[axis]:.0f}", left + TEXT_PIXELS, top + TEXT_PIXELS, size=size)
        middle = top + height // 2 - size
        for side, place, align in zip(SIDES[axis], (left, left + n_columns), ("left", "right"), strict=True):
            page.write(side, place, middle, size=size, align=align)
        left += n_columns + GAP_PIXELS


@dataclass(frozen=True)
class _GlassPanel:
    """A side of the glass brain: its pixels on the page, and the mm of their centres."""

    axis: int
    left: int
    top: int
    across: Floats
    up: Floats


def draw_glass_brain(surviving: Nifti1Image, *, colour_limit: float, unit: str, signed: bool) -> Picture:
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
    Picture
    """
    values, limit = read_values(surviving), check_limit(colour_limit)
    places, heights = locate(surviving.affine, values != 0), values[values != 0]
    sizes = nib.affines.voxel_sizes(surviving.affine)
    glass, panels = _draw_glass()
    figure = make_figure(GLASS_SIZE_INCHES)
    page = Page(figure)
    page.put(glass, 0, 0)
    for panel in panels:
        seen = _project(places, heights, panel, sizes)
        box = np.s_[panel.top : panel.top + len(panel.up), panel.left : panel.left + len(panel.across)]
        colours = np.where((seen != 0)[..., None], colour(seen, limit, signed=signed), 1)
        # The lines of the brain stay in sight: they darken what is below them.
        page.put((glass[box] * colours).astype(np.uint8), panel.left, panel.top)
    height = round(GLASS_SIZE_INCHES[1] * DOTS_PER_INCH)
    add_bar_of_row(page.finish(), height, limit, unit, signed=signed)
    return encode(figure)


@cache
def _draw_glass() -> tuple[Pixels, tuple[_GlassPanel, ...]]:
    """Draw the empty glass brain of nilearn, and find where its sides lie."""
    from nilearn.plotting import plot_glass_brain

    figure = make_figure(GLASS_SIZE_INCHES)
    display = plot_glass_brain(None, figure=figure, axes=GLASS_FRAME, black_bg=False, annotate=False)
    display.annotate(size=FONT_SIZE)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()
    panels = []
    for axis, name in enumerate("xyz"):
        axes = display.axes[name].ax
        box = axes.get_window_extent()
        columns = np.arange(int(np.ceil(box.x0)), int(box.x1))
        rows = np.arange(int(np.ceil(box.y0)), int(box.y1))[::-1]
        to_mm = axes.transData.inverted()
        across = to_mm.transform(np.column_stack([columns + 0.5, np.full(len(columns), box.y0)]))[:, 0]
        up = to_mm.transform(np.column_stack([np.full(len(rows), box.x0), rows + 0.5]))[:, 1]
        panels.append(_GlassPanel(axis, int(columns[0]), len(pixels) - 1 - int(rows[0]), across, up))
    figure.clear()
    return pixels, tuple(panels)


def _project(places: Floats, heights: NDArray[np.float32], panel: _GlassPanel, sizes: Floats) -> Singles:
    """Return of each pixel the value furthest from 0 of the voxels behind it, 0 of none."""
    seen = np.zeros((len(panel.up), len(panel.across)), dtype=np.float32)
    pixel_mm = abs(panel.across[1] - panel.across[0])
    across, up = ACROSS_AND_UP[panel.axis]
    weakest_first = np.argsort(np.abs(heights), kind="stable")
    columns = (places[weakest_first, across] - panel.across[0]) / (panel.across[1] - panel.across[0])
    rows = (places[weakest_first, up] - panel.up[0]) / (panel.up[1] - panel.up[0])
    n_down, n_along = (max(1, int(np.ceil(sizes[axis] / pixel_mm))) for axis in (up, across))
    for down in range(n_down):
        for along in range(n_along):
            row = np.floor(rows + 0.5 + down - n_down / 2 + 0.5).astype(np.intp)
            column = np.floor(columns + 0.5 + along - n_along / 2 + 0.5).astype(np.intp)
            is_inside = (row >= 0) & (row < seen.shape[0]) & (column >= 0) & (column < seen.shape[1])
            layer = np.zeros_like(seen)
            layer[row[is_inside], column[is_inside]] = heights[weakest_first][is_inside]  # the strongest comes last
            seen = np.where(np.abs(layer) > np.abs(seen), layer, seen)
    return seen
