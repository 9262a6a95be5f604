"""Maps of each subject that are shown and not analysed: an F test of all its effects as z says whether there is signal.

They are looked for where the subject's effects are, in the folders of these and those above, up to the dataset's own.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from bids_group.entities import QUERY_KEYS
from bids_group.errors import DataError, MissingInputError, ReadWriteError, SpecError
from bids_group.inputs.datasets import Dataset
from bids_group.inputs.filters import Criterion
from bids_group.inputs.input_files import InputFile
from bids_group.inputs.map_sources import list_paths
from bids_group.inputs.nifti import open_map
from bids_group.inputs.plan import ModelPlan
from bids_group.inputs.query import IMAGE_EXTENSIONS, read_entities
from bids_group.inputs.settings import Settings

DEFAULT_SUBJECT_MAPS = {"contrast": ("EffectsOfInterest",)}
OF_THE_CONTRAST = ("contrast", "desc", "stat")  # of a map; in what the maps of a model share beside these, these agree
KIND = "shown"  # of an input file
MOST_NAMED = 6  # subjects or files in a message


@dataclass(frozen=True)
class SubjectMaps:
    """A map of each subject that a figure shows.

    Attributes
    ----------
    title : str
        What was looked for: ``contrast EffectsOfInterest``.
    unit : str or None
        The statistic that all maps hold, as their names have it: ``z``.
    files : Mapping of str to (InputFile or None)
        By subject, sorted; None for one without a map. Empty where none is shown.
    warnings : tuple of str
    """

    title: str = ""
    unit: str | None = None
    files: Mapping[str, InputFile | None] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def found(self) -> list[InputFile]:
        """Return the files that there are."""
        return [file for file in self.files.values() if file is not None]


def find_subject_maps(settings: Settings, models: Sequence[ModelPlan], datasets: Iterable[Dataset]) -> SubjectMaps:
    """Find one map of each subject of a node's models, as `SubjectMaps` says, or by default EffectsOfInterest as z.

    Parameters
    ----------
    settings : Settings
    models : sequence of ModelPlan
    datasets : iterable of Dataset
        That the maps of the models are from.

    Returns
    -------
    SubjectMaps
        Empty where nothing was asked for and there is none, or no single one of each subject.

    Raises
    ------
    SpecError
        If maps were asked for that are not there, are several of one subject, or are no maps.
    MissingInputError, ReadWriteError
        If one that was asked for is a link to nowhere, or cannot be read.
    """
    wanted = settings.subject_maps or DEFAULT_SUBJECT_MAPS
    try:
        return _choose(wanted, models, tuple(datasets), is_asked=settings.subject_maps is not None)
    except (DataError, MissingInputError, ReadWriteError) as error:  # missing: a link to what was not fetched
        if settings.subject_maps is None:
            return SubjectMaps(warnings=(f"the subjects' maps of {_describe(wanted)} are not shown: {error}",))
        if isinstance(error, DataError):
            raise SpecError(f"{settings.path}.SubjectMaps", str(error)) from error
        raise


def _choose(
    wanted: Mapping[str, tuple[str, ...]], models: Sequence[ModelPlan], datasets: Sequence[Dataset], *, is_asked: bool
) -> SubjectMaps:
    shared = {key: value for key, value in _find_shared(models).items() if key not in wanted}
    found = _select(_list_images(models, datasets), wanted, shared)
    subjects = sorted({str(subject) for model in models for subject in model.rows["subject"]})
    found = found[found["subject"].isin(subjects)]
    if not len(found):
        if not is_asked:
            return SubjectMaps()
        also = f" that agree with the model's maps ({_describe(shared)})" if shared else ""
        raise DataError(f"no subject has a map of {_describe(wanted)}{also} in the folders of its maps or above them")
    _refuse_several(found)
    units = sorted(found["stat"].where(found["suffix"] == "statmap", found["suffix"]).dropna().unique())
    if len(units) > 1:
        raise DataError(f"they are of several kinds ({', '.join(units)}); name one as suffix or stat")
    for path in found["path"]:
        open_map(path)  # only to refuse what is no map
    columns = (found[name] for name in ("subject", "path", "uri"))
    of_subject = {subject: InputFile(path, uri, KIND) for subject, path, uri in zip(*columns, strict=True)}
    files = {subject: of_subject.get(subject) for subject in subjects}
    return SubjectMaps(_describe(wanted), units[0] if units else None, files, _name_missing(wanted, files))


def _find_shared(models: Sequence[ModelPlan]) -> dict[str, str]:
    """Return the entities that all maps of all models share, but for those of their contrast."""
    first, *others = (model.entities for model in models)
    return {
        key: value
        for key, value in first.items()
        if key not in OF_THE_CONTRAST and all(other.get(key) == value for other in others)
    }


def _list_images(models: Sequence[ModelPlan], datasets: Sequence[Dataset]) -> pd.DataFrame:
    """List the images beside the maps of models and above them, with the entities of their names, sorted by path."""
    paths = {path for model in models for source in model.rows["source"] for path in list_paths(source)}
    of_folder = {}
    for parent in sorted({path.parent for path in paths}):
        for dataset in datasets:
            for folder in (parent, *parent.parents):
                if folder.is_relative_to(dataset.path):
                    of_folder[folder] = dataset
    images = [
        {**_read_name(path), "path": path, "uri": dataset.uri(path)}
        for folder, dataset in sorted(of_folder.items(), key=lambda item: item[0])
        for path in sorted(folder.glob("sub-*.nii*"))
        if path.name.endswith(IMAGE_EXTENSIONS)
    ]
    table = pd.DataFrame(images, columns=[*QUERY_KEYS, "path", "uri"], dtype=object)
    return table.where(table.notna(), None)


def _read_name(path: Path) -> dict[str, str]:
    stem, _, extension = path.name.partition(".")
    parts = {"suffix": stem.rsplit("_", 1)[-1], "extension": f".{extension}", "datatype": path.parent.name}
    return {**read_entities(path.name), **parts}


def _select(images: pd.DataFrame, wanted: Mapping[str, tuple[str, ...]], shared: Mapping[str, str]) -> pd.DataFrame:
    """Return the images that are wanted; z maps unless a suffix or stat is."""
    # A map's contrast is its contrast entity, or its desc where it has none.
    images = images.assign(contrast=images["contrast"].where(images["contrast"].notna(), images["desc"]))
    for key, values in wanted.items():
        images = images[Criterion(key, values, "SubjectMaps").matches(images[key])]
    for key, value in shared.items():
        images = images[images[key].isna() | (images[key] == value)]
    if "suffix" in wanted or "stat" in wanted:
        return images
    return images[(images["suffix"] == "z") | (images["stat"] == "z")]


def _refuse_several(found: pd.DataFrame) -> None:
    counts = found["subject"].value_counts()
    several = sorted(counts[counts > 1].index)
    if several:
        names = [path.name for path in found.loc[found["subject"] == several[0], "path"]]
        raise DataError(
            f"{len(several)} subjects have more than one, sub-{several[0]} {', '.join(names[:MOST_NAMED])}; "
            'give "SubjectMaps" entities that only one of them has'
        )


def _name_missing(wanted: Mapping[str, tuple[str, ...]], files: Mapping[str, InputFile | None]) -> tuple[str, ...]:
    lacking = [f"sub-{subject}" for subject, file in files.items() if file is None]
    if not lacking:
        return ()
    more = f" and {len(lacking) - MOST_NAMED} more" if len(lacking) > MOST_NAMED else ""
    listed = ", ".join(lacking[:MOST_NAMED])
    return (f"{len(lacking)} of {len(files)} subjects have no map of {_describe(wanted)} to show: {listed}{more}",)


def _describe(entities: Mapping[str, str | tuple[str, ...]]) -> str:
    values = {key: value if isinstance(value, str) else " or ".join(value) for key, value in entities.items()}
    return ", ".join(f"{key} {value}" for key, value in values.items())
