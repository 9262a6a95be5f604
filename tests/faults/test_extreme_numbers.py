"""Numbers at the edges are right, against closed forms and exact arithmetic, or refused with a reason."""

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

from tests import builders
from tests.end_to_end import studies
from tests.end_to_end.studies import PREFIX, find_result, read_image, read_values

NODE = "node-mean"
HUGE, CONSTANT, INFINITE, MINUS_ZERO, MISSING = ((3, 2, i) for i in range(5))
OBLIQUE = np.array([[-2.1, 0.5, 0.1, 12], [0.4, 2.0, -0.7, -20], [0.2, 0.6, 1.9, -8], [0, 0, 0, 1.0]])
EVERY = [{"Correction": name} for name in ("none", "fdr", "bonferroni")]


def make_document(entries=EVERY, **parts):
    return builders.make_spec(settings={"Inference": entries, "Atlases": []}, Input={"desc": ["A"]}, **parts)


def name_output(contrast, what):
    return f"{PREFIX}contrast-{contrast}_{what}_statmap.nii.gz"


@pytest.fixture
def analyse(runner, tmp_path):
    """Write a study of maps, run a spec that must succeed (or end with a code), return its output or what it said."""

    def run(maps, document, *options, code=0, participants=None, affine=None):
        study = studies.write_study(tmp_path, maps)
        if participants is not None:
            builders.write_participants(study.bids, participants)
        if affine is not None:
            for key, values in maps.items():
                builders.write_map(study.path(*key), values, affine=affine)
        ended = runner.run(tmp_path / "out", *options, bids=study.bids, spec=study.write_spec(document))
        assert ended.code == code, ended.err
        assert "Traceback" not in ended.err
        assert "RuntimeWarning" not in ended.err
        return ended.err if code else tmp_path / "out"

    return run


def integrate_log_tail(t, dof):
    """Return the logarithm of the upper tail of t, by quadrature of the density relative to that at t."""
    top = stats.t.logpdf(t, dof)
    scale = t / dof
    relative, _ = integrate.quad(
        lambda u: np.exp(stats.t.logpdf(t + scale * u, dof) - top), 0, np.inf, epsabs=0, epsrel=1e-10, limit=500
    )
    return top + np.log(scale * relative)


def test_huge_constant_and_missing_values_are_right_or_left_out_and_counted(analyse):
    maps = studies.draw_maps({"A": 1.0}, seed=3)
    for i, values in enumerate(maps.values()):
        values[HUGE], values[CONSTANT] = 1e3 + 1e-2 * i, 7.0
    first = maps["01", "A"]
    first[INFINITE], first[MINUS_ZERO], first[MISSING] = np.inf, -0.0, np.nan
    out = analyse(maps, make_document())
    mask = read_values(out / NODE / f"{PREFIX}contrast-A_desc-analysis_mask.nii.gz") > 0
    assert [bool(mask[voxel]) for voxel in (HUGE, CONSTANT, INFINITE, MINUS_ZERO, MISSING)] == [True] + [False] * 4
    data = np.array([values[HUGE] for values in maps.values()], dtype=np.float64)
    t = data.mean() / (data.std(ddof=1) / np.sqrt(len(data)))
    assert t > 1e5
    assert read_values(out / NODE / name_output("A", "stat-t"))[HUGE] == pytest.approx(t, rel=1e-6)
    log_p = integrate_log_tail(t, len(data) - 1) + np.log(2)
    expected = -(log_p + np.log(mask.sum())) / np.log(10)
    found = read_values(out / NODE / name_output("A", "stat-logp_desc-bonferroni"))
    assert found[HUGE] == pytest.approx(expected, rel=1e-5)
    for path in sorted(out.rglob("*_statmap.nii.gz")):
        assert np.isfinite(read_values(path)).all(), path.name


def test_two_maps_of_one_voxel_on_an_oblique_grid_have_the_p_of_a_cauchy_variable(analyse, tmp_path):
    maps = studies.draw_maps({"A": 3.0}, subjects=studies.SUBJECTS[:2])
    voxel = (2, 3, 1)
    mask = np.zeros(studies.SHAPE, dtype=np.uint8)
    mask[voxel] = 1
    path = builders.write_map(tmp_path / "mask.nii.gz", mask, affine=OBLIQUE)
    entries = [{"Correction": "none", "Alpha": 0.9}, {"Correction": "bonferroni"}]
    out = analyse(maps, make_document(entries), "--mask", path, affine=OBLIQUE)
    low, high = sorted(float(values[voxel]) for values in maps.values())
    t = (high + low) / (high - low)
    written = read_image(out / NODE / name_output("A", "stat-t"))
    np.testing.assert_allclose(written.affine, OBLIQUE, atol=1e-6)
    assert np.asarray(written.dataobj)[voxel] == pytest.approx(t, rel=1e-5)
    p = 1 - 2 * np.arctan(abs(t)) / np.pi
    assert read_values(out / NODE / name_output("A", "stat-p"))[voxel] == pytest.approx(p, rel=1e-5)
    row = find_result(out / NODE, "A", "uncorrected")
    np.testing.assert_allclose(
        row[["peak_x", "peak_y", "peak_z"]].astype(float), (OBLIQUE @ [*voxel, 1])[:3], atol=0.01
    )
    assert find_result(out / NODE, "A", "bonferroni")["n_voxels"] == int(p <= 0.05)


def test_one_subject_is_refused(analyse):
    said = analyse(studies.draw_maps({"A": 1.0}, subjects=["01"]), make_document(), code=65)
    assert "residual degree" in said


def test_the_size_of_weights_scales_the_effect_and_leaves_t(analyse):
    factors = {"Small": 1e-12, "Plain": 1.0, "Large": 1e12}
    contrasts = [
        {"Name": name, "Test": "t", "ConditionList": [1], "Weights": [factor]} for name, factor in factors.items()
    ]
    document = make_document(EVERY[:1], node={"GroupBy": ["contrast"], "Contrasts": contrasts, "DummyContrasts": False})
    if document["Nodes"][0]["DummyContrasts"] is False:
        del document["Nodes"][0]["DummyContrasts"]
    out = analyse(studies.draw_maps({"A": 1.0}), document)
    effects, ts = (
        {name: read_values(out / NODE / name_output(f"A{name}", f"stat-{what}")) for name in factors}
        for what in ("effect", "t")
    )
    for name, factor in factors.items():
        np.testing.assert_allclose(ts[name], ts["Plain"], rtol=1e-6)
        np.testing.assert_allclose(effects[name], factor * effects["Plain"].astype(float), rtol=1e-6)
    assert np.abs(effects["Plain"]).max() > 1


def solve_exactly(columns, data):
    """Return the least-squares coefficients in rational arithmetic."""
    X = [[Fraction(float(value)) for value in row] for row in columns]
    y = [Fraction(float(value)) for value in data]
    n = len(X[0])
    A = [
        [sum(row[i] * row[j] for row in X) for j in range(n)] + [sum(r[i] * v for r, v in zip(X, y, strict=True))]
        for i in range(n)
    ]
    for i in range(n):
        A[i] = [value / A[i][i] for value in A[i]]
        for k in range(n):
            if k != i:
                A[k] = [a - A[k][i] * b for a, b in zip(A[k], A[i], strict=True)]
    return [row[n] for row in A]


@pytest.mark.parametrize(("apart", "code"), [(1e-8, 0), (1e-13, 65)])
def test_nearly_collinear_columns_are_fitted_to_the_digits_they_have_or_refused(analyse, apart, code):
    maps = studies.draw_maps({"A": 1.0})
    rng = np.random.default_rng(4)
    age = np.array(studies.AGES)
    other = age * (1 + apart * rng.standard_normal(len(age)))
    table = pd.DataFrame({"participant_id": [f"sub-{s}" for s in studies.SUBJECTS], "age": age, "other": other})
    slope = {"Name": "slope", "Test": "t", "ConditionList": ["age"], "Weights": [1]}
    document = make_document(
        EVERY[:1], model={"X": [1, "age", "other"]}, node={"GroupBy": ["contrast"], "Contrasts": [slope]}
    )
    done = analyse(maps, document, code=code, participants=table)
    if code:
        assert "age" in done
        assert "not estimable" in done
        return
    written = pd.read_csv(done.parent / "bids" / "participants.tsv", sep="\t")
    X = np.column_stack([np.ones(len(age)), written["age"], written["other"]])
    voxel = (2, 2, 1)
    data = [maps[subject, "A"][voxel] for subject in studies.SUBJECTS]
    expected = float(solve_exactly(X, data)[1])
    found = read_values(done / NODE / name_output("Aslope", "stat-effect"))[voxel]
    assert found == pytest.approx(expected, rel=1e-6)


def test_a_t_of_many_like_maps_is_their_mean_over_its_error_and_keeps_its_p(analyse):
    shape = (2, 3, 2)
    rng = np.random.default_rng(5)
    subjects = [f"{i:04d}" for i in range(1, 201)]
    maps = {(subject, "A"): rng.standard_normal(shape).astype(np.float32) + np.float32(60) for subject in subjects}
    out = analyse(maps, make_document())
    data = np.stack(list(maps.values())).astype(np.float64)
    t = data.mean(axis=0) / (data.std(axis=0, ddof=1) / np.sqrt(len(data)))
    np.testing.assert_allclose(read_values(out / NODE / name_output("A", "stat-t")), t, rtol=1e-5)
    log_p = integrate_log_tail(t[0, 0, 0], len(data) - 1)
    assert log_p < np.log(np.finfo(float).tiny)  # a double holds no such p
    z = read_values(out / NODE / name_output("A", "stat-z"))[0, 0, 0]
    assert stats.norm.logsf(z) == pytest.approx(log_p, rel=1e-5)
