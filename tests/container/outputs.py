"""Folders of results, compared byte by byte."""

import hashlib
from pathlib import Path

FACTS: list[str] = []  # for the summary


def hash_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file below a folder, by its name there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def compare_bytes(one: Path, other: Path) -> set[str]:
    """Return the names of the files that differ, or that one of two folders lacks."""
    first, second = hash_files(one), hash_files(other)
    names = first.keys() | second.keys()
    different = {name for name in names if first.get(name) != second.get(name)}
    FACTS.append(
        f"{one.name} and {other.name}: {len(names) - len(different)} of {len(names)} files are the same bytes; "
        f"not {', '.join(sorted(different)) or 'one differs'}"
    )
    return different
