"""Pictures of brains as arrays of pixels: slices of a map over a template, coloured, outlined and put on a page.

A slice is looked up pixel by pixel and blended once, which takes a tenth of the time that a plotting library takes to
resample, blend and trace each layer.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.nifti1 import Nifti1Image
from numpy.typing import NDArray
from scipy import ndimage

from bids_group.outputs.figures.canvas import (
    DOTS_PER_INCH,
    FONT_SIZE,
    PAGE_WIDTH_INCHES,
    SIGNED_COLOURS,
    UNSIGNED_COLOURS,
    add_bar,
    read_values,
    spell,
)

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Pixels = NDArray[np.uint8]

# Transparent thresholding (Taylor et al. 2023): what did not survive fades out with the statistic, reaching its
# strongest, still translucent, at this fraction of the colour limit.
FADED_OPACITY = 0.55
FADE_FRACTION = 0.5

TEMPLATE_HEADROOM = 1.15  # the brightest tissue stays off white
GREY_LEVELS = 48  # of it: more cannot be told apart beneath the colours, and make files larger and slower to write
LINE_DARKNESS = 0.5  # of the lines that mark where the other slices are
FRAME_GREY = 0.6  # of the outline of the map where there is no template
WHITE = 255
BAR_INCHES = 0.75  # to the right of all pictures, for the colour bar and its labels
BAR_HEIGHT = 0.8  # of the height of the picture beside it
# Across and upwards of the slices along x, y and z, and what stands on the left and the right of each.
ACROSS_AND_UP = ((1, 2), (0, 2), (0, 1))
SIDES = (("", ""), ("L", "R"), ("L", "R"))
ORTHO_ORDER = (1, 0, 2)  # coronal, sagittal, axial

Corners = tuple[Floats, Floats]


def fade(statistic: Singles, survives: NDArray[np.bool_], colour_limit: float) -> Singles:
    """Return how opaque each voxel is: 1 where it survives, else ``0.55 min(1, |statistic| / (0.5 colour_limit))``.

    Parameters
    ----------
    statistic : ndarray of float32, any shape
    survives : ndarray of bool, of this shape
    colour_limit : float
        Where the colours end, in units of the statistic.

    Returns
    -------
    ndarray of float32, of this shape

    References
    ----------
    Taylor et al. (2023), NeuroImage 274, 120138: highlight results, don't hide them.
    """
    strength = np.minimum(1.0, np.abs(statistic) / (FADE_FRACTION * colour_limit))
    return np.where(survives, 1.0, FADED_OPACITY * strength).astype(np.float32)


@cache
def load_template() -> Nifti1Image:
    """Return the MNI152 template of 1 mm, without the skull; it ships with nilearn."""
    from nilearn.datasets import load_mni152_template

    return load_mni152_template(resolution=1)


@cache
def describe_template() -> tuple[Floats, Singles, Corners]:
    """Return the template's affine and values, and the corners of its brain in mm."""
    image = load_template()
    values = read_values(image)
    return image.affine, values, find_corners(image.affine, values > 0)


def locate(affine: Floats, inside: NDArray[np.bool_]) -> Floats:
    """Return where voxels are, in mm, shape (n_inside, 3)."""
    places: Floats = nib.affines.apply_affine(affine, np.argwhere(inside))
    return places


def find_corners(affine: Floats, inside: NDArray[np.bool_]) -> Corners:
    """Return the lowest and the highest coordinates of voxels, in mm; of no voxels, those of the grid."""
    places = locate(affine, inside if inside.any() else np.ones_like(inside))
    return places.min(axis=0), places.max(axis=0)


def sample(affine: Floats, values: NDArray[Any], x: Floats, y: Floats, z: Floats, *, order: int = 0) -> Singles:
    """Look up values at places.

    Parameters
    ----------
    affine : ndarray of float64, shape (4, 4)
        From voxels to mm.
    values : ndarray, shape (x, y, z)
    x, y, z : ndarray of float64
        In mm; of shapes that broadcast.
    order : {0, 1}
        The nearest voxel, or linear between voxels.

    Returns
    -------
    ndarray of float32
        0 outside the grid.
    """
    inverse = np.linalg.inv(affine)
    points = np.array([row[0] * x + row[1] * y + row[2] * z + row[3] for row in inverse[:3]])
    numbers = values.astype(np.float32, copy=False)
    found: Singles = ndimage.map_coordinates(numbers, points, order=order, prefilter=False)
    return found


def colour(values: Singles, colour_limit: float, *, signed: bool) -> Singles:
    """Return the colours of values, red, green and blue from 0 to 1 along a new last axis."""
    from matplotlib import colormaps

    lowest = -colour_limit if signed else 0.0
    shares = np.clip((values - lowest) / (colour_limit - lowest), 0, 1)
    table = colormaps[SIGNED_COLOURS if signed else UNSIGNED_COLOURS]
    return table(np.arange(table.N))[:, :3].astype(np.float32)[np.round(shares * (table.N - 1)).astype(np.intp)]


def blend(behind: Singles, colours: Singles, opacity: Singles) -> Pixels:
    """Lay colours over shades of grey.

    Parameters
    ----------
    behind, opacity : ndarray of float32, shape (n_rows, n_columns)
        From 0 to 1.
    colours : ndarray of float32, shape (n_rows, n_columns, 3)
        From 0 to 1.

    Returns
    -------
    ndarray of uint8, shape (n_rows, n_columns, 3)
    """
    share = opacity[..., None]
    return np.round(WHITE * np.clip((1 - share) * behind[..., None] + share * colours, 0, 1)).astype(np.uint8)


def find_rim(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels inside that touch one outside by an edge."""
    padded = np.pad(inside, 1)
    enclosed = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inside & ~enclosed


@dataclass(frozen=True)
class Shown:
    """A map and what of it stands out, as slices show them.

    Attributes
    ----------
    affine : ndarray of float64, shape (4, 4)
    values : ndarray of float32, shape (x, y, z)
        0 outside the mask.
    survives : ndarray of bool, shape (x, y, z)
        Opaque; the rest fades.
    outlined : ndarray of bool, shape (x, y, z)
    colour_limit : float
        Where the colours end.
    signed : bool
        Whether the colours run on both sides of 0.
    template : bool
        Whether the MNI152 template lies behind; else the rim of the map is drawn.
    """

    affine: Floats
    values: Singles
    survives: NDArray[np.bool_]
    outlined: NDArray[np.bool_]
    colour_limit: float
    signed: bool
    template: bool

    def find_corners(self, margin: float) -> Corners:
        """Return the corners of what slices must hold, with a margin; all in mm."""
        low, high = describe_template()[2] if self.template else find_corners(self.affine, self.values != 0)
        return low - margin, high + margin

    def paint(self, axis: int, at: Floats, corners: Corners, pixels_per_mm: float) -> Pixels:
        """Paint the slice along an axis through a place.

        Parameters
        ----------
        axis : {0, 1, 2}
        at : ndarray of float64, shape (3,)
            In mm.
        corners : tuple of 2 ndarray of float64, shape (3,)
            Of the slices, in mm.
        pixels_per_mm : float

        Returns
        -------
        ndarray of uint8, shape (n_rows, n_columns, 3)
            The first row is the highest.
        """
        places = _spread_pixels(axis, at, corners, pixels_per_mm)
        values = sample(self.affine, self.values, *places)
        survives = sample(self.affine, self.survives, *places) > 0
        behind = _paint_template(*places) if self.template else np.ones_like(values)
        opacity = fade(values, survives, self.colour_limit)
        picture = blend(behind, colour(values, self.colour_limit, signed=self.signed), opacity)
        if not self.template:
            picture[find_rim(values != 0)] = round(FRAME_GREY * WHITE)
        picture[find_rim(sample(self.affine, self.outlined, *places) > 0)] = 0
        return picture


def _spread_pixels(axis: int, at: Floats, corners: Corners, pixels_per_mm: float) -> tuple[Floats, Floats, Floats]:
    """Return the mm of the pixels of a slice, as arrays that broadcast to its rows and columns."""
    across, up = ACROSS_AND_UP[axis]
    low, high = corners
    step = 1 / pixels_per_mm
    places = [np.full((1, 1), part) for part in at]
    places[across] = np.arange(low[across], high[across], step)[None, :]
    places[up] = np.arange(low[up], high[up], step)[::-1, None]
    return places[0], places[1], places[2]


def _paint_template(x: Floats, y: Floats, z: Floats) -> Singles:
    affine, values, _ = describe_template()
    tissue = sample(affine, values, x, y, z, order=1)
    shades = np.round(tissue / values.max() * (GREY_LEVELS - 1)) / ((GREY_LEVELS - 1) * TEMPLATE_HEADROOM)
    return np.where(tissue > 0, shades, 1.0).astype(np.float32)


def mark_place(picture: Pixels, axis: int, at: Floats, corners: Corners, pixels_per_mm: float) -> None:
    """Draw two thin lines through a place into a slice, changing it."""
    across, up = ACROSS_AND_UP[axis]
    low, _ = corners
    column = int((at[across] - low[across]) * pixels_per_mm)
    row = len(picture) - 1 - int((at[up] - low[up]) * pixels_per_mm)
    for line in (np.s_[row : row + 1], np.s_[:, column : column + 1]):
        picture[line] = (LINE_DARKNESS * picture[line]).astype(np.uint8)


class Page:
    """A white figure on which pictures are put pixel by pixel, their places counted from the left and the top.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    """

    def __init__(self, figure: Any) -> None:
        self._figure = figure
        self._width, self._height = (round(inches * DOTS_PER_INCH) for inches in figure.get_size_inches())
        self._pixels = np.full((self._height, self._width, 3), WHITE, dtype=np.uint8)

    def put(self, picture: Pixels, left: int, top: int) -> None:
        """Put a picture where it does not reach beyond the page."""
        self._pixels[top : top + picture.shape[0], left : left + picture.shape[1]] = picture

    def write(
        self,
        text: str,
        left: float,
        top: float,
        *,
        size: float = FONT_SIZE,
        align: str = "left",
        **style: Any,
    ) -> None:
        """Write a text below a place."""
        place = (left / self._width, 1 - top / self._height)
        self._figure.text(*place, spell(text), fontsize=size, ha=align, va="top", **style)

    def finish(self) -> Any:
        """Put the pixels behind the texts, and return the figure."""
        self._figure.figimage(self._pixels[::-1], origin="lower", zorder=-1)
        return self._figure


def check_limit(colour_limit: float) -> float:
    """Return where colours end, 1 for what is no such place."""
    return colour_limit if np.isfinite(colour_limit) and colour_limit > 0 else 1.0


def add_bar_of_row(figure: Any, height: int, colour_limit: float, unit: str, *, signed: bool) -> None:
    """Draw the colour bar to the right of the first row of pictures of a page, which is some pixels high."""
    share = height / DOTS_PER_INCH / figure.get_size_inches()[1]
    left = 1 - (BAR_INCHES - 0.1) / PAGE_WIDTH_INCHES
    place = (left, 1 - share * (1 + BAR_HEIGHT) / 2, 0.012, share * BAR_HEIGHT)
    limits = (-colour_limit if signed else 0.0, colour_limit)
    add_bar(figure, place, SIGNED_COLOURS if signed else UNSIGNED_COLOURS, limits, unit)
