"""Figures drawn by other processes are those that this one draws, in the same order, whatever happens to the others."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

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


START = """
import time
from tests.unit.test_drawing import FIGURES, open_painters

if __name__ == "__main__":
    with open_painters(2) as painters:
        drawn = painters.draw(FIGURES)
        next(drawn)
        print(*painters._pool._processes, flush=True)
        time.sleep(600)
"""


@pytest.fixture
def drawing(tmp_path):
    """A program that draws with processes of its own, in a group of its own as a terminal makes it; and their ids."""
    script = tmp_path / "draw.py"
    script.write_text(START)
    with subprocess.Popen(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as program:
        yield program, [os.pidfd_open(int(number)) for number in program.stdout.readline().split()]
        program.kill()


def test_processes_end_when_the_run_is_killed(drawing):
    program, processes = drawing
    assert len(processes) == 2
    program.kill()
    assert all(select.select([process], [], [], 60)[0] for process in processes)


def test_processes_never_see_an_interrupt(drawing):
    program, _ = drawing
    children = Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()
    commands = {child: Path(f"/proc/{child}/cmdline").read_text() for child in children}
    painters = [child for child, command in commands.items() if "spawn_main" in command]
    status = [Path(f"/proc/{child}/status").read_text() for child in painters]
    blocked = [int(line.split()[1], 16) for text in status for line in text.splitlines() if line.startswith("SigBlk")]
    assert len(blocked) == 2
    assert all(mask >> (signal.SIGINT - 1) & 1 for mask in blocked)


def test_an_interrupt_of_the_whole_group_is_told_by_the_run_alone(drawing):
    program, processes = drawing
    os.killpg(program.pid, signal.SIGINT)
    said = program.communicate(timeout=60)[1]
    assert said.count("KeyboardInterrupt") == 1, said  # of this program, which has no cli around it
    assert "Spawn" not in said
    assert all(select.select([process], [], [], 60)[0] for process in processes)
