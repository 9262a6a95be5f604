"""Runs that share the work of permutation tests: what they compute apart is what one run computes."""

import pytest

from tests import builders
from tests.end_to_end import studies

# All 256 flips of eight subjects, in more than one batch.
ENTRY = {"Correction": "permutation", "Permutations": 256, "Levels": ["voxel", "cluster-size"], "Tail": "positive"}
SPEC = builders.make_spec(settings={"Inference": [ENTRY], "Atlases": []})
TIMES = r"^logs/|_report\.html$"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return studies.write_study(tmp_path_factory.mktemp("shards"), studies.draw_maps({"A": 1.0}))


def test_shares_and_a_run_that_joins_them_write_the_bytes_of_one_run(study, tmp_path, capsys):
    alone = studies.run_well(study, tmp_path / "alone", SPEC)
    output, shared = tmp_path / "joined", ["--work-dir", str(tmp_path / "work")]
    spec = study.write_spec(SPEC, "spec.json")
    for number in (2, 1):
        assert studies.run(study, output, spec, *shared, "--shard", f"{number}/2") == 0
        assert not studies.list_files(output)
    kept = studies.list_files(tmp_path / "work")
    assert len(kept) == 2
    assert "share 1 of 2 is done" in capsys.readouterr().err
    assert studies.run(study, output, spec, *shared) == 0
    assert studies.hash_tree(output, but=TIMES) == studies.hash_tree(alone, but=TIMES)
    assert not kept & studies.list_files(tmp_path / "work")
