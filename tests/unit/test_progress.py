"""What is shown while the app works."""

import logging

from bids_group.outputs.provenance import LogLines
from bids_group.progress import StageClock, show_progress


def test_times_of_a_stage_that_is_entered_twice_add_up():
    clock = StageClock()
    with clock.stage("fit"):
        pass
    first = clock.seconds["fit"]
    with clock.stage("fit"), clock.stage("draw"):
        pass
    assert clock.seconds["fit"] >= first + clock.seconds["draw"]
    assert list(clock.seconds) == ["fit", "draw"]


def test_away_from_a_terminal_progress_is_one_line_of_the_log(capsys):
    logger, lines = logging.getLogger("bids_group"), LogLines()
    logger.addHandler(lines)
    level = logger.level
    logger.setLevel(logging.INFO)
    with show_progress("reading maps", 3) as advance:
        for _ in range(3):
            advance()
    logger.removeHandler(lines)
    logger.setLevel(level)
    assert lines.lines == ["INFO: reading maps: 3"]
    assert "\r" not in capsys.readouterr().err


def test_time_that_is_left_is_said_but_not_kept():
    log = LogLines()
    for text, extra in (("reading maps: 6", None), ("reading maps: 3 of 6, about 9 s left", {"is_passing": True})):
        log.handle(
            logging.getLogger("bids_group").makeRecord("bids_group", logging.INFO, "", 0, text, (), None, extra=extra)
        )
    assert log.lines == ["INFO: reading maps: 6"]
