"""Files of a finished analysis: found, read, and linked to relative to the output folder, where the report stands."""

import base64
import io
import json
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
from PIL import Image

from bids_group.errors import DataError, MissingInputError
from bids_group.outputs import naming

PICTURE_QUALITY, PICTURE_EFFORT = 80, 2  # of WebP: little to be seen of the loss, in a hundredth of a second
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class StoredFile:
    """A file of the analysis: its name in its node's folder, and the link to it."""

    name: str
    href: str


@dataclass(frozen=True)
class StoredFigure:
    """A PNG file, and its picture ready to stand inside the report; width and height in pixels.

    The `vector` is the SVG file beside it; None where there is none.
    """

    file: StoredFile
    vector: StoredFile | None
    data_uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Table:
    """A tab-separated file, every cell as it is written there."""

    file: StoredFile
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@contextmanager
def name_missing_key(path: Path) -> Iterator[None]:
    """Turn a key that a record lacks into an error that names its file."""
    try:
        yield
    except KeyError as error:
        raise DataError(f"{path}: the key {error} is missing; run the analysis again to rewrite it") from error


class Folder:
    """A folder whose files are read and linked to."""

    def __init__(self, output_dir: Path, name: str) -> None:
        self._output_dir = output_dir
        self._name = name

    def path(self, name: str) -> Path:
        """Return the path of a file that must be there."""
        path = self._output_dir / self._name / name
        if not path.is_file():
            raise MissingInputError(
                f"{path} is not there, but the report needs it; run the analysis again to rewrite it"
            )
        return path

    def refer(self, name: str) -> StoredFile:
        """Return a file and the link to it."""
        return StoredFile(name, quote(f"{self._name}/{name}" if self._name else name))

    def refer_all(self, names: Mapping[str, str | None]) -> dict[str, StoredFile]:
        """Return files by what they are, without those that have no name."""
        return {kind: self.refer(name) for kind, name in names.items() if name is not None}

    def refer_existing(self, *names: str) -> tuple[StoredFile, ...]:
        """Return those of some files that are there."""
        return tuple(self.refer(name) for name in names if (self._output_dir / self._name / name).is_file())

    def read_json(self, name: str) -> dict[str, Any]:
        """Read an object."""
        path = self.path(name)
        try:
            record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise DataError(f"{path} is not JSON ({error}); run the analysis again to rewrite it") from error
        return record

    def read_table(self, name: str) -> Table:
        """Read a table, every cell as text."""
        frame = pd.read_csv(self.path(name), sep="\t", dtype=str, keep_default_na=False)
        rows = tuple(tuple(row) for row in frame.itertuples(index=False, name=None))
        return Table(self.refer(name), tuple(frame.columns), rows)

    def read_figure(self, name: str) -> StoredFigure:
        """Read a figure, ready to stand in the page."""
        path = self.path(name)
        data = path.read_bytes()
        if not data.startswith(PNG_SIGNATURE):
            raise DataError(f"{path} is not a PNG file; run the analysis again to rewrite it")
        width, height = struct.unpack(">II", data[16:24])  # of the IHDR chunk, which always comes first
        (vector,) = self.refer_existing(naming.vector_name(name)) or (None,)
        return StoredFigure(self.refer(name), vector, _embed(path, data), width, height)

    def read_figures(self, names: Mapping[str, str | None]) -> dict[str, StoredFigure]:
        """Read figures by what they show, without those that have no name."""
        return {kind: self.read_figure(name) for kind, name in names.items() if name is not None}


def _embed(path: Path, png: bytes) -> str:
    """Return a picture as text that can stand in the report: a fifth of the PNG file, which the report links to."""
    picture = io.BytesIO()
    try:
        with Image.open(io.BytesIO(png)) as image:
            image.convert("RGB").save(picture, "WEBP", quality=PICTURE_QUALITY, method=PICTURE_EFFORT)
    except (OSError, SyntaxError) as error:  # what Pillow raises of damaged files
        raise DataError(f"{path} is damaged ({error}); run the analysis again to rewrite it") from error
    return "data:image/webp;base64," + base64.b64encode(picture.getvalue()).decode("ascii")
