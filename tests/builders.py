"""Small datasets and model specs, written from arrays and dictionaries."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

TASK = "x"
SUBJECTS = ("01", "02", "03", "04", "05")
AFFINE = np.array([[-4.0, 0, 0, 12], [0, 4, 0, -20], [0, 0, 4, -8], [0, 0, 0, 1]])  # mm; x from right to left
DESCRIPTION = {
    "Name": "first level",
    "BIDSVersion": "1.10.0",
    "DatasetType": "derivative",
    "GeneratedBy": [{"Name": "firstlevel"}],
}
MAP_NAMES = {
    "desc": "sub-{subject}/sub-{subject}_task-{task}_desc-{contrast}_effect.nii.gz",
    "contrast": "sub-{subject}/sub-{subject}_task-{task}_contrast-{contrast}_stat-effect_statmap.nii.gz",
}

Naming = Literal["desc", "contrast"]


def name_map(subject: str, contrast: str, *, naming: Naming = "desc") -> str:
    """Return the name of an effect map relative to its dataset."""
    return MAP_NAMES[naming].format(subject=subject, contrast=contrast, task=TASK)


def make_maps(
    subjects: Iterable[str] = SUBJECTS,
    contrasts: Iterable[str] = ("A",),
    *,
    shape: tuple[int, int, int] = (6, 7, 5),
    seed: int = 0,
    naming: Naming = "desc",
    effects: Mapping[str, float] | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Draw a standard normal map for each subject and contrast, shifted by the contrast's effect."""
    rng = np.random.default_rng(seed)
    shifts = effects or {}
    return {
        name_map(subject, contrast, naming=naming): (
            rng.standard_normal(shape, dtype=np.float32) + np.float32(shifts.get(contrast, 0.0))
        )
        for subject in subjects
        for contrast in contrasts
    }


def write_map(path: Path, values: NDArray[Any], *, affine: NDArray[np.float64] = AFFINE) -> Path:
    """Write one map in its array's own data type."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, affine), path)
    return path


def write_derivative(
    root: Path,
    maps: Mapping[str, NDArray[Any]],
    *,
    affine: NDArray[np.float64] = AFFINE,
    name: str = "firstlevel",
) -> Path:
    """Write a derivative dataset of maps, by names relative to it, and return ``root / name``."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset_description.json").write_text(json.dumps(DESCRIPTION))
    for relative, values in maps.items():
        write_map(folder / relative, values, affine=affine)
    return folder


def write_participants(root: Path, table: pd.DataFrame) -> Path:
    """Write participants.tsv, missing values as n/a."""
    path = root / "participants.tsv"
    table.to_csv(path, sep="\t", index=False, na_rep="n/a")
    return path


def make_spec(
    design: Literal["one-sample", "anova"] = "one-sample",
    *,
    conditions: Iterable[str] = ("A", "B", "C"),
    node: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    **overrides: Any,
) -> dict[str, Any]:
    """Return a model spec: a mean per contrast, or conditions and subjects with a pooled error.

    Parameters
    ----------
    design : str
    conditions : iterable of str
        The contrasts of the maps, of which ``anova`` makes columns and an omnibus F.
    node, model, settings : Mapping or None
        Keys that replace those of ``Nodes[0]``, ``Nodes[0].Model`` and its ``Software.bids_group``.
    **overrides
        Keys that replace those of the document.
    """
    parts = _make_one_sample() if design == "one-sample" else _make_anova(tuple(conditions))
    own = {**parts["settings"], **(settings or {})}
    full_model = {"Type": "glm", "X": parts["X"], "Software": {"bids_group": own}, **(model or {})}
    full_node = {"Level": "Dataset", "Name": parts["Name"], "Model": full_model, **parts["node"], **(node or {})}
    return {"Name": "study", "BIDSModelVersion": "1.0.0", "Nodes": [full_node], **overrides}


def _make_one_sample() -> dict[str, Any]:
    node = {"GroupBy": ["contrast"], "DummyContrasts": {"Test": "t"}}
    return {"Name": "mean", "X": [1], "settings": {}, "node": node}


def _make_anova(conditions: tuple[str, ...]) -> dict[str, Any]:
    first, *rest = conditions
    differences = [[1] + [-int(name == other) for name in rest] for other in rest]
    contrasts = [
        {"Name": "omnibus", "Test": "F", "ConditionList": list(conditions), "Weights": differences},
        {"Name": f"{first}Minus{rest[0]}", "Test": "t", "ConditionList": [first, rest[0]], "Weights": [1, -1]},
    ]
    node = {"GroupBy": [], "Contrasts": contrasts}
    return {"Name": "anova", "X": [*conditions, "subject"], "settings": {"ErrorTerm": "pooled"}, "node": node}


def write_spec(path: Path, document: Mapping[str, Any]) -> Path:
    """Write a model spec as JSON."""
    path.write_text(json.dumps(document, indent=2))
    return path


def make_rows(subjects: Iterable[str] = SUBJECTS, contrasts: Iterable[str] = ("A",), **entities: Any) -> pd.DataFrame:
    """Return a table of maps as the query does, without files: subjects by contrasts, in that order."""
    pairs = [(subject, contrast) for subject in subjects for contrast in contrasts]
    rows = pd.DataFrame(pairs, columns=["subject", "contrast"], dtype=object).assign(task=TASK, desc=None, **entities)
    return rows.assign(path=[f"sub-{subject}_desc-{contrast}_effect.nii.gz" for subject, contrast in pairs])


def make_participants(subjects: Iterable[str] = SUBJECTS, **columns: Iterable[object]) -> pd.DataFrame:
    """Return participants.tsv as it is read: text, indexed by the subject."""
    text = {name: [str(value) for value in values] for name, values in columns.items()}
    return pd.DataFrame(text, index=pd.Index(list(subjects), dtype=object), dtype=object)
