"""Every error a user can cause, and the exit code that goes with it.

    BidsGroupError                 1   anything else
    ├── InvalidBidsError          16   a dataset without a readable dataset_description.json
    ├── AnalysisLevelError        17   another level than `group`
    ├── NothingSelectedError      18   Input and the filters selected no map at all
    ├── UsageError                64   the command line
    ├── DataError                 65   maps, tables, designs
    │   └── SpecError             65   the model spec, with the JSON path of the fault
    ├── MissingInputError         66   an input path that is not there
    ├── OutputError               73   an output that cannot be created
    ├── ReadWriteError            74   the file system failed
    └── InterruptedRunError       75   run again to resume

The codes are those of the BIDS execution draft. Messages name the file, subject or key, the value, and the remedy.
"""


class BidsGroupError(Exception):
    """The root of this app's errors."""

    exit_code = 1


class InvalidBidsError(BidsGroupError):
    """An input folder is not a BIDS dataset."""

    exit_code = 16


class AnalysisLevelError(BidsGroupError):
    """The analysis level is not `group`."""

    exit_code = 17


class NothingSelectedError(BidsGroupError):
    """`Input` and the filters selected no map at all."""

    exit_code = 18


class UsageError(BidsGroupError):
    """The command line is wrong, or asks for what is not available."""

    exit_code = 64


class DataError(BidsGroupError):
    """Maps, tables or a design that cannot be analysed."""

    exit_code = 65


class SpecError(DataError):
    """The model spec is wrong at one place.

    Parameters
    ----------
    path : str
        JSON path of the fault, such as ``Nodes[0].Contrasts[1].Weights``.
    problem : str
        What is wrong there, and the remedy.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path


class MissingInputError(BidsGroupError):
    """An input path does not exist."""

    exit_code = 66


class OutputError(BidsGroupError):
    """An output cannot be created."""

    exit_code = 73


class ReadWriteError(BidsGroupError):
    """Reading or writing failed."""

    exit_code = 74


class InterruptedRunError(BidsGroupError):
    """The run was told to stop; running again resumes it."""

    exit_code = 75
