"""Whether a file was written by this app, what it shows, and whether it was made from the data that it is used on."""

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bids_group.errors import DataError, MissingInputError, ReadWriteError
from bids_group.inputs.strict import read_json
from bids_group.vocabulary import APP_NAME

# What stands in the sidecars of results of a correction, and in no other.
RESULT_KEYS = {"Correction", "SearchVolumeVoxels"}
# Units of the maps that are 0 where nothing survived: the statistic, and the ids of clusters.
SURVIVOR_UNITS = ("t", "F", "cluster id")
MASK_TYPE = "Brain"  # in the sidecar of an analysis mask
# What tells one measurement of a subject from another, in the names of files.
_MEASUREMENT = re.compile(r"(?:^|_)(sub|ses|task|run)-([a-zA-Z0-9]+)")


@dataclass(frozen=True)
class Origin:
    """How this app made a file.

    Attributes
    ----------
    sources : tuple of str
        BIDS URIs of the maps that it was made from; empty where the file does not say.
    shows_survivors : bool
        Whether it is 0 wherever nothing survived.
    """

    sources: tuple[str, ...]
    shows_survivors: bool


def find_origin(path: Path) -> Origin | None:
    """Find out how this app made an image, by its sidecar or the dataset that it is in; None where it did not.

    Nor is there one of its analysis masks, which no effect has a part in.

    Parameters
    ----------
    path : Path
    """
    sidecar = _read_object(path.with_name(re.sub(r"\.nii(\.gz)?$", "", path.name) + ".json"))
    is_result = sidecar.keys() >= RESULT_KEYS
    if not is_result and (sidecar.get("Type") == MASK_TYPE or not _is_in_own_dataset(path)):
        return None
    sources = sidecar.get("Sources")
    listed = tuple(str(one) for one in sources) if isinstance(sources, list) else ()
    return Origin(listed, is_result and sidecar.get("Units") in SURVIVOR_UNITS)


def may_share_data(origin: Origin, uris: Iterable[str]) -> bool:
    """Tell whether a file may have been made from the measurements that some maps are of.

    It was not where it names its sources and none of them is of a subject of the maps, or all that are name another
    session, task or run.

    Parameters
    ----------
    origin : Origin
    uris : iterable of str
        BIDS URIs of the maps.
    """
    measured = [_read_measurement(uri) for uri in uris]
    made_from = [one for one in map(_read_measurement, origin.sources) if "sub" in one]
    return not made_from or any(_agree(one, other) for one in made_from for other in measured)


def _agree(one: dict[str, str], other: dict[str, str]) -> bool:
    return all(one[key] == other[key] for key in one.keys() & other.keys())


def _read_measurement(uri: str) -> dict[str, str]:
    return dict(_MEASUREMENT.findall(uri.rsplit("/", 1)[-1]))


def _is_in_own_dataset(path: Path) -> bool:
    """Tell whether the innermost dataset around a file is one of this app's."""
    descriptions = (folder / "dataset_description.json" for folder in path.resolve().parents)
    innermost = next((one for one in descriptions if one.is_file()), None)
    generated = _read_object(innermost).get("GeneratedBy") if innermost is not None else None
    makers = generated if isinstance(generated, list) else []
    return any(isinstance(maker, dict) and maker.get("Name") == APP_NAME for maker in makers)


def _read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; an empty one where there is none that can be read."""
    with suppress(MissingInputError, DataError, ReadWriteError):
        document = read_json(path)
        return document if isinstance(document, dict) else {}
    return {}
