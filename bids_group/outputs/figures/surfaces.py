"""A map on the inflated cortex of both hemispheres, from outside and from between them.

Which triangle a pixel lies in, and where in it, depends on the mesh and the view alone. It is found once for each view;
a figure is then a weighted mean of three vertices for each pixel.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from nibabel.nifti1 import Nifti1Image
from numpy.typing import NDArray

from bids_group.cortex import Cortex, Hemisphere, load_cortex, project_to_cortex
from bids_group.outputs.figures.canvas import (
    DOTS_PER_INCH,
    FONT_SIZE,
    PAGE_WIDTH_INCHES,
    Picture,
    encode,
    make_figure,
    read_values,
)
from bids_group.outputs.figures.painting import (
    BAR_INCHES,
    GREY_LEVELS,
    Page,
    Pixels,
    Singles,
    add_bar_of_row,
    blend,
    check_limit,
    colour,
    fade,
    find_rim,
)

Hits = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.floating], NDArray[np.floating]]

NAME_PIXELS = 22  # above each view, for its name
GAP_PIXELS = 6
FINER = 2  # pixels along an edge of those of the figure: their mean leaves no steps at the rims
GYRUS_GREY, SULCUS_GREY = 0.86, 0.66
DARKEST = 0.55  # of what is seen from the edge
_STRIDE = 1 << 16  # no picture is as wide
HALF = 0.5  # of the weights of a pixel: the border between vertices
Direction = tuple[int, int, int]
# The views, row by row: hemisphere, what points to the right and what upwards, and what it is called.
VIEWS: tuple[tuple[tuple[Hemisphere, Direction, Direction, str], ...], ...] = (
    (
        ("left", (0, -1, 0), (0, 0, 1), "left, from outside"),
        ("left", (0, 1, 0), (0, 0, 1), "left, from the middle"),
        ("right", (0, -1, 0), (0, 0, 1), "right, from the middle"),
        ("right", (0, 1, 0), (0, 0, 1), "right, from outside"),
    ),
    (
        ("left", (0, -1, 0), (1, 0, 0), "left, from above"),
        ("left", (0, 1, 0), (1, 0, 0), "left, from below"),
        ("right", (0, -1, 0), (-1, 0, 0), "right, from below"),
        ("right", (0, 1, 0), (-1, 0, 0), "right, from above"),
    ),
)


@dataclass(frozen=True)
class _View:
    """The pixels of a view of one hemisphere.

    Attributes
    ----------
    shape : tuple of 2 int
    pixels : ndarray of int, shape (n_pixels,)
        Those that show cortex, counted row by row.
    vertices : ndarray of int, shape (n_pixels, 3)
        Of the triangle that a pixel shows.
    weights : ndarray of float32, shape (n_pixels, 3)
        Of its vertices.
    light : ndarray of float32, shape (n_pixels,)
        1 of what faces the viewer.
    """

    shape: tuple[int, int]
    pixels: NDArray[np.intp]
    vertices: NDArray[np.int32]
    weights: Singles
    light: Singles

    def spread(self, values: NDArray[np.generic]) -> Singles:
        """Return values of vertices as pixels, shape (n_pixels,)."""
        found: Singles = np.einsum("pv,pv->p", values.astype(np.float32)[self.vertices], self.weights)
        return found

    def fill(self, values: Singles, blank: float) -> Singles:
        """Return the picture of values of its pixels."""
        picture = np.full(self.shape[0] * self.shape[1], blank, dtype=np.float32)
        picture[self.pixels] = values
        return picture.reshape(self.shape)


def draw_surface(surviving: Nifti1Image, statistic: Nifti1Image, *, colour_limit: float, unit: str) -> Picture:
    """Draw a map on the inflated cortex: the survivors opaque and outlined, the whole statistic translucent.

    Parameters
    ----------
    surviving : Nifti1Image, shape (x, y, z)
        The statistic where it survives, 0 elsewhere, in MNI152 space; all zeros when nothing survived.
    statistic : Nifti1Image, shape (x, y, z)
        The unthresholded statistic on the same grid, 0 outside the mask.
    colour_limit : float
        Where the colours end, in units of the statistic.
    unit : str
        The statistic, as the colour bar names it: ``F`` is drawn from 0 up, anything else on both sides of 0.

    Returns
    -------
    Picture

    References
    ----------
    Fischl et al. (1999), Human Brain Mapping 8, 272: the cortex that maps are shown on.
    """
    limit, signed = check_limit(colour_limit), unit != "F"
    maps = [read_values(image) for image in (surviving, statistic)]
    projected = {
        name: _Projected(cortex, *(project_to_cortex(values, statistic.affine, cortex) for values in maps))
        for name, cortex in load_cortex().items()
    }
    rows = [
        [
            (name, projected[hemisphere].paint(_find_view(hemisphere, across, up), limit, signed=signed))
            for hemisphere, across, up, name in row
        ]
        for row in VIEWS
    ]
    heights = [NAME_PIXELS + max(len(picture) for _, picture in row) + GAP_PIXELS for row in rows]
    figure = make_figure((PAGE_WIDTH_INCHES, sum(heights) / DOTS_PER_INCH))
    page, top = Page(figure), 0
    for row, height in zip(rows, heights, strict=True):
        _put_row(page, row, top)
        top += height
    add_bar_of_row(page.finish(), top, limit, unit, signed=signed)
    return encode(figure)


def _put_row(page: Page, row: list[tuple[str, Pixels]], top: int) -> None:
    left = 0
    for name, picture in row:
        page.put(picture, left, top + NAME_PIXELS)
        page.write(name, left + picture.shape[1] / 2, top + GAP_PIXELS / 2, size=FONT_SIZE - 1, align="center")
        left += picture.shape[1] + GAP_PIXELS


@dataclass(frozen=True)
class _Projected:
    """A map on a hemisphere: what survives of it, and all of it."""

    cortex: Cortex
    surviving: Singles
    whole: Singles

    def paint(self, view: _View, limit: float, *, signed: bool) -> Pixels:
        """Paint a view, and join its finer pixels to those of the figure."""
        inside = view.fill(view.spread(self.surviving != 0), 0.0) >= HALF
        # A vertex may pass a stronger voxel that does not survive, such as one of the other tail.
        shown = view.fill(view.spread(np.where(self.surviving != 0, self.surviving, self.whole)), 0.0)
        greys = np.where(view.spread(self.cortex.is_sulcus) >= HALF, SULCUS_GREY, GYRUS_GREY) * view.light
        behind = view.fill(np.round(greys * (GREY_LEVELS - 1)) / np.float32(GREY_LEVELS - 1), 1.0)
        picture = blend(behind, colour(shown, limit, signed=signed), fade(shown, inside, limit))
        picture[find_rim(inside)] = 0
        rows, columns = (edge // FINER for edge in view.shape)
        blocks = picture.reshape(rows, FINER, columns, FINER, 3).mean(axis=(1, 3))
        return np.round(blocks).astype(np.uint8)


@cache
def _find_view(hemisphere: Hemisphere, to_the_right: Direction, upwards: Direction) -> _View:
    """Find what each pixel of a view of a hemisphere shows."""
    cortex = load_cortex()[hemisphere]
    towards_viewer = np.cross(to_the_right, upwards)
    across, up, near = (cortex.inflated @ np.array(one) for one in (to_the_right, upwards, towards_viewer))
    room = round((PAGE_WIDTH_INCHES - BAR_INCHES) * DOTS_PER_INCH) // len(VIEWS[0]) - GAP_PIXELS
    scale = (room * FINER - 2) / np.ptp(across)
    n_rows = FINER * (int(np.ceil(np.ptp(up) * scale)) // FINER + 2)
    points = np.column_stack([(across - across.min()) * scale + 1, (up.max() - up) * scale + 1, near])
    return _rasterise(points, cortex.triangles, (n_rows, room * FINER))


def _rasterise(points: NDArray[np.floating], triangles: NDArray[np.int32], shape: tuple[int, int]) -> _View:
    """Find for each pixel the nearest triangle that faces the viewer, and the weights of its corners.

    Parameters
    ----------
    points : ndarray of float, shape (n_vertices, 3)
        Columns and rows of pixels, and nearness to the viewer.
    triangles : ndarray of int32, shape (n_triangles, 3)
    shape : tuple of 2 int
        Rows and columns.
    """
    corners = points[triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    seen = np.flatnonzero(normals[:, 2] < 0)  # rows run downwards
    hits = list(_list_hits(corners[seen], normals[seen, 2]))
    pixel, owner, nearness, weights = (np.concatenate(one) for one in zip(*hits, strict=True))
    last = np.lexsort((owner, nearness, pixel))
    last = last[np.append(pixel[last][1:] != pixel[last][:-1], True)]
    rows_and_columns = pixel[last]
    width = shape[1]
    facing = -normals[seen, 2] / np.linalg.norm(normals[seen], axis=1)
    light = DARKEST + (1 - DARKEST) * facing[owner[last]]
    chosen = triangles[seen][owner[last]]
    flat = (rows_and_columns // _STRIDE) * width + rows_and_columns % _STRIDE
    return _View(shape, flat, chosen, weights[last].astype(np.float32), light.astype(np.float32))


def _list_hits(corners: NDArray[np.floating], doubled_area: NDArray[np.floating]) -> Iterator[Hits]:
    """Yield, for each place in the boxes around triangles, the pixels whose centres lie in theirs."""
    lowest = np.floor(corners[:, :, :2].min(axis=1)).astype(np.intp)
    extent = np.ceil(corners[:, :, :2].max(axis=1)).astype(np.intp) - lowest
    for across in range(int(extent[:, 0].max())):
        for down in range(int(extent[:, 1].max())):
            owner = np.flatnonzero((extent > (across, down)).all(axis=1))
            if not owner.size:
                continue
            pixel = lowest[owner] + (across, down)
            weights = _weigh(pixel + 0.5, corners[owner, :, :2], doubled_area[owner])
            hit = (weights >= 0).all(axis=1)
            near = (weights[hit] * corners[owner[hit], :, 2]).sum(axis=1)
            yield pixel[hit, 1] * _STRIDE + pixel[hit, 0], owner[hit], near, weights[hit]


def _weigh(
    places: NDArray[np.floating], corners: NDArray[np.floating], doubled_area: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Return the barycentric weights of places in triangles, shape (n, 3)."""
    arms = corners - places[:, None]
    ahead, behind = arms[:, [1, 2, 0]], arms[:, [2, 0, 1]]
    return (ahead[..., 0] * behind[..., 1] - ahead[..., 1] * behind[..., 0]) / doubled_area[:, None]
