"""Brains drawn by nilearn: slices through a peak, the glass brain, the mask."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.nifti1 import Nifti1Image
from numpy.typing import NDArray

from bids_group.outputs.figures.canvas import (
    FONT_SIZE,
    SIGNED_COLOURS,
    UNSIGNED_COLOURS,
    encode,
    make_figure,
    read_values,
)

# Transparent thresholding (Taylor et al. 2023): what did not survive fades out with the statistic, reaching its
# strongest, still translucent, at this fraction of the colour limit.
FADED_OPACITY = 0.55
FADE_FRACTION = 0.5

BRAIN_SIZE_INCHES = (7.4, 2.6)
BRAIN_FRAME = (0.0, 0.03, 0.965, 0.94)  # left, bottom, width, height: room for the name of the colour bar

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

    figure = make_figure(BRAIN_SIZE_INCHES)
    values, survives = read_values(statistic), read_values(surviving) != 0
    with _accept_zeros():
        display = plot_stat_map(
            _surround(statistic, values),
            bg_img=load_template() if template else None,
            cut_coords=tuple(cut_coords),
            # nilearn stretches opacities to their largest; one opaque voxel in the empty rim keeps ours as they are.
            transparency=_surround(statistic, fade(values, survives, colour_limit), corner=1.0),
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

    figure = make_figure(BRAIN_SIZE_INCHES)
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

    figure = make_figure(BRAIN_SIZE_INCHES)
    inside = read_values(mask) != 0
    values = np.abs(read_values(mean_effect)[inside])
    limit = float(np.percentile(values, MEAN_PERCENTILE)) if values.size else 0.0
    voxels = np.argwhere(inside)
    middle = voxels.mean(axis=0) if len(voxels) else (np.array(inside.shape) - 1) / 2
    display = plot_stat_map(
        _surround(mean_effect, read_values(mean_effect)),
        bg_img=None,
        cut_coords=tuple(nib.affines.apply_affine(mask.affine, middle)),
        **_choose_scale(limit, signed=True),
        draw_cross=False,
        **_plain_brain(figure),
    )
    _outline(display, mask, inside, colour="black")
    return _finish_brain(figure, display, "mean effect")


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
def load_template() -> Nifti1Image:
    """Return the MNI152 template, without the skull."""
    from nilearn.datasets import load_mni152_template

    return load_mni152_template(resolution=1)  # 1 mm looks right at this size; it ships with nilearn


def fade(statistic: NDArray[np.float32], survives: NDArray[np.bool_], colour_limit: float) -> NDArray[np.float32]:
    """Return how opaque each voxel is: 1 where it survives, else ``0.55 min(1, |statistic| / (0.5 colour_limit))``.

    Parameters
    ----------
    statistic : ndarray of float32, shape (x, y, z)
    survives : ndarray of bool, shape (x, y, z)
    colour_limit : float
        Where the colours end, in units of the statistic.

    Returns
    -------
    ndarray of float32, shape (x, y, z)
    """
    strength = np.minimum(1.0, np.abs(statistic) / (FADE_FRACTION * colour_limit))
    return np.where(survives, 1.0, FADED_OPACITY * strength).astype(np.float32)


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
    return encode(figure)
