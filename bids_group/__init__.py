"""bids_group: a BIDS App for group-level fMRI."""

from importlib import metadata
from pathlib import Path


def _read_version() -> str:
    """Return the version of this checkout, or of the installed package where there is no checkout."""
    version_file = Path(__file__).parent.parent / "version"
    if version_file.is_file():
        return version_file.read_text(encoding="utf-8").strip()
    return metadata.version("bids_group")


__version__ = _read_version()
