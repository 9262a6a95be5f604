"""The maps that the report's viewer shows, packed small enough to stand inside the page.

A statistic is the values of the analysed voxels in steps of what is shown of them, what survives a correction one bit
a voxel, and the picture behind them a few shades of grey. Each is compressed, and kept once however many viewers show
it. Voxels are counted with x fastest, in the grid turned so that x runs to the right, y forwards and z upwards.
"""

import base64
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray
from scipy import ndimage

from bids_group.cortex import find_packaged
from bids_group.errors import DataError, MissingInputError
from bids_group.outputs import naming
from bids_group.report.records import ContrastRecord, ModelRecord, RunRecord
from bids_group.report.surface import pack_cortex

MOST_CHARACTERS = 6_000_000  # of all maps: with the figures of as many contrasts, the page stays below 15 MB
VALUE_STEP = 0.01  # as many decimals as the report shows
LARGEST_CODE = np.iinfo(np.int16).max
NO_VALUE = np.iinfo(np.int16).min  # stands for what is not a number
COLOUR_PERCENTILE = 99.9  # of the absolute values: few voxels beyond it must not take the colours from all others
TEMPLATE = "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"  # in nilearn's folder
BACKGROUND_MM = 2.0  # the picture behind has voxels of at most this edge, a whole fraction of the maps'
GREY_LEVELS = 64  # more cannot be told apart beneath the colours
PLAIN_GREY = 0.35  # of the mask, where there is no template
HIGHEST_BYTE = 255


@dataclass(frozen=True)
class Viewers:
    """What the viewers of a report show.

    Attributes
    ----------
    blobs : Mapping of str to str
        Packed arrays by the id of their element: bytes, compressed by zlib, in base64.
    scenes : Mapping of str to Mapping
        By the link to a contrast's statistic: its grid, its colours and the ids of its arrays. Contrasts whose maps
        would have made the page too large are left out.
    cortex : str or None
        The packed mesh of the cortex; None where no scene is in MNI space.
    cortex_facts : Mapping of str to float
        What surface.js must know of it.
    """

    blobs: Mapping[str, str]
    scenes: Mapping[str, Mapping[str, Any]]
    cortex: str | None
    cortex_facts: Mapping[str, float]


@dataclass(frozen=True)
class _Space:
    """The analysed voxels of a model, ``mask`` with an entry for each voxel of the grid, and the picture behind."""

    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    mask: NDArray[np.bool_]
    background: bytes
    is_template: bool
    factor: int


def _pack(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode("ascii")


class _Blobs:
    """Packed arrays, each kept once."""

    def __init__(self) -> None:
        self.ids: dict[str, str] = {}

    def keep(self, content: bytes) -> str:
        """Pack bytes, unless the same stand there already, and return the id of their element."""
        text = _pack(content)
        return self.ids.setdefault(text, f"blob--{len(self.ids)}")

    @property
    def n_characters(self) -> int:
        return sum(map(len, self.ids))


def pack_viewers(output_dir: Path, run: RunRecord, *, most_characters: int = MOST_CHARACTERS) -> Viewers:
    """Read and pack the statistic of every contrast and what survives each of its corrections.

    Parameters
    ----------
    output_dir : Path
        The folder that the analysis was written to.
    run : RunRecord
        What is written there.
    most_characters : int
        How much text the packed arrays may take; contrasts that do not fit get no viewer.

    Returns
    -------
    Viewers

    Raises
    ------
    MissingInputError
        A map that the records name is not there.
    DataError
        A map cannot be read, or is not on the grid of its model's mask.
    """
    blobs, scenes = _Blobs(), {}
    for folder, model in _list_models(output_dir, run):
        space = _read_space(folder, model)
        for contrast in model.results:
            before = dict(blobs.ids)
            scene = _pack_contrast(folder, contrast, space, blobs)
            if blobs.n_characters > most_characters:
                blobs.ids = before
            else:
                scenes[contrast.maps[contrast.test].href] = scene
    texts = {name: text for text, name in blobs.ids.items()}
    if not any(scene["isTemplate"] for scene in scenes.values()):
        return Viewers(texts, scenes, None, {})
    mesh = pack_cortex()
    facts = {"vertices": mesh.n_vertices, "triangles": mesh.n_triangles, "depths": mesh.n_depths, "step": mesh.step}
    return Viewers(texts, scenes, _pack(mesh.content), facts)


def _list_models(output_dir: Path, run: RunRecord) -> Iterator[tuple[Path, ModelRecord]]:
    return ((output_dir / node.folder, model) for node in run.nodes for model in node.models)


def _read_space(folder: Path, model: ModelRecord) -> _Space:
    image = _read_image(folder / model.mask.file.name)
    mask = np.asarray(image.dataobj) > 0
    is_template = naming.ModelNames(model.entities, model.input_contrast).is_in_mni_space
    if is_template:
        factor = max(1, int(np.ceil(max(image.header.get_zooms()[:3]) / BACKGROUND_MM)))
        background = _sample_template(mask.shape, tuple(map(tuple, image.affine)), factor)
    else:
        factor, background = 1, _encode_greys(mask * PLAIN_GREY)
    return _Space(mask.shape, image.affine, mask.ravel(order="F"), background, is_template, factor)


def _read_image(path: Path) -> Any:
    """Read an image, turned to the axes that are nearest to right, anterior and superior."""
    try:
        image = nib.as_closest_canonical(nib.load(path))
        return image.__class__(np.asarray(image.dataobj), image.affine, image.header)
    except FileNotFoundError as error:
        raise MissingInputError(
            f"{path} is not there, but the report needs it; run the analysis again to rewrite it"
        ) from error
    except (
        OSError,
        EOFError,
        zlib.error,
        ValueError,
        OverflowError,
        ImageFileError,
        HeaderDataError,
        np.linalg.LinAlgError,
    ) as error:
        raise DataError(f"{path} is damaged ({error}); run the analysis again to rewrite it") from error


@lru_cache(maxsize=4)  # the models of a run mostly share one grid
def _sample_template(shape: tuple[int, ...], affine: tuple[tuple[float, ...], ...], factor: int) -> bytes:
    """Return the MNI152 template in the grid of the maps, each edge of a voxel divided by `factor`."""
    template = _read_image(find_packaged(TEMPLATE))
    greys = np.asarray(template.dataobj, np.float32)
    finer = np.diag([1 / factor] * 3 + [1.0])
    finer[:3, 3] = (1 / factor - 1) / 2  # the first of the small voxels lies in the corner of the first large one
    to_template = np.linalg.inv(template.affine) @ np.array(affine) @ finer
    values = ndimage.affine_transform(
        greys / greys.max(),
        to_template[:3, :3],
        offset=to_template[:3, 3],
        output_shape=tuple(edge * factor for edge in shape),
        order=1,
    )
    return _encode_greys(values)


def _encode_greys(values: NDArray[Any]) -> bytes:
    """Return brightness between 0 and 1 as one byte a voxel."""
    levels = np.round(np.clip(values, 0, 1) * (GREY_LEVELS - 1))
    return (levels * (HIGHEST_BYTE / (GREY_LEVELS - 1))).astype(np.uint8).tobytes(order="F")


def _pack_contrast(folder: Path, contrast: ContrastRecord, space: _Space, blobs: _Blobs) -> dict[str, Any]:
    """Return what viewer.js must know of a contrast."""
    values = _read_values(folder / contrast.maps[contrast.test].name, space)
    size = np.abs(values[np.isfinite(values)])
    largest = float(size.max(initial=0.0))
    step = max(VALUE_STEP, largest / LARGEST_CODE)
    return {
        "test": contrast.test,
        "shape": space.shape,
        "affine": space.affine.tolist(),
        "inverse": np.linalg.inv(space.affine).tolist(),
        "factor": space.factor,
        "isTemplate": space.is_template,
        "background": blobs.keep(space.background),
        "mask": blobs.keep(_encode_bits(space.mask)),
        "values": blobs.keep(_encode_values(values, step)),
        "step": step,
        "noValue": NO_VALUE,
        "largest": largest,
        "limit": (float(np.percentile(size, COLOUR_PERCENTILE)) if size.size else 0.0) or 1.0,
        "survivors": {
            inference.label: blobs.keep(_encode_bits(_read_values(folder / inference.files["map"].name, space) != 0))
            for inference in contrast.inferences
            if inference.n_voxels
        },
    }


def _read_values(path: Path, space: _Space) -> NDArray[np.float32]:
    """Return the values of the analysed voxels, shape (n_voxels,)."""
    image = _read_image(path)
    if image.shape != space.shape or not np.allclose(image.affine, space.affine):
        raise DataError(f"{path} is not on the grid of its mask; run the analysis again to rewrite it")
    return np.asarray(image.dataobj, np.float32).ravel(order="F")[space.mask]


def _encode_bits(truths: NDArray[np.bool_]) -> bytes:
    return np.packbits(truths, bitorder="little").tobytes()


def _encode_values(values: NDArray[np.float32], step: float) -> bytes:
    """Return values as counts of `step` in 16 bits: all lower bytes, then all higher ones, which compresses better."""
    counts = np.clip(np.round(values.astype(np.float64) / step), -LARGEST_CODE, LARGEST_CODE)
    codes = np.where(np.isnan(values), NO_VALUE, counts).astype("<i2")
    return codes.view(np.uint8).reshape(-1, 2).T.tobytes()
