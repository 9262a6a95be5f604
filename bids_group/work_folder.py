"""The work directory: the one place besides OUTPUT_DIR that the app and its libraries write to."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bids_group.outputs.staging import translate_errors

# matplotlib would else keep its list of fonts under HOME, which may be unwritable and is not ours.
LIBRARY_FOLDERS = {"MPLCONFIGDIR": "matplotlib"}


@contextmanager
def open_work_folder(folder: Path) -> Iterator[Path]:
    """Make the work directory, and take away what was made of it.

    Parameters
    ----------
    folder : Path
        The work directory; several runs may share it.

    Yields
    ------
    Path
        A folder of this run within it.

    Raises
    ------
    OutputError
        If it cannot be made.
    """
    existed = folder.exists()
    own = folder / f"run-{os.getpid()}"
    environment = {
        variable: str(own / name) for variable, name in LIBRARY_FOLDERS.items() if variable not in os.environ
    }
    try:
        with translate_errors(own):
            own.mkdir(parents=True, exist_ok=True)
        os.environ.update(environment)
        yield own
    finally:
        for variable in environment:
            os.environ.pop(variable, None)
        shutil.rmtree(own, ignore_errors=True)
        if not existed:
            shutil.rmtree(folder, ignore_errors=True)
