"""The commands of docs/containers.md, which the tests run as they stand."""

import re
from pathlib import Path

import bids_group

ROOT = Path(bids_group.__file__).parent.parent
PAGE = ROOT / "docs" / "containers.md"


def list_commands() -> list[str]:
    """Return the blocks of commands in the order of the page."""
    return re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def find_command(beginning: str) -> str:
    """Return the one block that begins so."""
    (found,) = (block for block in list_commands() if block.startswith(beginning))
    return found
