"""Comparisons with programs of this environment, which are asked anew: statsmodels, SciPy, NumPy, itertools."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm  # type: ignore[import-untyped]
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.anova import AnovaRM  # type: ignore[import-untyped]
from statsmodels.stats.multitest import multipletests  # type: ignore[import-untyped]
from statsmodels.stats.oneway import anova_oneway  # type: ignore[import-untyped]

from bids_group.stats.correct import infer
from bids_group.stats.glm import compute_f, compute_p, compute_t, fit_glm
from bids_group.stats.inference import Inference
from bids_group.stats.partitioned import compute_partitioned
from bids_group.stats.permutation.batch import prepare
from bids_group.stats.permutation.design import PermutationTest
from bids_group.stats.permutation.engine import run_permutations
from bids_group.stats.permutation.exchangeability import exchange_freely
from bids_group.stats.unequal_variances import compute_g, compute_v, fit_welch
from tests import oracles_data as data
from tests import permutation_designs as designs
from tests import permutation_oracle
from validation.comparison import MIXED, UNEQUAL, Pair, Row, compare, name_live

N_DESIGNS = 60
N_DRAWS = 20
N_REARRANGEMENTS = 100  # more than a batch of the engine
ALPHA = 0.05
DIFFERENCE = np.array([[1.0, -1.0]])
STATSMODELS, SCIPY = name_live("statsmodels"), name_live("SciPy")


def check_linear_model() -> list[Row]:
    """Compare t, F and p of random designs with ordinary least squares."""
    t_pairs, f_pairs, p_pairs = [], [], []
    for seed in range(N_DESIGNS):
        values, matrix, contrasts = data.make_model(seed, n_dependent=seed % 4)
        fit = fit_glm(values, matrix, contrasts)
        t, F = compute_t(fit, 0), compute_f(fit, 1)
        for voxel, (t_oracle, f_oracle) in enumerate(ask_least_squares(values, matrix, contrasts)):
            t_pairs += [(t.value[voxel], t_oracle.tvalue.item()), (np.asarray(t.effect)[voxel], t_oracle.effect.item())]
            f_pairs += [(F.value[voxel], f_oracle.fvalue)]
            p_pairs += [(compute_p(t)[voxel], t_oracle.pvalue.item()), (compute_p(F)[voxel], f_oracle.pvalue)]
    oracle, cases = f"{STATSMODELS} (OLS)", f"{N_DESIGNS} designs"
    return [
        compare("t and effect, designs of full rank and not", oracle, cases, t_pairs, 1e-11, MIXED),
        compare("F of three rows", oracle, cases, f_pairs, 1e-11),
        compare("two-sided p of t, p of F", oracle, cases, p_pairs, 1e-10),
    ]


def ask_least_squares(values: NDArray[Any], matrix: NDArray[Any], contrasts: list[NDArray[Any]]) -> Iterator[Any]:
    """Yield statsmodels' t test and F test of each voxel."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The design matrix is rank-deficient")
        fits = [sm.OLS(voxel, matrix).fit() for voxel in values.T]
    for fit in fits:
        yield fit.t_test(contrasts[0]), fit.f_test(contrasts[1])


def check_t_tests() -> list[Row]:
    """Compare the t of one sample, of two, and of pairs."""
    pairs: list[Pair] = []
    everyone, groups = np.ones((9, 1)), np.repeat(np.eye(2), [4, 5], axis=0)
    change = np.array([[1.0], [-1.0], [0.0], [0.0]])
    for seed in range(N_DRAWS):
        cells = data.make_cells(seed)
        first, second = cells[:, 0], cells[:, 1]
        found = (
            compute_t(fit_glm(first, everyone, [np.ones((1, 1))]), 0),
            compute_t(fit_glm(first, groups, [DIFFERENCE]), 0),
            compute_partitioned(data.fit_cells(cells, change, everyone / 9, everyone), "t"),
        )
        asked = stats.ttest_1samp(first, 0.0), stats.ttest_ind(first[:4], first[4:]), stats.ttest_rel(first, second)
        for t, oracle in zip(found, asked, strict=True):
            pairs += [(t.value, oracle.statistic), (compute_p(t), oracle.pvalue)]
    what, cases = "t and p of one sample, two samples, pairs", f"{3 * N_DRAWS} tests"
    return [compare(what, SCIPY, cases, pairs, 1e-11, MIXED)]


def check_unequal_variances() -> list[Row]:
    """Compare Welch's t and Welch's analysis of variance."""
    t_pairs, f_pairs = [], []
    for seed in range(N_DRAWS):
        values, matrix, groups = data.make_groups(seed, (5, 12), (1.0, 4.0))
        v = compute_v(fit_welch(values, matrix, [DIFFERENCE], groups), 0)
        t = stats.ttest_ind(values[groups == 0], values[groups == 1], equal_var=False)
        t_pairs += [(v.value, t.statistic), (v.dof, t.df), (compute_p(v), t.pvalue)]
        values, matrix, groups = data.make_groups(seed)
        G = compute_g(fit_welch(values, matrix, [np.diff(np.eye(3), axis=0)], groups), 0)
        asked = [anova_oneway([voxel[groups == one] for one in range(3)], use_var="unequal") for voxel in values.T]
        f_pairs += [(G.value, [one.statistic for one in asked]), (G.dof, [one.df_denom for one in asked])]
    cases = f"{N_DRAWS} draws"
    return [
        compare("Welch's t, its degrees of freedom and p", SCIPY, cases, t_pairs, 1e-10),
        compare("Welch's analysis of variance and its degrees of freedom", STATSMODELS, cases, f_pairs, 1e-10),
    ]


def check_repeated_measures() -> list[Row]:
    """Compare the three F of two factors within subjects."""
    everyone, pairs = np.ones((9, 1)), []
    factors = (data.DIFFERENCES, data.MEAN), (data.MEAN, data.DIFFERENCES), (data.DIFFERENCES, data.DIFFERENCES)
    subject, A, B = np.indices((9, 3, 3)).reshape(3, -1)
    for seed in range(N_DRAWS):
        cells = data.make_cells(seed, n_cells=9, n_voxels=1)
        table = pd.DataFrame({"y": cells.ravel(), "subject": subject, "A": A, "B": B})
        asked = AnovaRM(table, "y", "subject", within=["A", "B"]).fit().anova_table.to_numpy()
        for within, row in zip(factors, asked, strict=True):
            fit = data.fit_cells(cells, np.kron(*within), everyone, everyone)
            F = compute_partitioned(fit, "F", sphericity="none")
            pairs.append(([F.value.item(), F.dof_effect, F.dof, compute_p(F).item()], row))
    oracle, cases = f"{STATSMODELS} (AnovaRM)", f"{3 * N_DRAWS} effects"
    return [compare("F, degrees of freedom and p of 3 x 3 conditions", oracle, cases, pairs, 1e-9)]


def infer_all(seed: int) -> Iterator[tuple[Inference, Any]]:
    """Yield FDR and Bonferroni inference of a t in each tail and of an F, with what statsmodels says of their p."""
    cases: list[Any] = [*((data.make_t(seed), tail) for tail in data.TAILS), (data.make_f(seed), None)]
    for statistic, tail in cases:
        for correction, method in (("bonferroni", "bonferroni"), ("fdr", "fdr_bh")):
            asked = multipletests(data.compute_plain_p(statistic, tail), ALPHA, method)
            yield infer(statistic, data.CUBE, correction=correction, alpha=ALPHA, tail=tail), asked


def check_corrections() -> list[Row]:
    """Compare adjusted p and survivors."""
    both = [one for seed in range(N_DRAWS) for one in infer_all(seed)]
    p_pairs = [(10**-found.logp, asked[1]) for found, asked in both]
    survivors = [(found.survives, asked[0]) for found, asked in both]
    oracle, cases = f"{STATSMODELS} (multipletests)", f"{len(both)} maps"
    return [
        compare("Bonferroni and FDR adjusted p, all tails and F", oracle, cases, p_pairs, 1e-10),
        compare("which voxels survive Bonferroni and FDR", oracle, cases, survivors, 0, UNEQUAL),
    ]


def enumerate_p(test: PermutationTest, statistics: list[Any]) -> list[Pair]:
    """Pair p with the share of all rearrangements, the observed one first, that reach the observed one."""
    magnitudes, found = np.abs(np.array(statistics)), run_permutations(prepare(test))
    reached = permutation_oracle.count_reached(magnitudes, magnitudes[0])
    familywise = permutation_oracle.count_reached(magnitudes.max(axis=1)[:, np.newaxis], magnitudes[0])
    return [(found.uncorrected_p, reached), (found.p["voxel"], familywise)]


def check_enumeration() -> list[Row]:
    """Compare the p of small tests with the enumeration of all flips, or of all ways to divide the maps."""
    ones, groups, levels = np.ones((8, 1)), designs.GROUPS[3:9], ("voxel",)
    one = designs.make_test(ones, [1], exchange_freely(8, "flips"), n_asked=256, levels=levels, shift=0.5)
    free = exchange_freely(6, "permutations")
    two = designs.make_test(groups, [1, -1], free, levels=levels, shift=groups[:, :1])
    flips = designs.flip_all(one.data[0].astype(np.float64))
    divisions = designs.divide_all(two.data[0].astype(np.float64), 3)
    what, oracle = "permutation p, voxel by voxel and familywise", f"itertools, {SCIPY}"
    cases = f"one sample, all {len(flips)} flips", f"two samples, all {len(divisions)} divisions"
    return [
        compare(what, oracle, cases[0], enumerate_p(one, flips), 0, UNEQUAL),
        compare(what, oracle, cases[1], enumerate_p(two, divisions), 0, UNEQUAL),
    ]


def check_refitting() -> list[Row]:
    """Compare null distributions, observed values and p at all levels with refitting every rearrangement."""
    values, p_pairs = [], []
    tests: dict[str, Any] = designs.CASES
    for matrix, weights, exchangeability, options in tests.values():
        test = designs.make_test(matrix, weights, exchangeability, n_asked=N_REARRANGEMENTS, **options)
        null, observed, p, uncorrected_p = permutation_oracle.run(test)
        found = run_permutations(prepare(test))
        for level in found.null:
            values += [(found.null[level], null[level]), (found.observed[level], observed[level])]
            p_pairs.append((found.p[level], p[level]))
        p_pairs.append((found.uncorrected_p, uncorrected_p))
    oracle = f"every rearrangement refitted by {name_live('NumPy')}, clusters by {SCIPY}"
    cases = f"{len(tests)} designs"
    return [
        compare("voxel, cluster and TFCE values and null distributions", oracle, cases, values, 2e-5, MIXED),
        compare("their permutation p, corrected and uncorrected", oracle, cases, p_pairs, 0, UNEQUAL),
    ]
