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


def draw_subjects(
    names: Sequence[str],
    from_left: NDArray[np.float32],
    from_above: NDArray[np.float32],
    *,
    voxel_sizes: tuple[float, float, float],
    n_subjects: int,
) -> Picture:
    """Draw the map of each subject from the left and from above, all on one scale of colours.

    Parameters
    ----------
    names : sequence of str
    from_left : ndarray of float32, shape (n_shown, y, z)
        The value furthest from 0 on each line of sight, in the units of the maps; 0 where there is none.
    from_above : ndarray of float32, shape (n_shown, x, y)
    voxel_sizes : tuple of 3 float
        Along x, y and z, in mm.
    n_subjects : int
        How many there are, of whom some may not be shown.

    Returns
    -------
    Picture
    """
    x, y, z = voxel_sizes
    step = min(voxel_sizes)
    pictures = [
        _put_side_by_side(_stretch(left, (y, z), step), _stretch(above, (x, y), step))
        for left, above in zip(from_left, from_above, strict=True)
    ]
    values = np.abs(np.concatenate([from_left.ravel(), from_above.ravel()]))
    limit = float(np.percentile(values[values > 0], PROJECTION_PERCENTILE)) if values.any() else 1.0
    n_rows, (tall, wide) = -(-len(names) // SUBJECTS_PER_ROW), pictures[0].shape
    inches_per_pixel = PAGE_WIDTH_INCHES / (SUBJECTS_PER_ROW * wide)
    step_down = tall + round(NAME_INCHES / inches_per_pixel)
    page = np.zeros((n_rows * step_down, SUBJECTS_PER_ROW * wide), dtype=np.float32)
    height = len(page) * inches_per_pixel + BAR_INCHES
    figure = make_figure((PAGE_WIDTH_INCHES, height))
    axes = figure.add_axes((0.0, BAR_INCHES / height, 1.0, 1 - BAR_INCHES / height))
    axes.set_axis_off()
    for number, (name, picture) in enumerate(zip(names, pictures, strict=True)):
        row, column = divmod(number, SUBJECTS_PER_ROW)
        bottom, left = (row + 1) * step_down, column * wide
        page[bottom - tall : bottom, left : left + wide] = picture[::-1]
        place = (left + wide / 2, row * step_down + (step_down - tall) / 2)
        axes.text(*place, f"sub-{shorten(name)}", fontsize=SMALL_FONT_SIZE, ha="center", va="center")
    shown = np.where(page != 0, page, np.nan)
    drawn = axes.imshow(shown, cmap=SIGNED_COLOURS, vmin=-limit, vmax=limit, interpolation="none", aspect="auto")
    axes.contour(page != 0, levels=[0.5], colors="0.5", linewidths=0.4)
    _add_bar(figure, drawn, height, len(names), n_subjects)
    return encode(figure)


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
    framed = []
    for view in (left, above):
        missing = height - len(view)
        framed.append(np.pad(view, ((missing // 2, missing - missing // 2), (2, 2))))
    return np.concatenate(framed, axis=1)


def _add_bar(figure: Any, drawn: Any, height: float, n_shown: int, n_subjects: int) -> None:
    bar = figure.add_axes((0.3, (BAR_INCHES - 0.12) / height, 0.4, 0.07 / height))
    scale = figure.colorbar(drawn, cax=bar, orientation="horizontal")
    scale.ax.tick_params(labelsize=SMALL_FONT_SIZE, pad=1)
    scale.outline.set_linewidth(0.5)
    left_out = "" if n_shown == n_subjects else f"; the first {n_shown} of {n_subjects:,} subjects"
    scale.set_label(f"units of the maps{left_out}", fontsize=FONT_SIZE, labelpad=1)
