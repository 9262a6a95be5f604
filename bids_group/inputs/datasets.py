"""Which datasets the maps are looked for in, and whether they are BIDS datasets at all."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bids_group.errors import DataError, InvalidBidsError, MissingInputError, NothingSelectedError, UsageError
from bids_group.inputs.strict import read_json

DESCRIPTION = "dataset_description.json"
REQUIRED_FIELDS = ("Name", "BIDSVersion")


@dataclass(frozen=True)
class Dataset:
    """A derivative dataset that maps may come from.

    Attributes
    ----------
    name : str
        What BIDS URIs call it: ``bids:<name>:sub-01/...``.
    path : Path
        Absolute.
    """

    name: str
    path: Path

    def uri(self, file: Path) -> str:
        """Return the BIDS URI of a file of this dataset."""
        return f"bids:{self.name}:{file.relative_to(self.path).as_posix()}"


def name_source(path: Path, datasets: Iterable[Dataset]) -> str:
    """Return a file's BIDS URI where a dataset has it, else its address."""
    for dataset in datasets:
        if dataset.path in path.absolute().parents:
            return dataset.uri(path.absolute())
    return path.absolute().as_uri()


@dataclass(frozen=True)
class DatasetSearch:
    """The datasets found, and what was passed over on the way.

    Attributes
    ----------
    datasets : tuple of Dataset
    warnings : tuple of str
    """

    datasets: tuple[Dataset, ...]
    warnings: tuple[str, ...] = ()


def find_datasets(
    bids_dir: Path, derivatives: Iterable[str], output_dir: Path, *, validate: bool = True
) -> DatasetSearch:
    """Find the datasets that hold the first-level maps.

    Named ones; else BIDS_DIR itself where its DatasetType is derivative; else every dataset in BIDS_DIR/derivatives but
    the output.

    Parameters
    ----------
    bids_dir : Path
    derivatives : iterable of str
        ``PATH`` or ``NAME=PATH``.
    output_dir : Path
        Never read from.
    validate : bool
        Check that each dataset_description.json is there, parses, and has Name and BIDSVersion.

    Raises
    ------
    MissingInputError
        If a folder is not there.
    InvalidBidsError
        If a dataset is not one.
    NothingSelectedError
        If there is no dataset to look in.
    UsageError
        If two datasets have one name.
    """
    _check_folder(bids_dir, "BIDS_DIR")
    description = check_description(bids_dir) if validate else _read_description_if_any(bids_dir)
    named = [_read_argument(argument) for argument in derivatives]
    if named:
        for dataset in named:
            _check_folder(dataset.path, "--derivatives")
            if validate:
                check_description(dataset.path)
        return DatasetSearch(_refuse_repeated_names(named))
    if description.get("DatasetType") == "derivative":
        return DatasetSearch((Dataset(_to_name(bids_dir.name), bids_dir),))
    return _search_derivatives(bids_dir / "derivatives", output_dir, validate=validate)


def _read_argument(argument: str) -> Dataset:
    name, separator, path = argument.partition("=")
    if not argument or (separator and not path):
        raise UsageError(f"--derivatives {argument!r}: the path is missing; write NAME=PATH or PATH")
    if separator and re.fullmatch(r"[A-Za-z0-9_-]+", name):
        return Dataset(name, Path(path).absolute())
    folder = Path(argument).absolute()
    return Dataset(_to_name(folder.name), folder)


def _to_name(folder: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "", folder) or "dataset"


def _refuse_repeated_names(datasets: list[Dataset]) -> tuple[Dataset, ...]:
    names = [dataset.name for dataset in datasets]
    for dataset in datasets:
        if names.count(dataset.name) > 1:
            raise UsageError(
                f"--derivatives: two datasets are called {dataset.name!r}; write NAME=PATH to tell them apart"
            )
    return tuple(datasets)


def _check_folder(path: Path, what: str) -> None:
    if not path.exists():
        raise MissingInputError(f"{what}: {path}: there is no such folder")
    if not path.is_dir():
        raise MissingInputError(f"{what}: {path}: not a folder")


def _search_derivatives(folder: Path, output_dir: Path, *, validate: bool) -> DatasetSearch:
    datasets, warnings = [], []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if not path.is_dir() or path.name.startswith(".") or path.resolve() == output_dir.resolve():
            continue
        if not (path / DESCRIPTION).is_file():
            warnings.append(f"{path}: not looked into: it has no {DESCRIPTION}; add one, or name the folder with -d")
            continue
        if validate:
            check_description(path)
        datasets.append(Dataset(_to_name(path.name), path))
    if not datasets:
        passed_over = "".join(f"\n  {warning}" for warning in warnings)
        raise NothingSelectedError(
            f"{folder}: no dataset of first-level maps is here; say where they are with --derivatives PATH{passed_over}"
        )
    return DatasetSearch(_refuse_repeated_names(datasets), tuple(warnings))


def check_description(folder: Path) -> dict[str, object]:
    """Read dataset_description.json and check what this app relies on.

    Raises
    ------
    InvalidBidsError
        If it is missing, does not parse, or lacks Name or BIDSVersion.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        raise InvalidBidsError(f"{path}: there is no such file, so {folder} is not a BIDS dataset; add it")
    try:
        description = read_json(path)
    except DataError as error:
        raise InvalidBidsError(str(error)) from error
    if not isinstance(description, dict):
        raise InvalidBidsError(f"{path}: not a JSON object")
    for key in REQUIRED_FIELDS:
        if not isinstance(description.get(key), str) or not description[key].strip():
            raise InvalidBidsError(f"{path}: {key} is missing; BIDS requires it")
    return description


def _read_description_if_any(folder: Path) -> dict[str, object]:
    try:
        description = read_json(folder / DESCRIPTION)
    except (DataError, MissingInputError):
        return {}
    return description if isinstance(description, dict) else {}
