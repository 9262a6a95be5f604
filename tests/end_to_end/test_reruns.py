"""What stands in OUTPUT_DIR is recognised: reports made anew, files verified, nothing computed twice."""

import fcntl
import json
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bids_group.cli import main
from bids_group.errors import DataError
from bids_group.inputs.input_files import InputFile, hash_inputs
from bids_group.inputs.study import InputOptions
from bids_group.outputs.provenance import LogLines
from bids_group.outputs.verification import find_difference
from bids_group.workflow import Options, run
from tests import builders
from tests.end_to_end import studies
from tests.end_to_end.studies import read_values

PROJECT = Path(__file__).parents[2]
SETTINGS = {"Inference": [{"Correction": "none"}], "Atlases": []}
RECORD = "logs/model-study_provenance.json"
REPORT = "model-study_report.html"
DIFFERS_BETWEEN_RUNS = {RECORD, REPORT}
MAP = f"bids:firstlevel:{studies.name_map('02', 'A')}"
IDENTITY = (
    *("Model", "Version", "SourceSHA256", "Python", "Machine", "Packages", "Container", "BidsDir", "Datasets"),
    *("SpecSHA256", "Options", "Seeds", "ExcludedSHA256", "Warnings", "Inputs"),
)


def make_spec(name="study", node="mean"):
    document = builders.make_spec(settings=SETTINGS, Input={"desc": ["A"]}, Name=name)
    document["Nodes"][0]["Name"] = node
    return document


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two models in one folder; tests copy it before they change it."""
    root = tmp_path_factory.mktemp("reruns")
    study = studies.write_study(root, studies.draw_maps({"A": 3.0}, subjects=studies.SUBJECTS[:5]))
    output = studies.run_well(study, root / "out", make_spec())
    assert studies.run(study, output, study.write_spec(make_spec("second", "other"), "second.json")) == 0
    return study, output


@pytest.fixture
def copied(finished, tmp_path):
    study, output = finished
    shutil.copytree(study.bids, tmp_path / "bids")
    return studies.Study(tmp_path, study.maps), Path(shutil.copytree(output, tmp_path / "out"))


def read_record(output):
    return json.loads((output / RECORD).read_text())


def verify(bids, output, *options):
    return main([str(bids), str(output), "group", "--verify", *options])


# The report alone


def test_rebuilt_reports_are_byte_equal_to_the_first_and_no_input_is_read(copied, capsys):
    _, output = copied
    before = studies.hash_tree(output)
    removed = [*output.glob("*_report.html"), *output.glob("logs/*_methods.*")]
    assert len(removed) == 8
    for path in removed:
        path.unlink()
    assert main(["/nowhere", str(output), "group", "--reports-only"]) == 0
    assert studies.hash_tree(output) == before
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.split() == [str(output / f"model-{name}_report.html") for name in ("second", "study")]


def test_model_chooses_the_one_report_that_is_rebuilt(copied):
    study, output = copied
    for path in output.glob("*_report.html"):
        path.unlink()
    spec = study.write_spec(make_spec())
    assert main(["/nowhere", str(output), "group", "--reports-only", "--model", str(spec)]) == 0
    assert [path.name for path in output.glob("*_report.html")] == [REPORT]


def test_reports_of_nothing_are_refused_and_leave_no_folder(copied, tmp_path, capsys):
    study, output = copied
    assert main([str(study.bids), str(tmp_path / "new"), "group", "--reports-only"]) == 66
    assert "run the analysis first" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    spec = study.write_spec(make_spec("third"))
    assert main([str(study.bids), str(output), "group", "--reports-only", "-m", str(spec)]) == 66
    assert "'third'" in capsys.readouterr().err


def test_damaged_record_or_a_running_analysis_stops_the_report(copied, capsys):
    _, output = copied
    (output / ".staging").mkdir()
    lock = os.open(output / ".staging", os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert main(["/nowhere", str(output), "group", "--reports-only"]) == 73
    os.close(lock)
    (output / RECORD).write_text('{"Model": "study"}')
    before = studies.hash_tree(output)
    assert main(["/nowhere", str(output), "group", "--reports-only"]) == 65
    assert f"{RECORD}: the record has no BidsDir" in capsys.readouterr().err
    assert studies.hash_tree(output) == before


def test_report_of_a_changed_table_says_so_and_the_table_stays_changed_for_verify(copied, capsys):
    study, output = copied
    table = output / "node-mean" / "inputs.tsv"
    table.write_text(table.read_text().replace("n/a", "none"))
    assert main(["/nowhere", str(output), "group", "--reports-only"]) == 0
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert "bids::node-mean/inputs.tsv has changed since the run" in warning
    assert verify(study.bids, output) == 65
    said = capsys.readouterr()
    assert [line.split()[2] for line in said.out.splitlines() if line.startswith("changed")] == [
        "bids::node-mean/inputs.tsv"
    ]


# Provenance


def test_hashes_of_the_record_are_those_of_sha256sum_and_every_output_has_one(finished):
    study, output = finished
    record = read_record(output)
    paths = {line["URI"]: line["SHA256"] for line in record["Outputs"]}
    lines = [f"{sha}  {output / uri.removeprefix('bids::')}" for uri, sha in paths.items() if "dataset_" not in uri]
    inputs = {line["URI"]: line for line in record["Inputs"]}
    lines += [
        f"{line['SHA256']}  {study.firstlevel / uri.split(':', 2)[2]}"
        for uri, line in inputs.items()
        if uri.startswith("bids:")
    ]
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet"], input="\n".join(lines), text=True, check=True)
    standing = {name for name in studies.list_files(output) if not re.search("second|node-other", name)}
    assert {uri.removeprefix("bids::") for uri in paths} == standing - {RECORD}
    assert sorted({line["Kind"] for line in record["Inputs"]}) == ["map", "spec", "table"]
    assert {uri for uri, line in inputs.items() if line["Kind"] == "map"} == {
        f"bids:firstlevel:{studies.name_map(s, 'A')}" for s in studies.SUBJECTS[:5]
    }
    assert inputs[(study.bids / "participants.tsv").as_uri()]["Kind"] == "table"


class Meddler(logging.Handler):
    """Rewrites a map as soon as the run says that it reads the maps."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def emit(self, record):
        if "reading maps" in record.getMessage():
            builders.write_map(self.path, np.ones(studies.SHAPE, dtype=np.float32))


def test_map_that_is_rewritten_during_the_run_ends_it_with_nothing_written(copied, tmp_path):
    study, _ = copied
    path = study.path("02", "A")
    logger, meddler = logging.getLogger("bids_group"), Meddler(path)
    logger.setLevel(logging.INFO)
    logger.addHandler(meddler)
    options = Options(InputOptions(study.bids, study.write_spec(make_spec())), tmp_path / "new")
    try:
        with pytest.raises(DataError, match=r"sub-02_.*_effect\.nii\.gz: it changed while the run"):
            run(options, LogLines())
    finally:
        logger.removeHandler(meddler)
    assert not (tmp_path / "new").exists()


# Verification


def test_verify_agrees_of_all_models_and_writes_nothing(copied, finished, capsys):
    study, output = copied
    for path in (output, *(path for path in output.rglob("*") if path.is_dir())):
        path.chmod(0o555)
    folders = {path: path.stat().st_mtime_ns for path in (output, *output.rglob("*"))}
    try:
        assert verify(study.bids, output) == 0  # BIDS_DIR is another than at the run
    finally:
        for path in (output, *(path for path in output.rglob("*") if path.is_dir())):
            path.chmod(0o755)
    assert {path: path.stat().st_mtime_ns for path in (output, *output.rglob("*"))} == folders
    said = capsys.readouterr().out
    assert f"agrees   map     {MAP}\n" in said
    assert "inputs of study: 7 agree, 0 changed, 0 missing, 0 unknown\n" in said
    n_outputs = len(studies.list_files(output)) - 2  # but for the two records themselves
    assert f"outputs: {n_outputs} agree, 0 changed, 0 missing, 0 unknown\n" in said


def test_verify_names_what_changed_what_is_missing_and_what_nobody_wrote(copied, capsys):
    study, output = copied
    content = bytearray(study.path("02", "A").read_bytes())
    content[-1] ^= 1
    study.path("02", "A").write_bytes(content)
    (output / "node-mean" / "results.tsv").unlink()
    (output / "node-mean" / "extra.nii.gz").touch()
    spec = study.write_spec(make_spec())
    assert verify(study.bids, output, "--model", str(spec)) == 65
    said = capsys.readouterr()
    odd = {tuple(line.split()) for line in said.out.splitlines() if line[:7] in ("changed", "missing", "unknown")}
    assert odd == {
        ("changed", "map", MAP),
        ("missing", "output", "bids::node-mean/results.tsv"),
        ("unknown", "output", "bids::node-mean/extra.nii.gz"),
    }
    assert "changed files: 1, missing: 1" in said.err


def test_verify_follows_a_dataset_that_was_renamed_if_told_its_name(copied, tmp_path, capsys):
    study, output = copied
    study.firstlevel.rename(tmp_path / "moved")
    assert verify(study.bids, output, "-d", f"firstlevel={tmp_path / 'moved'}") == 0
    assert verify(study.bids, output, "-d", str(tmp_path / "moved")) == 65
    assert f"missing  map     {MAP}" in capsys.readouterr().out


def test_verify_of_nothing_ends_with_66(copied, tmp_path):
    assert verify(copied[0].bids, tmp_path / "new") == 66


# What is done is not done again


def test_second_run_does_nothing_and_says_so_and_force_does_it(finished, capsys):
    study, output = finished
    stamps = {path: path.stat().st_mtime_ns for path in (output, *output.rglob("*"))}
    assert studies.run(study, output, study.root / "out.json", "--nprocs", "1") == 0
    said = capsys.readouterr()
    assert "already done and unchanged: study" in said.err
    assert said.out == f"{output / REPORT}\n"
    assert {path: path.stat().st_mtime_ns for path in (output, *output.rglob("*"))} == stamps


def test_map_of_another_content_with_the_same_size_and_time_is_another_input(copied):
    study, output = copied
    path = study.path("02", "A")
    record = read_record(output)
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    files = [InputFile(path, MAP, "map")]
    checksum = hash_inputs(files)[files[0]]
    (line,) = [line for line in record["Inputs"] if line["URI"] == MAP]
    assert (checksum.n_bytes, path.stat().st_mtime_ns) == (line["Bytes"], before.st_mtime_ns)
    assert checksum.sha256 != line["SHA256"]


def _change(key):
    def change(output, identity):
        identity[key] = {"other": "value"}

    return change


def _edit_output(output, identity):
    (output / "node-mean" / "results.tsv").write_text("")


def _remove_output(output, identity):
    (output / REPORT).unlink()


def _add_output(output, identity):
    (output / "node-mean" / "figures" / "extra.png").touch()


def _damage_record(output, identity):
    (output / RECORD).write_text("{")


def _remove_record(output, identity):
    (output / RECORD).unlink()


def _change_input(output, identity):
    identity["Inputs"] = [*identity["Inputs"][:-1], {**identity["Inputs"][-1], "SHA256": "0" * 64}]


CHANGES = [
    *((key, _change(key)) for key in IDENTITY if key not in ("Model", "Inputs")),
    ("results.tsv is changed", _edit_output),
    ("report.html is missing", _remove_output),
    ("extra.png is unknown", _add_output),
    ("not valid JSON", _damage_record),
    ("no results of this app of the model", _remove_record),
    ("Inputs differ from the record: file:.*participants.tsv", _change_input),
]


@pytest.mark.parametrize(("words", "change"), CHANGES, ids=[words for words, _ in CHANGES])
def test_any_doubt_is_a_reason_to_compute(copied, words, change):
    _, output = copied
    identity = {key: read_record(output)[key] for key in IDENTITY}
    assert find_difference(output, identity) is None
    change(output, identity)
    assert re.search(words, find_difference(output, identity) or "")


# The same inputs, the same bytes


PERMUTATION = {"Correction": "permutation", "Permutations": 40, "Levels": ["voxel", "cluster-mass"], "Seed": 3}


def test_workers_folders_and_work_directories_change_the_command_and_the_times_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    study = studies.write_study(tmp_path, studies.draw_maps({"A": 3.0}))
    spec = study.write_spec(builders.make_spec(settings={"Inference": [PERMUTATION], "Atlases": []}))
    options = {"one": ("--nprocs", "1"), "two": ("--nprocs", "2", "-w", str(tmp_path / "work"), "--mem-gb", "1e-6")}
    pages = {}
    for name, own in options.items():
        assert studies.run(study, tmp_path / name, spec, *own) == 0
        command = ["bids_group", str(study.bids), str(tmp_path / name), "group", "--model", str(spec), *own]
        pages[name] = (tmp_path / name / REPORT).read_text().replace(shlex.join(command), "COMMAND")
    one, two = (studies.hash_tree(tmp_path / name) for name in options)
    assert {name for name in one | two if one.get(name) != two.get(name)} == DIFFERS_BETWEEN_RUNS
    assert pages["one"] == pages["two"]
    records = [read_record(tmp_path / name) for name in options]
    assert records[0]["Date"] == "2023-11-14T22:13:20+00:00"
    differing = {key for key in records[0] if records[0][key] != records[1][key]}
    assert differing <= {"Command", "stages", "peak_memory_mb", "Outputs"}
    outputs = [{line["URI"]: line["SHA256"] for line in record["Outputs"]} for record in records]
    assert {uri for uri in outputs[0] if outputs[0][uri] != outputs[1][uri]} == {f"bids::{REPORT}"}


CORES = {"Prescott": "SSE3", "Sandybridge": "AVX", "Haswell": "AVX2", "SkylakeX": "AVX512_SKX"}
FLOAT32_STEPS = 4  # of a map's largest value: sums in float64 whose order differs, written as float32
# A run but for its figures, which take longer than all the rest.
ANALYSE = """
import shutil, sys
from pathlib import Path
from threadpoolctl import threadpool_info, threadpool_limits
from bids_group.analysis.fitting import fit_model
from bids_group.analysis.model import assemble_result, infer_contrasts, load_maps
from bids_group.analysis.permuting import Resources
from bids_group.checkpoints import Checkpoints
from bids_group.inputs.storage import open_storage
from bids_group.inputs.study import InputOptions, prepare_study
from bids_group.outputs.derivatives import write_model
from bids_group.outputs.staging import Staging
from bids_group.progress import show_progress
bids, spec, folder = map(Path, sys.argv[1:])
study = prepare_study(InputOptions(bids, spec), folder)
node = study.nodes[0]
(plan,), (grid,) = node.plan.models, node.grids
staging = Staging(folder)
with open_storage(folder, None) as allocate, threadpool_limits(1):
    resources = Resources(2, allocate, Checkpoints(folder), show_progress)
    data = load_maps(node.plan, plan, grid, (), allocate=allocate, n_threads=2, report_progress=lambda: None)
    fitted = fit_model(node.plan, plan, data)
    contrasts = infer_contrasts(node.plan, plan, fitted, data, resources)
    write_model(staging, assemble_result(node.plan, plan, fitted, data, contrasts, masks=(), datasets=study.datasets))
(maps,) = staging.root.glob("node-*")
shutil.copytree(maps, folder, dirs_exist_ok=True)
cores = sorted({one["architecture"] for one in threadpool_info() if one["internal_api"] == "openblas"})
(folder / "core").write_text(" ".join(cores))
"""


def list_cores():
    """Return the kernels of OpenBLAS that this processor can run: the plainest and the best."""
    from numpy._core._multiarray_umath import __cpu_features__ as features

    able = [core for core, feature in CORES.items() if features.get(feature)]
    return list(dict.fromkeys((able[0], able[-1]))) if able else []


@pytest.mark.skipif(len(list_cores()) < 2, reason="needs two kernels of OpenBLAS to compare")
def test_kernels_of_the_linear_algebra_change_maps_by_rounding_and_no_permutation_p(tmp_path):
    study = studies.write_study(tmp_path, studies.draw_maps({"A": 3.0, "B": 0.0, "C": 1.0}))
    inference = [{"Correction": "none"}, {**PERMUTATION, "Levels": ["voxel"]}]
    document = builders.make_spec("anova", settings={"Inference": inference, "ErrorTerm": "partitioned", "Atlases": []})
    spec = study.write_spec(document)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ANALYSE, study.bids, spec, tmp_path / core],
            env={**os.environ, "OPENBLAS_CORETYPE": core},
            cwd=PROJECT,
        )
        for core in list_cores()
    ]
    assert [process.wait() for process in processes] == [0, 0]
    one, two = (tmp_path / core for core in list_cores())
    assert (one / "core").read_text() != (two / "core").read_text()
    names = sorted(path.name for path in one.glob("*.nii.gz"))
    assert len(names) > 20
    for name in names:
        values, others = read_values(one / name), read_values(two / name)
        is_exact = re.search(r"stat-logp_desc-(voxelFWE|permUncorrected)|_dseg|_mask", name)
        rounding = FLOAT32_STEPS * np.finfo(np.float32).eps * np.abs(values).max()
        np.testing.assert_allclose(others, values, rtol=0, atol=0 if is_exact else rounding, err_msg=name)
