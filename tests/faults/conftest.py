import json

import pytest

from tests.end_to_end import studies
from tests.faults.runs import TIMES, Runner, write_study


@pytest.fixture(scope="session")
def runner(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    runner = Runner(write_study(folder / "study"), folder)
    yield runner
    runner.close()


@pytest.fixture(scope="session")
def undisturbed(runner):
    """What a run leaves that nothing happens to, how often it changes the disk, and how long its processor works."""
    counts = runner.folder / "counts.json"
    # Into another folder than the one of the warming run: what stands there would have to be moved away.
    ended = runner.run(runner.folder / "counted", counts=str(counts))
    assert ended.code == 0, ended.err
    return studies.hash_tree(runner.folder / "counted", but=TIMES), json.loads(counts.read_text())
