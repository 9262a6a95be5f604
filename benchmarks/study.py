"""What every contestant is given: the demo's maps, its model's design and contrasts, and one mask.

python -m benchmarks.study        simulates the demo if it is not there, and writes the mask
"""

import json
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from examples.simulate_faces import CONDITIONS, locate_firstlevel, locate_map, simulate_faces

CHECKOUT = Path(__file__).parents[1]
SCRATCH = CHECKOUT / "benchmarks" / "scratch"
DEMO = SCRATCH / "demo"
MASK = SCRATCH / "mask.nii.gz"
MODEL = CHECKOUT / "examples" / "faces_smdl.json"
N_SUBJECTS = 16


@dataclass(frozen=True)
class StudyContrast:
    """A contrast of the demo's model.

    Attributes
    ----------
    name : str
    test : {'t', 'F'}
    weights : ndarray of float64, shape (n_contrast_rows, n_columns)
    """

    name: str
    test: Literal["t", "F"]
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class Study:
    """One analysis, for whichever program.

    Attributes
    ----------
    maps : tuple of Path
        In the order of the design's rows: subject by subject, condition by condition.
    mask : Path
    columns : tuple of str
    design_matrix : ndarray of float64, shape (n_maps, n_columns)
    contrasts : tuple of StudyContrast
    """

    maps: tuple[Path, ...]
    mask: Path
    columns: tuple[str, ...]
    design_matrix: NDArray[np.float64]
    contrasts: tuple[StudyContrast, ...]


def load_study() -> Study:
    """Read the demo's model and lay out its rows: 9 condition and 16 subject columns, of rank 24.

    Returns
    -------
    Study
    """
    labels = [f"{number:02d}" for number in range(1, N_SUBJECTS + 1)]
    maps = tuple(locate_map(locate_firstlevel(DEMO), label, c) for label in labels for c in CONDITIONS)
    of_conditions = np.tile(np.eye(len(CONDITIONS)), (N_SUBJECTS, 1))
    of_subjects = np.repeat(np.eye(N_SUBJECTS), len(CONDITIONS), axis=0)
    columns = (*CONDITIONS, *(f"subject[{label}]" for label in labels))
    node = json.loads(MODEL.read_text(encoding="utf-8"))["Nodes"][0]
    contrasts = tuple(read_contrast(contrast, columns) for contrast in node["Contrasts"])
    return Study(maps, MASK, columns, np.hstack([of_conditions, of_subjects]), contrasts)


def read_contrast(contrast: dict, columns: tuple[str, ...]) -> StudyContrast:
    """Spread a contrast's weights over the columns of the design."""
    rows = contrast["Weights"] if isinstance(contrast["Weights"][0], list) else [contrast["Weights"]]
    weights = np.zeros((len(rows), len(columns)))
    indices = [columns.index(condition) for condition in contrast["ConditionList"]]
    weights[:, indices] = [[float(Fraction(weight)) for weight in row] for row in rows]
    return StudyContrast(contrast["Name"], contrast["Test"], weights)


def drop_last_column(study: Study) -> Study:
    """Make the design full rank without changing what it can explain, or any of its contrasts.

    The subject columns add up to the condition columns, hence any one of them is redundant; the contrasts have no
    weight on subjects and weights that sum to 0 over conditions, hence they mean the same without it.
    """
    assert not any(contrast.weights[:, -1].any() for contrast in study.contrasts)
    return replace(
        study,
        columns=study.columns[:-1],
        design_matrix=study.design_matrix[:, :-1],
        contrasts=tuple(replace(c, weights=c.weights[:, :-1]) for c in study.contrasts),
    )


def write_mask(study: Study) -> int:
    """Write the mask of the voxels that all maps have, and return their number."""
    images = [nib.Nifti1Image.from_filename(path) for path in study.maps]
    mask = np.logical_and.reduce([np.isfinite(np.asarray(image.dataobj)) for image in images])
    nib.Nifti1Image(mask.astype(np.uint8), images[0].affine).to_filename(study.mask)
    return int(mask.sum())


def main() -> None:
    """Make what the contestants read."""
    simulate_faces(DEMO, n_subjects=N_SUBJECTS)
    study = load_study()
    print(f"{len(study.maps)} maps of {write_mask(study):,} voxels")


if __name__ == "__main__":
    main()
