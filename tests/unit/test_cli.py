"""The command line says what it was told, and signals end a run whatever a library catches."""

import logging
import signal
import time
from pathlib import Path

import pytest

from bids_group import cli
from bids_group.errors import UsageError


def parse(*options):
    return cli.make_parser().parse_args(["bids", "out", "group", "-m", "spec.json", *options])


@pytest.mark.parametrize("spelling", ["--participant-label", "--participant_label"])
def test_subjects_are_taken_once_with_or_without_prefix(spelling):
    parsed = parse(spelling, "sub-01", "02", "01")
    options = cli._make_options(parsed, [])
    assert options.inputs.participants == ("01", "02")


@pytest.mark.parametrize("spelling", ["--nprocs", "--n_cpus", "--n-cpus"])
def test_processors_have_three_spellings(spelling):
    assert cli._make_options(parse(spelling, "3"), []).n_threads == 3


def test_paths_are_made_absolute_before_anything_changes_folders():
    options = cli._make_options(parse(), [])
    assert options.inputs.bids_dir == Path.cwd() / "bids"
    assert options.output_dir == Path.cwd() / "out"


@pytest.mark.parametrize("options", [["--nproc", "2"], ["--nprocs", "-1"], ["--mem-gb", "inf"], ["--mem-gb", "nan"]])
def test_abbreviations_and_impossible_numbers_are_refused(options):
    with pytest.raises(UsageError, match="--help"):
        parse(*options)


def test_sigterm_is_not_swallowed_where_a_library_catches_every_exception():
    with pytest.raises(KeyboardInterrupt):
        end_within_a_library()


def end_within_a_library():
    try:
        cli._stop(signal.SIGTERM, None)
    except Exception:  # noqa: BLE001 - as libraries do
        return


def test_handler_of_the_process_is_put_back(capsys):
    previous = signal.getsignal(signal.SIGTERM)
    assert cli.main([]) == UsageError.exit_code
    assert signal.getsignal(signal.SIGTERM) is previous


def test_levels_of_the_log_are_said_except_for_plain_news(capsys):
    logger = cli._start_logging(False)
    logger.info("news")
    logger.warning("odd")
    logger.debug("detail")
    assert capsys.readouterr().err == "bids_group: news\nbids_group: warning: odd\n"
    assert cli._start_logging(True).isEnabledFor(logging.DEBUG)


class _Interrupted:
    """What is interrupted while it is taken apart, where Python prints an exception and goes on."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        signal.raise_signal(self.number)


@pytest.mark.parametrize(("sent", "kind"), [(signal.SIGTERM, cli._Stopped), (signal.SIGINT, KeyboardInterrupt)])
def test_an_interruption_that_a_destructor_drops_comes_again(sent, kind, capfd):
    before = signal.signal(signal.SIGTERM, cli._stop)
    try:
        with pytest.raises(kind), cli._raise_dropped_interruptions():  # noqa: PT012
            _Interrupted(sent)
            time.sleep(60)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert capfd.readouterr().err == ""
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
