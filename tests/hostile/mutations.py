"""Valid files made invalid: bytes flipped, cut and doubled, numbers of headers and members of JSON made absurd.

What is made depends on the content and the random numbers alone, so that an input is found again by its number.
"""

import copy
import gzip
import io
import json
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

import nibabel as nib
import numpy as np

LONGEST_SLICE = 200  # bytes that are cut, doubled or moved at once
MOST_CHANGES = 4
ODD_BYTES = (0x00, 0x01, 0x09, 0x0A, 0x0D, 0x20, 0x22, 0x7F, 0x80, 0xFE, 0xFF)
ODD_TEXTS = (
    *("", " ", "n/a", "NaN", "inf", "-1", "1e999", "null", "true", "[]", "{}", "../../x", "/", ".", "x\0y", "\t", "\n"),
    *("\ufeff", "\u202e", "é", "𝔘", "bids:x", "bids::../../x", "file://[", "<script>", "=1+1", "%s", "{0}", "9" * 30),
)
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 10**30, 0.5, -0.0, 1e308, [], {}, [[]], [None], {"": None}),
    *({"Name": 1}, ["x"], [1, "x", None], *ODD_TEXTS),
)
HEADERS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}


def mutate(name: str, content: bytes, rng: Random) -> bytes:
    """Return a content of which something is wrong, in the way of files of that name."""
    ways = next((ways for ending, ways in WAYS.items() if name.endswith(ending)), (mutate_bytes,))
    return rng.choice(ways)(content, rng)


def mutate_bytes(content: bytes, rng: Random) -> bytes:
    """Flip, set, cut, double, move or insert some bytes."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, MOST_CHANGES)):
        at, other = rng.randint(0, len(changed)), rng.randint(0, len(changed))
        end = at + rng.randint(1, LONGEST_SLICE)
        way = rng.randrange(7)
        if way == 0 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif way == 1 and at < len(changed):
            changed[at] = rng.choice(ODD_BYTES)
        elif way == 2:
            del changed[at : rng.choice((end, at + 1, len(changed)))]
        elif way == 3:
            changed[other:other] = changed[at:end]
        elif way == 4:
            changed[at:at] = rng.randbytes(rng.randint(1, 8))
        elif way == 5:
            changed[at:at] = bytes([rng.choice(ODD_BYTES)]) * rng.randint(1, LONGEST_SLICE)
        else:
            changed[at:end] = changed[other : other + end - at]
    return bytes(changed)


def mutate_text(content: bytes, rng: Random) -> bytes:
    """Replace, repeat or drop some words, cells or lines."""
    split = rng.choice((b"\t", b"\n", b'"', b","))
    parts = content.split(split)
    for _ in range(rng.randint(1, MOST_CHANGES)):
        at = rng.randrange(len(parts))
        way = rng.randrange(4)
        if way == 0:
            parts[at] = rng.choice(ODD_TEXTS).encode()
        elif way == 1:
            parts.insert(at, rng.choice(parts))
        elif way == 2 and len(parts) > 1:
            del parts[at]
        else:
            parts[at] += rng.choice(ODD_TEXTS).encode()
    joined = split.join(parts)
    return rng.choice((joined, joined, joined, b"\xef\xbb\xbf" + joined, joined.replace(b"\n", b"\r\n")))


def find_places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return every place in a document: the keys and indices that lead there."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] + [place for key, item in inner for place in find_places(item, (*path, key))]


def mutate_document(content: bytes, rng: Random) -> bytes:
    """Replace, drop, wrap or add some members of a JSON document, which stays JSON."""
    document = json.loads(content)
    for _ in range(rng.randint(1, MOST_CHANGES)):
        places = [place for place in find_places(document) if place]
        if not places:
            break
        *path, last = rng.choice(places)
        parent = document
        for key in path:
            parent = parent[key]
        _change_member(parent, last, rng)
    return json.dumps(document if rng.random() < 0.98 else rng.choice(ODD_VALUES)).encode()


def _change_member(parent: Any, key: Any, rng: Random) -> None:
    way = rng.randrange(5)
    if way == 0:
        del parent[key]
    elif way == 1:
        parent[key] = [parent[key]]
    elif way == 2 and isinstance(parent, list):
        parent.insert(key, copy.deepcopy(rng.choice([*ODD_VALUES, *parent])))
    elif way == 2:
        parent[rng.choice([*ODD_TEXTS, *map(str, parent)])] = copy.deepcopy(rng.choice(ODD_VALUES))
    else:
        parent[key] = copy.deepcopy(rng.choice(ODD_VALUES))


def mutate_header(content: bytes, rng: Random) -> bytes:
    """Give some fields of a NIfTI header absurd numbers."""
    (size,) = np.frombuffer(content[:4], "<i4")
    header = HEADERS[int(size)](content[: int(size)], check=False)
    for _ in range(rng.randint(1, MOST_CHANGES)):
        name = rng.choice(header.template_dtype.names)
        field = header.structarr[name]
        kind = header.template_dtype[name].base
        if kind.kind == "S":
            header.structarr[name] = rng.randbytes(rng.randint(0, kind.itemsize))
        elif field.shape:
            field[rng.randrange(field.size)] = _draw_number(kind, rng)
        else:
            header.structarr[name] = _draw_number(kind, rng)
    return header.binaryblock + content[int(size) :]


def _draw_number(kind: np.dtype[Any], rng: Random) -> Any:
    if kind.kind == "f":
        largest = float(np.finfo(kind).max)
        return rng.choice((0, -1, 1e-30, 352.5, 353, 2**31, 1e30, largest, -largest, np.nan, np.inf, -np.inf))
    limits = np.iinfo(kind)
    known = (0, 1, 2, 3, 5, 7, 16, 64, 512, 2000, limits.max, limits.min, limits.max - 1)
    return min(rng.choice(known), limits.max)


def mutate_inflated(content: bytes, rng: Random) -> bytes:
    """Change what a gzip file holds, so that its sums are right."""
    way = rng.choice((mutate_bytes, mutate_header, mutate_header))
    return gzip.compress(way(gzip.decompress(content), rng), 1)


def mutate_member(content: bytes, rng: Random) -> bytes:
    """Change a member of a ZIP archive, so that its sums are right, or its name."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(packed, "w") as target:
        names = source.namelist()
        chosen = rng.choice(names)
        for name in names:
            inner = source.read(name)
            is_chosen = name == chosen
            as_named = rng.choice((name, name, name, "x.npy", "x", "../x.npy")) if is_chosen else name
            # The array's own header is short, and changes of it are what matters.
            cut = rng.choice((128, len(inner)))
            target.writestr(as_named, mutate_bytes(inner[:cut], rng) + inner[cut:] if is_chosen else inner)
    return packed.getvalue()


Mutation = Callable[[bytes, Random], bytes]
WAYS: dict[str, tuple[Mutation, ...]] = {
    ".nii": (mutate_bytes, mutate_header, mutate_header),
    ".nii.gz": (mutate_bytes, mutate_inflated, mutate_inflated),
    ".json": (mutate_bytes, mutate_text, mutate_document, mutate_document),
    ".tsv": (mutate_bytes, mutate_text),
    ".npz": (mutate_bytes, mutate_member),
}
