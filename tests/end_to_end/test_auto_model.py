"""``--model auto`` through the command line: a first result without a spec, and specs to go on from."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bids_group.cli import main
from bids_group.inputs.spec import read_spec
from tests import builders
from tests.bids_validator import find_bids_errors
from tests.end_to_end import studies
from tests.end_to_end.studies import PREFIX, read_values

KINDS = ("two-sample", "regression", "paired", "repeated-measures")
TEMPLATES = {f"templates/{kind}_smdl.json" for kind in KINDS}
RUN_TO_RUN = r"^logs/|_report\.html$"  # they say when, how long and with what command


def run(study, output, *options, model="auto"):
    return main([str(study.bids), str(output), "group", "--model", str(model), *options])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Three contrasts of eight subjects in two groups with ages, analysed with ``--model auto``."""
    root = tmp_path_factory.mktemp("auto")
    study = studies.write_study(root, studies.draw_maps({"A": 2.0, "B": 0.5, "C": 0.0}))
    assert run(study, root / "out") == 0
    return study, root / "out"


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_mean_of_each_contrast_is_tested(finished):
    study, output = finished
    assert {path.name for path in output.glob("node-*")} == {"node-onesample"}
    inside = studies.find_analysed(study.maps)
    for contrast in "ABC":
        effect = read_values(output / f"node-onesample/{PREFIX}contrast-{contrast}_stat-effect_statmap.nii.gz")
        np.testing.assert_allclose(effect[inside], study.stack(contrast).mean(axis=0)[inside], rtol=1e-6, atol=1e-7)


def test_spec_and_templates_stand_in_the_output_and_explain_themselves(finished):
    _, output = finished
    assert {name for name in studies.list_files(output) if name.endswith("_smdl.json")} == {
        "model-auto_smdl.json",
        *TEMPLATES,
    }
    for name in ("model-auto_smdl.json", *TEMPLATES):
        assert read_spec(output / name).description == read_json(output / name)["Description"]
    assert "/templates" in (output / ".bidsignore").read_text().split()


@pytest.mark.parametrize("kind", KINDS)
def test_every_template_passes_a_dry_run_on_its_data(finished, kind, capsys):
    study, output = finished
    assert run(study, output, "--dry-run", model=output / f"templates/{kind}_smdl.json") == 0
    said = capsys.readouterr()
    assert f"Node {kind.replace('-', '')}" in said.out
    assert "Warning: the maps" not in said.out


def test_paired_template_run_beside_auto_gives_the_paired_t(finished, tmp_path):
    study, output = finished
    copied = Path(shutil.copytree(output, tmp_path / "out"))
    template = copied / "templates/paired_smdl.json"
    assert run(study, copied, "--participant-label", *studies.SUBJECTS[:5], model=template) == 0
    assert {path.name for path in copied.glob("node-*")} == {"node-onesample", "node-paired"}
    assert studies.hash_tree(copied / "templates") == studies.hash_tree(output / "templates")
    assert "/templates" in (copied / ".bidsignore").read_text().split()
    t = read_values(copied / f"node-paired/{PREFIX}contrast-AMinusB_stat-t_statmap.nii.gz")
    inside = t != 0
    assert inside.sum() > 100
    expected = stats.ttest_rel(study.stack("A")[:5, inside], study.stack("B")[:5, inside]).statistic
    np.testing.assert_allclose(t[inside], expected, rtol=1e-5, atol=1e-6)


def test_second_run_gives_the_same_bytes(finished):
    study, output = finished
    before = studies.hash_tree(output, but=RUN_TO_RUN)
    assert set(before) > TEMPLATES
    assert run(study, output) == 0
    assert studies.hash_tree(output, but=RUN_TO_RUN) == before


def test_dry_run_shows_the_plan_and_the_spec_and_writes_nothing(finished, tmp_path, capsys):
    study, output = finished
    stood = studies.list_files(study.root)
    assert run(study, tmp_path / "new", "--dry-run") == 0
    said = capsys.readouterr().out
    assert "Node onesample" in said
    assert (output / "model-auto_smdl.json").read_text(encoding="utf-8") in said
    assert all(name in said for name in TEMPLATES)
    assert not (tmp_path / "new").exists()
    assert studies.list_files(study.root) == stood


def test_output_with_templates_is_a_valid_dataset(finished):
    _, output = finished
    assert find_bids_errors(output) == []


def test_two_spaces_end_with_65_and_the_filter_file_decides(tmp_path, capsys):
    maps = builders.make_maps(studies.SUBJECTS[:3], ("A",), shape=(3, 3, 2))
    both = {name.replace("_desc", f"_space-{s}_desc"): values for name, values in maps.items() for s in ("T1w", "S2")}
    study = studies.Study(tmp_path, {})
    builders.write_derivative(study.bids / "derivatives", both)
    table = pd.DataFrame({"participant_id": [f"sub-{s}" for s in studies.SUBJECTS[:3]]})
    builders.write_participants(study.bids, table)
    (study.bids / "dataset_description.json").write_text(json.dumps({"Name": "raw", "BIDSVersion": "1.10.0"}))
    assert run(study, tmp_path / "out") == 65
    said = capsys.readouterr().err
    assert "they differ in space" in said
    assert "--bids-filter-file" in said
    assert not (tmp_path / "out").exists()
    (tmp_path / "filter.json").write_text('{"space": "T1w"}')
    assert run(study, tmp_path / "out", "--bids-filter-file", str(tmp_path / "filter.json"), "--dry-run") == 0
