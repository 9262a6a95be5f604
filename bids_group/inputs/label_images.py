"""Images whose whole numbers are regions, and the names of these."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bids_group.errors import DataError, MissingInputError, SpecError
from bids_group.inputs.nifti import Grid, open_map, read_values
from bids_group.inputs.roi_spec import ImageRegions, RoiSpec
from bids_group.inputs.strict import suggest
from bids_group.inputs.variable_tables import read_cells

LARGEST_LABEL = 2**24  # beyond it float32, as which maps are read, has no longer every whole number


@dataclass(frozen=True, eq=False)
class LabelImage:
    """The regions of an image.

    Attributes
    ----------
    path : Path
    grid : Grid
    labels : ndarray of int32, shape grid.shape
        The region of each voxel, 0 in none.
    names : dict of int to str
        Of the regions that are taken, in ascending order of their labels.
    """

    path: Path
    grid: Grid
    labels: NDArray[np.int32]
    names: dict[int, str]


def list_label_files(rois: RoiSpec, folder: Path) -> list[Path]:
    """Return every file that regions are read from: images, and the tables beside them that name their labels.

    Parameters
    ----------
    rois : RoiSpec
    folder : Path
        That the files are named relative to.
    """
    images = [folder / source.file for source in rois.sources if isinstance(source, ImageRegions)]
    return [*images, *(table for table in map(_find_table, images) if table.is_file())]


def read_label_image(source: ImageRegions, folder: Path) -> LabelImage:
    """Read an image of regions and their names.

    The names are those of the spec; else those of the table beside the image (``index``, ``name``, as BIDS has it for
    segmentations); else ``label1`` and so on.

    Parameters
    ----------
    source : ImageRegions
    folder : Path
        That the file is named relative to.

    Raises
    ------
    MissingInputError
        If there is no such file.
    SpecError, DataError
        If it holds no regions, or not those that are asked for.
    """
    path, place = folder / source.file, f"{source.path}.Image"
    if not path.is_file():
        raise MissingInputError(f"{place}: {path}: there is no such file")
    grid, values = open_map(path)[1], np.nan_to_num(read_values(path), posinf=np.inf, neginf=-np.inf)
    if source.name is not None:
        labels, names = (values != 0).astype(np.int32), {1: source.name}
    else:
        labels = _to_labels(values, place, path)
        names = _name_labels(np.unique(labels[labels != 0]).tolist(), source, path)
    if not labels.any():
        raise SpecError(place, f"{path}: every voxel is 0, so that there is no region")
    return LabelImage(path, grid, labels, names)


def _to_labels(values: NDArray[np.float32], place: str, path: Path) -> NDArray[np.int32]:
    bad = values[~np.isfinite(values) | (values != np.round(values)) | (values < 0) | (values > LARGEST_LABEL)]
    if len(bad):
        raise SpecError(
            place,
            f"{path}: not an image of regions: {len(bad)} voxels have values such as {bad[0]:g} and not a whole "
            'number from 0; if all voxels other than 0 are one region, name it with "Name"',
        )
    return values.astype(np.int32)


def _name_labels(found: list[int], source: ImageRegions, path: Path) -> dict[int, str]:
    if source.labels is not None:
        for label, name in source.labels.items():
            if label not in found:
                told = suggest(str(label), map(str, found))
                raise SpecError(f"{source.path}.Labels.{label}", f"{path}: no voxel has it ({name!r}); {told}")
        return dict(sorted(source.labels.items()))
    table = _find_table(path)
    known = _read_names(table) if table.is_file() else {}
    names = {label: known.get(label, f"label{label}") for label in found}
    repeated = [name for name, count in Counter(names.values()).items() if count > 1]
    if repeated:
        raise DataError(f"{table}: several regions have the name {repeated[0]!r}; name them apart with Labels")
    return names


def _find_table(image: Path) -> Path:
    return image.with_name(re.sub(r"\.nii(\.gz)?$", "", image.name) + ".tsv")


def _read_names(path: Path) -> dict[int, str]:
    """Read the table of names beside an image of regions."""
    header, *lines = read_cells(path) or [[]]
    if not {"index", "name"} <= set(header):
        raise DataError(f"{path}: the table of regions lacks the column index or name; add it, or use Labels")
    index, name = header.index("index"), header.index("name")
    names: dict[int, str] = {}
    for number, line in enumerate(lines, start=2):
        if len(line) != len(header) or not line[index].isascii() or not line[index].isdigit():
            raise DataError(
                f"{path}: line {number} has no whole number in the column index, or not {len(header)} cells"
            )
        if int(line[index]) in names:
            raise DataError(f"{path}: line {number}: the index {line[index]} stands there more than once")
        names[int(line[index])] = line[name]
    return names
