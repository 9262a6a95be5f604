"""The map of each subject, small, side by side."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bids_group.outputs.figures.canvas import (
    FONT_SIZE,
    PAGE_WIDTH_INCHES,
    SIGNED_COLOURS,
    SMALL_FONT_SIZE,
    Picture,
    encode,
    make_figure,
    shorten,
)

SUBJECTS_PER_ROW = 5
NAME_INCHES = 0.14
BAR_INCHES = 0.45  # below all, for the colour bar and its name
# Of what is furthest from 0 on all lines of sight; a single wild voxel does not bleach the rest.
PROJECTION_PERCENTILE = 99

EMPTY_PANEL = (20, 40)  # pixels, where no subject has a map

# A map from the left and from above, and the edges of its voxels in mm.
View = tuple[NDArray[np.float32], NDArray[np.float32], tuple[float, float, float]]


def draw_subjects(
    names: Sequence[str], views: Sequence[View | None], *, n_subjects: int, unit: str | None = None
) -> Picture:
    """Draw a map of each subject from the left and from above, all on one scale of colours and one of lengths.

    Parameters
    ----------
    names : sequence of str
    views : sequence of (tuple or None)
        Of each subject, the map from the left (ndarray of float32, shape (y, z)), from above (shape (x, y)), and the
        sizes of its voxels along x, y and z in mm. In a view stands the value furthest from 0 on each line of sight, in
        the units of the maps, 0 where there is none. None for a subject without a map, whose panel says so.
    n_subjects : int
        How many there are, of whom some may not be shown.
    unit : str or None
        What the colour bar is of; None for the units of the maps.

    Returns
    -------
    Picture
    """
    pictures = _draw_panels(views)
    tall, wide = pictures[0].shape
    inches_per_pixel = PAGE_WIDTH_INCHES / (SUBJECTS_PER_ROW * wide)
    step_down = tall + round(NAME_INCHES / inches_per_pixel)
    page = np.zeros((-(-len(names) // SUBJECTS_PER_ROW) * step_down, SUBJECTS_PER_ROW * wide), dtype=np.float32)
    height = len(page) * inches_per_pixel + BAR_INCHES
    figure = make_figure((PAGE_WIDTH_INCHES, height))
    axes = figure.add_axes((0.0, BAR_INCHES / height, 1.0, 1 - BAR_INCHES / height))
    axes.set_axis_off()
    text = {"fontsize": SMALL_FONT_SIZE, "ha": "center", "va": "center"}
    for number, (name, view, picture) in enumerate(zip(names, views, pictures, strict=True)):
        row, column = divmod(number, SUBJECTS_PER_ROW)
        bottom, left = (row + 1) * step_down, column * wide
        page[bottom - tall : bottom, left : left + wide] = picture[::-1]
        axes.text(left + wide / 2, row * step_down + (step_down - tall) / 2, f"sub-{shorten(name)}", **text)
        if view is None:
            axes.text(left + wide / 2, bottom - tall / 2, "no map", **text)
    limit = _choose_limit(views)
    shown = np.where(page != 0, page, np.nan)
    drawn = axes.imshow(shown, cmap=SIGNED_COLOURS, vmin=-limit, vmax=limit, interpolation="none", aspect="auto")
    if page.any():
        axes.contour(page != 0, levels=[0.5], colors="0.5", linewidths=0.4)
    left_out = "" if n_subjects == len(names) else f"; the first {len(names)} of {n_subjects:,} subjects"
    _add_bar(figure, drawn, height, f"{unit or 'units of the maps'}{left_out}")
    return encode(figure)


def _draw_panels(views: Sequence[View | None]) -> list[NDArray[np.float32]]:
    """Return a picture of each subject, all of one shape, with pixels of the smallest edge of any voxel."""
    step = min((size for view in views if view is not None for size in view[2]), default=1.0)
    pictures = [None if view is None else _lay_out(view, step) for view in views]
    shape = np.max([picture.shape for picture in pictures if picture is not None] or [EMPTY_PANEL], axis=0)
    empty = np.zeros((0, 0), dtype=np.float32)
    return [_pad(empty if picture is None else picture, shape) for picture in pictures]


def _lay_out(view: View, step: float) -> NDArray[np.float32]:
    from_left, from_above, (x, y, z) = view
    return _put_side_by_side(_stretch(from_left, (y, z), step), _stretch(from_above, (x, y), step))


def _choose_limit(views: Sequence[View | None]) -> float:
    shown = [side.ravel() for view in views if view is not None for side in view[:2]]
    values = np.abs(np.concatenate(shown)) if shown else np.zeros(1)
    return float(np.percentile(values[values > 0], PROJECTION_PERCENTILE)) if values.any() else 1.0


def _stretch(view: NDArray[np.float32], sizes: tuple[float, float], step: float) -> NDArray[np.float32]:
    """Return a view with pixels of one size, its second axis upwards."""
    places = [
        np.minimum(np.arange(0, length * size, step) / size, length - 1).astype(int)
        for length, size in zip(view.shape, sizes, strict=True)
    ]
    return view[np.ix_(*places)].T


def _put_side_by_side(left: NDArray[np.float32], above: NDArray[np.float32]) -> NDArray[np.float32]:
    """Put two views beside each other, centred, with an empty rim."""
    height = max(len(left), len(above)) + 2
    return np.concatenate([_pad(view, (height, view.shape[1] + 4)) for view in (left, above)], axis=1)


def _pad(view: NDArray[np.float32], shape: Sequence[int]) -> NDArray[np.float32]:
    """Return a view in the middle of an empty one."""
    missing = [(long - short) for long, short in zip(shape, view.shape, strict=True)]
    return np.pad(view, [(n // 2, n - n // 2) for n in missing])


def _add_bar(figure: Any, drawn: Any, height: float, label: str) -> None:
    bar = figure.add_axes((0.3, (BAR_INCHES - 0.12) / height, 0.4, 0.07 / height))
    scale = figure.colorbar(drawn, cax=bar, orientation="horizontal")
    scale.ax.tick_params(labelsize=SMALL_FONT_SIZE, pad=1)
    scale.outline.set_linewidth(0.5)
    scale.set_label(label, fontsize=FONT_SIZE, labelpad=1)
