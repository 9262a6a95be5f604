"""Figures drawn by other processes are those that this one draws, in the same order, whatever happens to the others."""

import os
import signal

import pandas as pd
import pytest

from bids_group.outputs.drawing import FEWEST_FOR_PROCESSES, Figure, open_painters

DESIGNS = [pd.DataFrame({"a": [1.0] * n, "b": range(n)}) for n in range(2, 2 + FEWEST_FOR_PROCESSES)]
FIGURES = [Figure(f"{len(one)}.png", "draw_design_matrix", (one,)) for one in DESIGNS]


@pytest.fixture(scope="module")
def expected():
    return [(figure.name, figure.draw()) for figure in FIGURES]


def test_processes_draw_the_same_bytes_in_the_same_order(expected):
    with open_painters(2) as painters:
        assert [(figure.name, content) for figure, content in painters.draw(FIGURES)] == expected


def test_what_killed_processes_leave_is_drawn_here(expected):
    with open_painters(2) as painters:
        drawn = painters.draw(FIGURES)
        first = next(drawn)
        for process in painters._pool._processes.values():
            os.kill(process.pid, signal.SIGKILL)
        found = [first, *drawn]
    assert [(figure.name, content) for figure, content in found] == expected


def test_few_figures_start_no_process(expected):
    with open_painters(8) as painters:
        assert [content for _, content in painters.draw(FIGURES[:3])] == [content for _, content in expected[:3]]
        assert painters._pool is None
