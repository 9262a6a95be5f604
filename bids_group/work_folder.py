"""The work directory: the one place besides OUTPUT_DIR that the app and its libraries write to."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bids_group.outputs.staging import leave_no_empty_folders, refuse_link, translate_errors

RUN_PREFIX = "run-"
# matplotlib would else keep its list of fonts under HOME, which may be unwritable and is not ours. What the variable
# names already may be of another machine: apptainer hands on the environment, not the folder.
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
        refuse_link(folder)
        for left in folder.glob(f"{RUN_PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)
    with leave_no_empty_folders(folder):
        with translate_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # Not the process id: runs in several containers have the same.
            own = Path(tempfile.mkdtemp(prefix=RUN_PREFIX, dir=folder))
        try:
            with _lend_to_libraries(own):
                yield own
            if not is_shared:
                shutil.rmtree(folder, ignore_errors=True)  # after success checkpoints are of no use
        finally:
            shutil.rmtree(own, ignore_errors=True)


@contextmanager
def _lend_to_libraries(folder: Path) -> Iterator[None]:
    """Let libraries that keep files write below a folder, unless a variable names one that can be written to."""
    before = {variable: os.environ.get(variable) for variable in LIBRARY_FOLDERS}
    lent = [variable for variable, named in before.items() if not os.access(named or "", os.W_OK)]
    os.environ.update({variable: str(folder / LIBRARY_FOLDERS[variable]) for variable in lent})
    try:
        yield
    finally:
        for variable in lent:
            named = before[variable]
            if named is None:
                os.environ.pop(variable, None)
            else:
                os.environ[variable] = named
