"""The command line: arguments, logging and exit codes. Everything else is imported after the arguments are known."""

import argparse
import logging
import shlex
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from bids_group import __version__
from bids_group.errors import (
    AnalysisLevelError,
    BidsGroupError,
    DataError,
    InterruptedRunError,
    ReadWriteError,
    UsageError,
)
from bids_group.vocabulary import LARGEST_SEED, MOST_PERMUTATIONS

if TYPE_CHECKING:
    from bids_group.engines.options import EngineOptions
    from bids_group.inputs.study import InputOptions
    from bids_group.workflow import Options

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
EXIT_OTHER = 1
SECONDS_UNTIL_RAISED_AGAIN = 0.05  # until a destructor has ended
ANALYSIS_LEVEL = "group"
AUTO_MODEL = "auto"  # a file of that name is ./auto
SLURM_JOBS = 10
SLURM_OPTIONS = ("slurm_jobs", "slurm_cpus", "slurm_mem_gb", "slurm_args")

EPILOG = """\
exit codes: 0 done; 16 invalid BIDS; 17 analysis level not group; 18 nothing selected; 64 usage; 65 bad data;
66 input missing; 73 output cannot be created; 74 I/O; 75 interrupted, run again to resume; 130 Ctrl-C; 1 anything else
"""


class _Stopped(KeyboardInterrupt):
    """SIGTERM came: like Ctrl-C no `Exception`, which a library might catch on its way up."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = _Parser(
        prog="bids_group",
        description="Group-level fMRI: from one effect map per subject and condition to tested contrasts and a report.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("bids_dir", type=Path, metavar="BIDS_DIR", help="a BIDS dataset, raw or derivative")
    parser.add_argument("output_dir", type=Path, metavar="OUTPUT_DIR", help="where the results go")
    parser.add_argument("analysis_level", metavar="group", help="the only level there is")
    parser.add_argument(
        "-m",
        "--model",
        metavar="SPEC.json",
        help="a BIDS Stats Model (required); auto: the mean of each contrast found, and templates of other models",
    )
    _add_input_options(parser.add_argument_group("inputs"))
    _add_resource_options(parser.add_argument_group("resources"))
    _add_mode_options(parser.add_argument_group("what to do"))
    return parser


def _add_input_options(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "-d", "--derivatives", nargs="+", default=[], metavar="[NAME=]PATH", help="where the first-level maps are"
    )
    group.add_argument(
        "--participant-label",
        "--participant_label",
        nargs="+",
        default=[],
        metavar="L",
        help="a subset of the subjects",
    )
    group.add_argument("--bids-filter-file", type=Path, metavar="F", help="a JSON file of entities, as in fMRIPrep")
    group.add_argument("--bids-database-dir", type=Path, metavar="D", help="a folder of pybids databases to reuse")
    group.add_argument("--skip-bids-validation", action="store_true", help="do not check dataset_description.json")
    group.add_argument("--mask", type=Path, metavar="F", help="the search volume; overrides the spec")
    group.add_argument(
        "--n-permutations", type=_number_of_permutations, metavar="N", help="rearrangements; overrides the spec"
    )
    group.add_argument("--random-seed", type=_seed, metavar="N", help="of the rearrangements; overrides the spec")


def _add_resource_options(group: "argparse._ArgumentGroup") -> None:
    group.add_argument("-w", "--work-dir", type=Path, metavar="D", help="default: OUTPUT_DIR/.work, gone after success")
    group.add_argument("--nprocs", "--n_cpus", "--n-cpus", type=_positive_int, metavar="N", help="processors to use")
    group.add_argument("--mem-gb", type=_positive_float, metavar="G", help="bound of the memory for the maps, in GB")
    group.add_argument("--dask-scheduler", metavar="ADDRESS", help="run permutations on a Dask cluster")
    group.add_argument("--slurm", action="store_true", help="run permutations through Slurm jobs")
    group.add_argument(
        "--slurm-jobs", type=_positive_int, metavar="N", help=f"jobs at a time, at most (default {SLURM_JOBS})"
    )
    group.add_argument("--slurm-cpus", type=_positive_int, metavar="N", help="processors of each job (default 4)")
    group.add_argument("--slurm-mem-gb", type=_positive_float, metavar="G", help="memory of each job (default 8)")
    group.add_argument(
        "--slurm-args", type=shlex.split, metavar="ARGS", help="further options of sbatch: --slurm-args='--account=x'"
    )
    group.add_argument(
        "--shard",
        type=_shard,
        metavar="I/N",
        help="compute the I-th of N shares of the permutations and keep it in --work-dir; then run without --shard",
    )


def _add_mode_options(group: "argparse._ArgumentGroup") -> None:
    modes = group.add_mutually_exclusive_group()
    modes.add_argument("--dry-run", action="store_true", help="check everything and show it; compute nothing")
    modes.add_argument(
        "--reports-only", action="store_true", help="make the reports anew from what stands in OUTPUT_DIR"
    )
    modes.add_argument(
        "--verify", action="store_true", help="compare inputs and outputs with the hashes of the run; 65 if any differ"
    )
    modes.add_argument("--force", action="store_true", help="compute even if OUTPUT_DIR has the same results already")
    group.add_argument("--version", action="version", version=f"bids_group {__version__}")
    group.add_argument("-v", "--verbose", action="count", default=0, help="say more")


def _positive_int(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _positive_float(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError
    return number


def _number_of_permutations(text: str) -> int:
    number = int(text)
    if not 2 <= number <= MOST_PERMUTATIONS:
        raise ValueError
    return number


def _seed(text: str) -> int:
    number = int(text)
    if not 0 <= number <= LARGEST_SEED:
        raise ValueError
    return number


def _shard(text: str) -> tuple[int, int]:
    number, total = (int(part) for part in text.split("/"))
    if not 1 <= number <= total:
        raise ValueError
    return number, total


_shard.__name__ = "share such as 2/5"
_number_of_permutations.__name__ = f"whole number from 2 to {MOST_PERMUTATIONS}"
_seed.__name__ = "whole number, not negative, of at most 63 bits"
_positive_int.__name__ = "whole number above 0"
_positive_float.__name__ = "number above 0"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the app.

    Parameters
    ----------
    arguments : sequence of str or None
        The command line without the program's name; None for that of the process.

    Returns
    -------
    int
        The exit code.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    logger = _start_logging("-v" in given or "--verbose" in given)
    previous = signal.signal(signal.SIGTERM, _stop)
    try:
        with _raise_dropped_interruptions():
            _run(given)
    except BidsGroupError as error:
        logger.error("%s", error)
        return error.exit_code
    except _Stopped:
        logger.error("stopped by SIGTERM; run the same command again")
        return InterruptedRunError.exit_code
    except KeyboardInterrupt:
        logger.error("interrupted; run the same command again")
        return EXIT_INTERRUPTED
    except MemoryError:
        logger.error("out of memory; give a bound with --mem-gb, or use a larger machine")
        return EXIT_OTHER
    except ModuleNotFoundError as error:
        logger.error(
            "the package %s is not installed for %s; run `make env`, then .venv/bin/python", error.name, sys.executable
        )
        return EXIT_OTHER
    except BrokenPipeError:
        sys.stdout = None  # whoever read the output has gone, as in `... --dry-run | head`: nothing is left to flush
        return 0
    except OSError as error:
        logger.error("%s: %s", error.filename or "I/O", error.strerror or error)
        return ReadWriteError.exit_code
    except Exception as error:  # noqa: BLE001 - the last line: a fault of this program, told as one
        logger.error("this is a fault of bids_group, not of your data: %s\n%s", error, traceback.format_exc())
        return EXIT_OTHER
    finally:
        signal.signal(signal.SIGTERM, previous)
    return 0


def _stop(_signal: int, _frame: object) -> NoReturn:
    raise _Stopped


@contextmanager
def _raise_dropped_interruptions() -> Iterator[None]:
    """Raise SIGTERM or Ctrl-C once more if it came while a destructor ran, where Python drops every exception."""
    hook, handler = sys.unraisablehook, signal.getsignal(signal.SIGALRM)

    def notice(dropped: "sys.UnraisableHookArgs") -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            hook(dropped)
            return
        kind = dropped.exc_type

        def raise_again(_signal: int, _frame: object) -> NoReturn:
            raise kind

        signal.signal(signal.SIGALRM, raise_again)
        signal.setitimer(signal.ITIMER_REAL, SECONDS_UNTIL_RAISED_AGAIN)

    sys.unraisablehook = notice
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        sys.unraisablehook = hook


def _start_logging(verbose: bool) -> logging.Logger:
    logger = logging.getLogger("bids_group")
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logger.propagate = False
    logger.handlers.clear()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    logger.addHandler(handler)
    return logger


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        return f"bids_group: {level}{record.getMessage()}"


def _run(given: list[str]) -> None:
    _check_text(given)
    parsed = make_parser().parse_args(given)
    options_given = _check_arguments(parsed)
    # numpy, nilearn and their friends take seconds to import; --help and a wrong command line must not wait for them.
    if parsed.reports_only or parsed.verify:
        _rerun(options_given)
        return
    from bids_group.outputs.provenance import LogLines
    from bids_group.workflow import run

    log = LogLines()
    logging.getLogger("bids_group").addHandler(log)
    report = run(_make_options(options_given, given), log)
    if report is not None:
        sys.stdout.write(f"{report}\n")


def _check_text(given: list[str]) -> None:
    """Refuse what is no text in UTF-8: the addresses in the outputs could not be written."""
    for argument in given:
        if any("\ud800" <= character <= "\udfff" for character in argument):  # a byte that could not be decoded
            raise UsageError(
                f"{argument!a}: not UTF-8, or the locale is not; rename it, or set PYTHONUTF8=1 in the environment"
            )


def _check_arguments(parsed: argparse.Namespace) -> argparse.Namespace:
    if parsed.analysis_level != ANALYSIS_LEVEL:
        raise AnalysisLevelError(
            f"the analysis level is {parsed.analysis_level!r}; this app has one: "
            "bids_group BIDS_DIR OUTPUT_DIR group --model SPEC.json"
        )
    if parsed.model is None and not (parsed.reports_only or parsed.verify):
        raise UsageError("--model SPEC.json is required; --model auto makes one")
    _check_engine_options(parsed)
    return parsed


def _check_engine_options(parsed: argparse.Namespace) -> None:
    """Make sure that batches are to run at one place."""
    places = {"--dask-scheduler": parsed.dask_scheduler, "--slurm": parsed.slurm, "--shard": parsed.shard}
    chosen = [option for option, value in places.items() if value]
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(chosen)} exclude each other: permutations run at one place")
    if parsed.shard and parsed.work_dir is None:
        raise UsageError("--shard needs --work-dir: the folder in which all shards keep what they computed")
    for name in SLURM_OPTIONS:
        if getattr(parsed, name) is not None and not parsed.slurm:
            raise UsageError(f"--{name.replace('_', '-')} is of no use without --slurm")


def _make_engine_options(parsed: argparse.Namespace) -> "EngineOptions":
    from bids_group.engines.options import EngineOptions, SlurmOptions

    slurm = SlurmOptions(
        n_jobs=parsed.slurm_jobs or SLURM_JOBS,
        n_cpus=parsed.slurm_cpus,
        memory_gb=parsed.slurm_mem_gb,
        arguments=tuple(parsed.slurm_args or ()),
    )
    return EngineOptions(parsed.dask_scheduler, slurm if parsed.slurm else None)


def _rerun(parsed: argparse.Namespace) -> None:
    """Do what needs results that stand there already."""
    from bids_group.inputs.study import read_model
    from bids_group.rerun import rebuild_reports, verify_runs

    options, output_dir = _make_input_options(parsed), parsed.output_dir.absolute()
    model = None if parsed.model is None else read_model(options.model).name
    if parsed.reports_only:
        reports = rebuild_reports(output_dir, model=model, n_threads=parsed.nprocs)
        sys.stdout.write("".join(f"{path}\n" for path in reports))
        return
    found = verify_runs(options, output_dir, model=model, n_threads=parsed.nprocs)
    sys.stdout.write(found.text)
    if found.n_changed or found.n_missing:
        raise DataError(
            f"{output_dir}: not as the run left it: changed files: {found.n_changed}, missing: {found.n_missing}; "
            "put them back, say where the inputs are now, or run the analysis again"
        )


def _make_input_options(parsed: argparse.Namespace) -> "InputOptions":
    from bids_group.inputs.study import InputOptions

    return InputOptions(
        bids_dir=parsed.bids_dir.absolute(),
        model=None if parsed.model in (None, AUTO_MODEL) else Path(parsed.model).absolute(),
        derivatives=tuple(parsed.derivatives),
        participants=tuple(dict.fromkeys(label.removeprefix("sub-") for label in parsed.participant_label)),
        bids_filter_file=parsed.bids_filter_file,
        database_dir=parsed.bids_database_dir,
        mask=parsed.mask,
        n_permutations=parsed.n_permutations,
        seed=parsed.random_seed,
        validate=not parsed.skip_bids_validation,
    )


def _make_options(parsed: argparse.Namespace, given: list[str]) -> "Options":
    from bids_group.checkpoints import Shard
    from bids_group.workflow import Options

    return Options(
        inputs=_make_input_options(parsed),
        output_dir=parsed.output_dir.absolute(),
        work_dir=parsed.work_dir,
        n_threads=parsed.nprocs,
        memory_gb=parsed.mem_gb,
        force=parsed.force,
        dry_run=parsed.dry_run,
        engine=_make_engine_options(parsed),
        shard=None if parsed.shard is None else Shard(*parsed.shard),
        command=("bids_group", *given),
    )
