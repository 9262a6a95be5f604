"""Small studies for runs through the command line, and what reads their outputs back."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bids_group.cli import main
from tests import builders

SHAPE = (6, 7, 5)
SUBJECTS = tuple(f"{i:02d}" for i in range(1, 9))
GROUPS = ("patient", "control") * 4
AGES = (31.5, 20.0, 44.0, 27.0, 52.5, 36.0, 23.0, 61.0)
# A space that is not MNI: no glass brain, no template behind the slices.
PREFIX = "task-x_space-T1w_"
VOXEL_VOLUME = 64.0  # cubic mm, of builders.AFFINE


@dataclass(frozen=True)
class Study:
    """A raw dataset with one derivative of first-level maps in it.

    Attributes
    ----------
    root : Path
        Holds the dataset in `bids`, specs beside it.
    maps : Mapping of (str, str) to ndarray
        The values by subject and contrast, as written.
    """

    root: Path
    maps: Mapping[tuple[str, str], NDArray[np.float32]]

    @property
    def bids(self) -> Path:
        return self.root / "bids"

    @property
    def firstlevel(self) -> Path:
        return self.bids / "derivatives" / "firstlevel"

    def path(self, subject: str, contrast: str) -> Path:
        return self.firstlevel / name_map(subject, contrast)

    def stack(self, contrast: str) -> NDArray[np.float64]:
        """Return the maps of a contrast, subjects first, as float64."""
        subjects = sorted({subject for subject, _ in self.maps})
        return np.stack([self.maps[subject, contrast] for subject in subjects]).astype(np.float64)

    def write_spec(self, document: Mapping[str, Any], name: str = "spec.json") -> Path:
        return builders.write_spec(self.root / name, document)


def name_map(subject: str, contrast: str) -> str:
    return f"sub-{subject}/sub-{subject}_{PREFIX}desc-{contrast}_effect.nii.gz"


def make_mask(shape: Sequence[int] = SHAPE) -> NDArray[np.bool_]:
    """Return a brain that leaves out the grid's edge on one side."""
    mask = np.ones(tuple(shape), dtype=bool)
    mask[0], mask[:, -1], mask[2, 3, -1] = False, False, False
    return mask


def draw_maps(
    contrasts: Mapping[str, float], *, subjects: Sequence[str] = SUBJECTS, shape: Sequence[int] = SHAPE, seed: int = 0
) -> dict[tuple[str, str], NDArray[np.float32]]:
    """Draw a map per subject and contrast: noise, what a subject's maps share, and an effect in one corner.

    Outside the brain the maps are 0, in one voxel of one map NaN.
    """
    rng = np.random.default_rng(seed)
    blob = np.zeros(tuple(shape))
    blob[1:4, 1:4, 1:3] = 1.0
    brain = make_mask(shape)
    maps = {}
    for subject in subjects:
        shared = 0.7 * rng.standard_normal(shape)
        for contrast, effect in contrasts.items():
            values = rng.standard_normal(shape) + shared + effect * blob
            maps[subject, contrast] = np.where(brain, values, 0).astype(np.float32)
    maps[subjects[-1], next(iter(contrasts))][3, 4, 2] = np.nan
    return maps


def write_study(root: Path, maps: Mapping[tuple[str, str], NDArray[np.float32]]) -> Study:
    """Write a study with participants.tsv."""
    study = Study(root, maps)
    builders.write_derivative(
        study.bids / "derivatives", {name_map(*key): np.asarray(values) for key, values in maps.items()}
    )
    description = {"Name": "raw", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    (study.bids / "dataset_description.json").write_text(json.dumps(description))
    table = pd.DataFrame({"participant_id": [f"sub-{s}" for s in SUBJECTS], "group": GROUPS, "age": AGES})
    builders.write_participants(study.bids, table)
    return study


def find_analysed(maps: Mapping[tuple[str, str], NDArray[np.float32]]) -> NDArray[np.bool_]:
    """Return the voxels that are finite and not zero in all maps."""
    return np.logical_and.reduce([np.isfinite(values) & (values != 0) for values in maps.values()])


def run(study: Study, output: Path, spec: Path, *options: str) -> int:
    return main([str(study.bids), str(output), "group", "--model", str(spec), *options])


def run_well(study: Study, output: Path, document: Mapping[str, Any], *options: str) -> Path:
    """Run a spec that must succeed, and return the output folder."""
    spec = study.write_spec(document, f"{output.name}.json")
    assert run(study, output, spec, *options) == 0
    return output


def read_image(path: Path) -> nib.Nifti1Image:
    image = nib.load(path)
    assert isinstance(image, nib.Nifti1Image)
    return image


def read_values(path: Path) -> NDArray[Any]:
    return np.asarray(read_image(path).dataobj)


def read_model(node: Path, prefix: str = "") -> dict[str, Any]:
    """Return the summary of a model."""
    summary: dict[str, Any] = json.loads((node / f"{prefix}model.json").read_text())
    return summary


def read_table(path: Path) -> pd.DataFrame:
    """Read a table as text, so that n/a stays n/a."""
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)


def find_result(node: Path, contrast: str, correction: str) -> pd.Series:
    table = pd.read_csv(node / "results.tsv", sep="\t")
    rows = table[(table["contrast"] == contrast) & (table["correction"] == correction)]
    assert len(rows) == 1
    return rows.iloc[0]


def list_files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def hash_tree(folder: Path, *, but: str = r"$^") -> dict[str, str]:
    """Return the digest of every file whose path does not match `but`."""
    names = sorted(name for name in list_files(folder) if not re.search(but, name))
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
