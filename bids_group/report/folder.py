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

from PIL import Image

from bids_group.errors import DataError, MissingInputError
from bids_group.outputs import naming

PICTURE_QUALITY, PICTURE_EFFORT = 80, 2  # of WebP: little to be seen of the loss, in a hundredth of a second
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_SIZE = slice(16, 24)  # bytes of the width and the height
REWRITE = "run the analysis again to rewrite it"


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
    """Turn a key that a record lacks, or a value of a type that no run writes, into an error that names its file."""
    try:
        yield
    except KeyError as error:
        raise DataError(f"{path}: the key {error} is missing; {REWRITE}") from error
    except (TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{path}: not as a run writes it ({error}); {REWRITE}") from error


class Folder:
    """A folder whose files are read and linked to."""

    def __init__(self, output_dir: Path, name: str) -> None:
        self._output_dir = output_dir
        self._name = name

    def path(self, name: str) -> Path:
        """Return the path of a file that must be there."""
        path = self._output_dir / self._name / name
        if not path.is_file():
            raise MissingInputError(f"{path} is not there, but the report needs it; {REWRITE}")
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
            record = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path} is not JSON ({error}); {REWRITE}") from error
        if not isinstance(record, dict):
            raise DataError(f"{path} holds no object; {REWRITE}")
        return record

    def read_table(self, name: str, *columns: str) -> Table:
        """Read a table, every cell as text, that has some columns at least."""
        path = self.path(name)
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not text ({error}); {REWRITE}") from error
        # Split as it was written: quotes in a cell are part of it.
        header, *rows = [tuple(line.split("\t")) for line in text.removesuffix("\n").split("\n")]
        lacking = [column for column in columns if column not in header]
        if lacking:
            raise DataError(f"{path} has no column {lacking[0]}; {REWRITE}")
        for number, row in enumerate(rows, start=2):
            if len(row) != len(header):
                raise DataError(f"{path}: line {number} has {len(row)} cells and the header {len(header)}; {REWRITE}")
        return Table(self.refer(name), header, tuple(rows))

    def read_figure(self, name: str) -> StoredFigure:
        """Read a figure, ready to stand in the page."""
        path = self.path(name)
        data = path.read_bytes()
        if not data.startswith(PNG_SIGNATURE) or len(data) < PNG_SIZE.stop:
            raise DataError(f"{path} is not a PNG file; {REWRITE}")
        width, height = struct.unpack(">II", data[PNG_SIZE])  # of the IHDR chunk, which always comes first
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
        raise DataError(f"{path} is damaged ({error}); {REWRITE}") from error
    return "data:image/webp;base64," + base64.b64encode(picture.getvalue()).decode("ascii")
