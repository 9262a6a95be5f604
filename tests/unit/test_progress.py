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
