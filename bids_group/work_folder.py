"""The work directory: the one place besides OUTPUT_DIR that the app and its libraries write to."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bids_group.outputs.staging import leave_no_empty_folders, translate_errors

# matplotlib would else keep its list of fonts under HOME, which may be unwritable and is not ours.
RUN_PREFIX = "run-"
LIBRARY_FOLDERS = {"MPLCONFIGDIR": "matplotlib"}


@contextmanager
def open_work_folder(folder: Path, *, is_shared: bool) -> Iterator[Path]:
    """Make the work directory, and take away what was made of it; checkpoints stay until they are used.

    Parameters
    ----------
    folder : Path
    is_shared : bool
        Whether other runs may use it. Else what a killed run left there, but for its checkpoints, is cleared away.

    Yields
    ------
    Path
        A folder of this run within it.

    Raises
    ------
    OutputError
        If it cannot be made.
    """
    if not is_shared:
        for left in folder.glob(f"{RUN_PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)
    with leave_no_empty_folders(folder):
        with translate_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # Not the process id: runs in several containers have the same.
            own = Path(tempfile.mkdtemp(prefix=RUN_PREFIX, dir=folder))
        missing = {
            variable: str(own / name) for variable, name in LIBRARY_FOLDERS.items() if variable not in os.environ
        }
        try:
            os.environ.update(missing)
            yield own
            if not is_shared:
                shutil.rmtree(folder, ignore_errors=True)  # after success checkpoints are of no use
        finally:
            for variable in missing:
                os.environ.pop(variable, None)
            shutil.rmtree(own, ignore_errors=True)
