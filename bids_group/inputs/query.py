"""Finding the maps: the only room that knows pybids.

Every map is a row whose entities were read from its name, so that rows are paired with the design by what they are,
never by their order. Rows that are not analysed are kept apart with the reason.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from bids_group.entities import ENTITY_SHORT_NAMES, FILE_PARTS, QUERY_KEYS
from bids_group.errors import DataError, InvalidBidsError, NothingSelectedError
from bids_group.inputs.datasets import DESCRIPTION, Dataset
from bids_group.inputs.filters import Selection, list_criteria, match_values, split_by_criteria
from bids_group.inputs.folders import check_folders
from bids_group.inputs.map_sources import MapFile
from bids_group.inputs.strict import read_json

ENTITIES_FILE = Path(__file__).with_name("bids_group_entities.json")
EFFECT_SUFFIXES = ("effect", "statmap")
VARIANCE_SUFFIXES = ("variance", "statmap")
# Hidden files and what BIDS keeps beside the data, as pybids leaves it out where it is not told otherwise.
NOT_INDEXED = (re.compile(r"/\."), re.compile(r"^/(code|sourcedata|stimuli|models)(/|$)"))
# Files that are never maps. Extensions, not "has a dot": a folder may be called sub-01.feat.
OTHER_EXTENSIONS = (
    "nii|gz|json|tsv|csv|txt|md|html|svg|png|jpg|jpeg|gif|pdf|gii|mgz|h5|mat|bval|bvec|log|xml|toml|yml|yaml|bib|tex"
)
IMAGE_EXTENSIONS = (".nii", ".nii.gz")
# The name of the files in a dataset that would tell pybids what file names mean: one that no file can have.
NO_CONFIGURATION = "\0"
_LONG_NAMES = {short: long for long, short in ENTITY_SHORT_NAMES.items()}
_NAME_PART = re.compile(r"(?:^|_)([a-zA-Z]+)-([a-zA-Z0-9+]+)")


@dataclass(frozen=True)
class InputTable:
    """The maps to be analysed.

    Attributes
    ----------
    rows : DataFrame
        One row per map, sorted by its entities: `subject`, `contrast`, the other entities (text; None where absent),
        `dataset`, `path`, `uri`, and `source`, what the map is made of.
    excluded : DataFrame
        The effect maps that a filter left out, with the same columns and `reason`.
    warnings : tuple of str
        What was odd on the way to these maps.
    """

    rows: pd.DataFrame
    excluded: pd.DataFrame
    warnings: tuple[str, ...] = ()


def find_maps(
    datasets: Iterable[Dataset],
    selection: Selection,
    *,
    database_dir: Path | None = None,
    with_variances: bool = False,
) -> InputTable:
    """Find the effect maps of all subjects.

    Parameters
    ----------
    datasets : iterable of Dataset
    selection : Selection
    database_dir : Path or None
        Folder of pybids databases, made where they are missing and trusted where they are there.
    with_variances : bool
        Whether the maps of the effects' variances are found as well, where there are any.

    Returns
    -------
    InputTable

    Raises
    ------
    NothingSelectedError
        If nothing is left.
    DataError
        If one listed value among others matches nothing, or a map's name and folder disagree on the subject or the
        session, or it has neither a contrast nor a desc, or one entity twice.
    """
    datasets = tuple(datasets)
    suffixes = selection.entities.get("suffix", EFFECT_SUFFIXES)
    searched = {*suffixes, *(VARIANCE_SUFFIXES if with_variances else ())}
    found = find_images(datasets, suffixes=sorted(searched), database_dir=database_dir)
    effects = found[_is_effect(found, selection.entities) & found["suffix"].isin(suffixes)]
    _check_names_and_folders(effects)
    effects = effects[effects["subject"].notna()]
    if not len(effects):
        raise NothingSelectedError(_explain_no_effects(datasets, suffixes))
    source = _find_sources(effects, found if with_variances else found.iloc[:0])
    # A map's contrast is its contrast entity, or its desc where it has none.
    contrast = effects["contrast"].where(effects["contrast"].notna(), effects["desc"])
    effects = effects.assign(source=source, contrast=contrast)
    rows, excluded = split_by_criteria(effects, list_criteria(selection))
    _check_contrasts_in_names(rows)
    _check_entities_once(rows)
    used = {source.variance.uri for source in rows["source"] if source.variance is not None}
    return InputTable(sort_rows(rows), sort_rows(excluded[~excluded["uri"].isin(used)]))


def _find_sources(effects: pd.DataFrame, found: pd.DataFrame) -> pd.Series:
    """Return the file of each effect, with that of its variance: the same entities but for stat, in the same folder."""
    is_variance = (found["stat"] == "variance") | (found["stat"].isna() & (found["suffix"] == "variance"))
    variances: dict[tuple[object, ...], MapFile] = {}
    for key, file in zip(_identify(found[is_variance]), _list_files(found[is_variance]), strict=True):
        if key in variances:
            raise DataError(
                f"{variances[key].path} and {file.path}: two maps of the variance of one effect; remove one of them"
            )
        variances[key] = file
    # What is no effect, such as a z map that Input asks for, has no variance of its own.
    has_one = (effects["stat"] == "effect") | (effects["stat"].isna() & (effects["suffix"] == "effect"))
    rows = zip(_identify(effects), _list_files(effects), has_one, strict=True)
    sources = [replace(file, variance=variances.get(key)) if is_effect else file for key, file, is_effect in rows]
    return pd.Series(sources, effects.index, dtype=object)


def _list_files(maps: pd.DataFrame) -> list[MapFile]:
    entities = maps[list(ENTITY_SHORT_NAMES)].to_dict("records")
    return [
        MapFile(Path(path), uri, {str(name): value for name, value in own.items() if value is not None})
        for path, uri, own in zip(maps["path"], maps["uri"], entities, strict=True)
    ]


def _identify(maps: pd.DataFrame) -> list[tuple[object, ...]]:
    folders = [str(Path(path).parent) for path in maps["path"]]
    entities = [maps[name] for name in ENTITY_SHORT_NAMES if name != "stat"]
    return list(zip(folders, *entities, strict=True))


def find_mask_files(
    datasets: Iterable[Dataset],
    entities: Mapping[str, tuple[str, ...]],
    *,
    subjects: Collection[str],
    database_dir: Path | None = None,
) -> list[Path]:
    """Find the mask files that entities describe, sorted by path.

    Masks of other subjects than those given are left aside; masks of no subject are taken.

    Raises
    ------
    DataError
        If there is none, or some subjects have one and others do not.
    """
    suffixes = entities.get("suffix", ("mask",))
    found = find_images(datasets, suffixes=suffixes, database_dir=database_dir)
    for key, values in entities.items():
        found = found[match_values(found[key], values)]
    has_subject = found["subject"].notna()
    lacking = sorted(set(subjects) - set(found["subject"])) if has_subject.any() else []
    if lacking:
        raise DataError(
            f"there are masks of single subjects, but none of {', '.join(f'sub-{label}' for label in lacking)}"
        )
    found = found[~has_subject | found["subject"].isin(subjects)]
    if not len(found):
        described = ", ".join(f"{key} {' or '.join(values)}" for key, values in entities.items())
        raise DataError(f"no image of {described} is in {', '.join(str(dataset.path) for dataset in datasets)}")
    return [Path(path) for path in found["path"]]


def find_images(
    datasets: Iterable[Dataset], *, suffixes: Iterable[str], database_dir: Path | None = None
) -> pd.DataFrame:
    """List the NIfTI files that have one of some suffixes.

    Returns
    -------
    DataFrame
        A text column for every entity that may be asked for (None where a file has none), `dataset`, `path` and `uri`;
        sorted by path.
    """
    tables = [_index_dataset(dataset, tuple(suffixes), database_dir) for dataset in datasets]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    table = table.reindex(columns=[*QUERY_KEYS, "dataset", "path", "uri"]).astype(object)
    table = table.where(table.notna(), None)
    is_wanted = table["suffix"].isin(list(suffixes)) & table["extension"].isin(IMAGE_EXTENSIONS)
    return table[is_wanted].sort_values("path", ignore_index=True)


def _index_dataset(dataset: Dataset, suffixes: tuple[str, ...], database_dir: Path | None) -> pd.DataFrame:
    # Slow to import; the spec has been read, and may have been refused, before this line.
    from bids.layout import BIDSLayout, BIDSLayoutIndexer
    from bids.layout.models import Tag
    from sqlalchemy.exc import DatabaseError

    check_folders(dataset.path, NOT_INDEXED)
    _check_description(dataset.path / DESCRIPTION)
    # A database serves other specs too, so it holds every image; without one, only what is asked for is indexed.
    indexed = "|".join(map(re.escape, suffixes)) if database_dir is None else "[^/]*"
    ignore = [*NOT_INDEXED, re.compile(rf"^(?!.*_({indexed})\.nii(\.gz)?$).*\.({OTHER_EXTENSIONS})$")]
    database = None if database_dir is None else database_dir / dataset.name
    try:
        layout = BIDSLayout(
            dataset.path,
            validate=False,
            is_derivative=True,
            config=["bids", "derivatives", str(ENTITIES_FILE)],
            database_path=database,
            indexer=BIDSLayoutIndexer(
                validate=False, index_metadata=False, ignore=ignore, config_filename=NO_CONFIGURATION
            ),
        )
    except json.JSONDecodeError as error:  # a byte order mark
        raise InvalidBidsError(f"{dataset.path / DESCRIPTION}: not valid JSON: {error}; mend or remove it") from error
    except DatabaseError as error:
        raise DataError(f"{database}: not a pybids database; remove it, or name another folder") from error
    # One query for all files: asking each BIDSFile for its entities takes as long as the indexing itself.
    tags = layout.session.query(Tag.file_path, Tag.entity_name, Tag._value).all()
    layout.session.close()
    return _to_table(dataset, tags, database)


def _check_description(path: Path) -> None:
    """Check what pybids reads of a dataset's description, whether or not the rest of it is checked.

    Raises
    ------
    InvalidBidsError
    """
    if not path.exists():
        return
    try:
        description = read_json(path)
    except DataError as error:
        raise InvalidBidsError(f"{error}; mend or remove it") from error
    makers = description.get("GeneratedBy", []) if isinstance(description, dict) else None
    if not isinstance(makers, list) or not all(isinstance(maker, dict) for maker in makers):
        raise InvalidBidsError(f"{path}: GeneratedBy is not a list of objects, as BIDS has it; mend or remove it")
    if not isinstance(description.get("PipelineDescription", {}), dict):
        raise InvalidBidsError(f"{path}: PipelineDescription is not an object; mend or remove it")


def _to_table(dataset: Dataset, tags: Iterable[tuple[str, str, str]], database: Path | None) -> pd.DataFrame:
    files: dict[str, dict[str, str]] = {}
    for path, entity, value in tags:
        entities = files.setdefault(str(path), read_entities(Path(path).name))
        if entity in FILE_PARTS:
            entities[entity] = str(value)
    table = pd.DataFrame.from_records(list(files.values()))
    for path in files:
        if not Path(path).is_relative_to(dataset.path):
            raise DataError(f"{database}: the database of another dataset than {dataset.path}; name another folder")
    return table.assign(path=list(files), dataset=dataset.name, uri=[dataset.uri(Path(path)) for path in files])


def read_entities(name: str) -> dict[str, str]:
    """Read the entities of a file's own name; pybids would take them from the folders above the dataset too.

    Examples
    --------
    >>> read_entities("sub-01_desc-Faces_effect.nii.gz")["desc"]
    'Faces'
    """
    pairs = reversed(_NAME_PART.findall(name))
    return {_LONG_NAMES[short]: value for short, value in pairs if short in _LONG_NAMES}


def _is_effect(found: pd.DataFrame, entities: Mapping[str, tuple[str, ...]]) -> pd.Series:
    """Mark the effects: suffix ``effect``, or ``stat-effect``; never variances or z maps."""
    if "stat" in entities:
        return pd.Series(True, found.index)
    may_lack_stat = (found["suffix"] != "statmap") | ("suffix" in entities)
    return (found["stat"] == "effect") | (found["stat"].isna() & may_lack_stat)


def _explain_no_effects(datasets: tuple[Dataset, ...], suffixes: Iterable[str]) -> str:
    folders = ", ".join(str(dataset.path) for dataset in datasets)
    return (
        f"no effect map (suffix {' or '.join(suffixes)}) of any subject was found in {folders}; the names must be like "
        "sub-01_task-x_desc-Faces_effect.nii.gz or sub-01_task-x_contrast-Faces_stat-effect_statmap.nii.gz"
    )


def _check_names_and_folders(effects: pd.DataFrame) -> None:
    """Check that a name repeats the subject and the session of the folders it stands in, as BIDS requires."""
    for path, uri, *own in effects[["path", "uri", "subject", "session"]].itertuples(index=False):
        folders = Path(uri.split(":", 2)[2]).parts[:-1]
        for short, label in zip(("sub", "ses"), own, strict=True):
            differing = [name for name in folders if name.startswith(f"{short}-") and name != f"{short}-{label}"]
            if differing:
                what = _LONG_NAMES[short]
                raise DataError(
                    f"{path}: the file's name and its folder ({differing[0]}) disagree on the {what}; rename one"
                )


def _check_contrasts_in_names(rows: pd.DataFrame) -> None:
    for path in rows.loc[rows["contrast"].isna(), "path"]:
        raise DataError(
            f"{path}: the name has neither a contrast nor a desc entity, so its contrast is not known; rename it"
        )


def _check_entities_once(rows: pd.DataFrame) -> None:
    """Refuse names that give one entity twice: which of the labels is meant cannot be known."""
    for path in rows["path"]:
        counts = Counter(short for short, _ in _NAME_PART.findall(Path(path).name) if short in _LONG_NAMES)
        short, count = counts.most_common(1)[0]
        if count > 1:
            raise DataError(f"{path}: the name has the entity {short} more than once; rename it")


def sort_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Sort maps by subject, the other entities and path."""
    order = ["subject", *(name for name in ENTITY_SHORT_NAMES if name != "subject" and name in table), "path"]
    return table.sort_values(
        order, key=lambda column: column.astype(object).where(column.notna(), "").astype(str), ignore_index=True
    )
