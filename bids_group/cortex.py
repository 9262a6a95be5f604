"""The cortex that maps in MNI space are shown on: fsaverage5, as nilearn ships it, and what of a map each vertex shows.

A vertex shows one voxel: of those on the line from the white to the pial surface, the one furthest from 0. So its value
is one of the map and of its tables, nothing outside the mask is mixed into it, and opposite signs do not cancel.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from bids_group.errors import MissingInputError

Hemisphere = Literal["left", "right"]
HEMISPHERES: tuple[Hemisphere, ...] = get_args(Hemisphere)
FOLDER = "datasets/data/fsaverage5"  # in nilearn's folder
# fsaverage lies in MNI305 space. FreeSurfer's wiki, CoordinateSystems, item 8 (mni152.register.dat).
MNI305_TO_MNI152 = np.array(
    [
        [0.9975, -0.0073, 0.0176, -0.0429],
        [0.0146, 1.0009, -0.0024, 1.5496],
        [-0.0130, -0.0093, 0.9971, 1.1840],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
# Where between the white (0) and the pial surface (1) voxels are looked up: cortex is some 2.5 mm thick.
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Cortex:
    """One hemisphere of fsaverage5; coordinates in mm, x to the right, y forwards, z upwards.

    Attributes
    ----------
    white, pial : ndarray of float32, shape (n_vertices, 3)
        In MNI152 space.
    inflated : ndarray of float32, shape (n_vertices, 3)
        Centred; not a place in the brain.
    triangles : ndarray of int32, shape (n_triangles, 3)
        Counted anticlockwise as seen from outside.
    is_sulcus : ndarray of bool, shape (n_vertices,)
        Whether a vertex lies deeper than the mean surface.
    """

    white: Floats
    pial: Floats
    inflated: Floats
    triangles: NDArray[np.int32]
    is_sulcus: NDArray[np.bool_]


def find_packaged(name: str) -> Path:
    """Find a file that is installed with nilearn, whose import would take seconds.

    Parameters
    ----------
    name : str
        Its path in nilearn's folder.

    Returns
    -------
    Path

    Raises
    ------
    MissingInputError
        nilearn, or this file of it, is not installed.
    """
    spec = find_spec("nilearn")
    for location in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(location, name)
        if path.is_file():
            return path
    raise MissingInputError(f"nilearn, whose {name} the figures show, is not installed; install it")


@cache
def load_cortex() -> Mapping[Hemisphere, Cortex]:
    """Return both hemispheres of fsaverage5.

    Raises
    ------
    MissingInputError
        nilearn is not installed.
    """
    return {hemisphere: _load_hemisphere(hemisphere) for hemisphere in HEMISPHERES}


def _load_hemisphere(hemisphere: Hemisphere) -> Cortex:
    arrays = {kind: _read_arrays(f"{kind}_{hemisphere}") for kind in ("white", "pial", "infl", "sulc")}
    white, pial = (
        nib.affines.apply_affine(MNI305_TO_MNI152, arrays[kind][0]).astype(np.float32) for kind in ("white", "pial")
    )
    inflated, triangles = arrays["infl"]
    return Cortex(white, pial, inflated.astype(np.float32), triangles.astype(np.int32), arrays["sulc"][0] > 0)


def _read_arrays(name: str) -> list[NDArray[np.floating]]:
    image: Any = nib.load(find_packaged(f"{FOLDER}/{name}.gii.gz"))
    return [one.data for one in image.darrays]


def project_to_cortex(values: NDArray[np.float32], affine: NDArray[np.float64], cortex: Cortex) -> Floats:
    """Return what each vertex shows of a map: of the nearest voxels at five depths, the value furthest from 0.

    Parameters
    ----------
    values : ndarray of float32, shape (x, y, z)
        In MNI152 space, 0 outside the mask.
    affine : ndarray of float64, shape (4, 4)
        From voxels to mm.
    cortex : Cortex

    Returns
    -------
    ndarray of float32, shape (n_vertices,)
        0 where the map has nothing; of values as far from 0 that of the least depth.

    References
    ----------
    FreeSurfer's mri_vol2surf, ``--projfrac-max 0 1 0.25``, which takes the largest rather than the one furthest from 0.
    """
    found = np.stack([look_up_depth(values, affine, cortex, depth) for depth in DEPTHS])
    furthest = np.argmax(np.abs(found), axis=0)
    return np.take_along_axis(found, furthest[None], axis=0)[0]


def look_up_depth(values: NDArray[np.float32], affine: NDArray[np.float64], cortex: Cortex, depth: float) -> Floats:
    """Return the value of the nearest voxel to each vertex at one depth.

    Parameters
    ----------
    values : ndarray of float32, shape (x, y, z)
    affine : ndarray of float64, shape (4, 4)
        From voxels to mm.
    cortex : Cortex
    depth : float
        From 0, the white surface, to 1, the pial one.

    Returns
    -------
    ndarray of float32, shape (n_vertices,)
        0 outside the grid.
    """
    places = cortex.white + np.float32(depth) * (cortex.pial - cortex.white)
    voxels = np.floor(nib.affines.apply_affine(np.linalg.inv(affine), places) + 0.5).astype(np.intp)
    is_inside = ((voxels >= 0) & (voxels < values.shape)).all(axis=1)
    found = np.zeros(len(voxels), dtype=np.float32)
    found[is_inside] = values[tuple(voxels[is_inside].T)]
    return found
