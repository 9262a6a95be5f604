"""What tests and the table of oracles share: pinned numbers of other programs, and data to compare with live ones.

The pinned numbers are in tests/reference; the script beside each file says how they were made.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import linalg, stats

from bids_group.stats.euler_characteristics import Field
from bids_group.stats.glm import Statistic, fit_glm
from bids_group.stats.meta_analysis import fit_meta
from bids_group.stats.partitioned import fit_partitioned
from bids_group.stats.smoothness import Smoothness


@cache
def load_reference(name: str) -> Any:
    """Load what another program said."""
    return json.loads(Path(__file__).with_name("reference").joinpath(f"{name}.json").read_text(encoding="utf-8"))


# The linear model


def make_model(seed, n_dependent=0, n_rows=18, n_free=4, n_voxels=7):
    """A random design with dependent columns, data with signal, and estimable t and F contrasts."""
    rng = np.random.default_rng(seed)
    free = np.column_stack([np.ones(n_rows), rng.normal(size=(n_rows, n_free - 1))])
    matrix = np.hstack([free, free @ rng.integers(-2, 3, size=(n_free, n_dependent))])
    data = free @ rng.normal(size=(n_free, n_voxels)) + rng.normal(size=(n_rows, n_voxels))
    rows = rng.normal(size=(3, n_rows)) @ matrix
    return data, matrix, [rows[:1], rows]


def make_groups(seed, sizes=(6, 9, 14), spreads=(1.0, 3.0, 0.4), n_voxels=5):
    """Cell means of groups that differ in size and variance."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    matrix = (groups[:, None] == np.arange(len(sizes))).astype(float)
    data = rng.normal(size=(len(groups), n_voxels)) * np.array(spreads)[groups, None] + rng.normal(size=n_voxels)
    return data, matrix, groups


# Partitioned error terms

DATA = {name: np.array(values) for name, values in load_reference("partitioned")["data"].items()}
MEAN = np.full((3, 1), 1 / 3)
DIFFERENCES = np.array([[1.0, 1], [-1, 0], [0, -1]])
# Within directions, data and between-subject parts of the analyses that the other programs made.
GROUPS = np.column_stack([DATA["group"] == 0, DATA["group"] == 1]).astype(float)
GROUP_DIFFERENCE = GROUPS @ [[1 / 7], [-1 / 9]]
WITH_AGE = np.hstack([np.ones((14, 1)), DATA["age"]])
ONES = {n: np.ones((n, 1)) for n in (11, 12, 14, 16)}
ANALYSES = {
    "oneway": ("oneway", linalg.helmert(4).T, ONES[11], ONES[11]),
    "factorial_A": ("factorial", np.kron(DIFFERENCES, MEAN), ONES[12], ONES[12]),
    "factorial_B": ("factorial", np.kron(MEAN, DIFFERENCES), ONES[12], ONES[12]),
    "factorial_AB": ("factorial", np.kron(DIFFERENCES, DIFFERENCES), ONES[12], ONES[12]),
    "mixed_group": ("mixed", MEAN, GROUP_DIFFERENCE, GROUPS),
    "mixed_condition": ("mixed", DIFFERENCES, ONES[16], GROUPS),
    "mixed_interaction": ("mixed", DIFFERENCES, GROUP_DIFFERENCE, GROUPS),
    "covariate_condition": ("covariate", DIFFERENCES, ONES[14], WITH_AGE),
    "covariate_interaction": ("covariate", DIFFERENCES, DATA["age"], WITH_AGE),
}


def lay_flat(cells):
    """Subjects x cells (x voxels) to maps x voxels, and the positions of the maps, in a scrambled order."""
    cells = cells.reshape(*cells.shape[:2], -1)
    rows = np.random.default_rng(0).permutation(cells.shape[0] * cells.shape[1]).reshape(cells.shape[:2])
    data = np.empty((rows.size, cells.shape[2]))
    data[rows.ravel()] = cells.reshape(rows.size, -1)
    return data, rows


def fit_cells(cells, within, between, design, **options):
    """Fit ``between' Y within``, in its own units, from matrices that need not be orthonormal."""
    data, rows = lay_flat(cells)
    W, U, Z = (linalg.orth(matrix) for matrix in (within, between, design))
    loadings = np.kron(between.T @ U, within.T @ W)
    return fit_partitioned(data, rows, W, U, Z, loadings=loadings, **options)


def fit_reference(name):
    data, within, between, design = ANALYSES[name]
    return fit_cells(DATA[data], within, between, design)


def make_cells(seed, n_subjects=9, n_cells=4, n_voxels=5):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(n_cells, n_cells))
    return rng.normal(size=(n_subjects, 1, n_voxels)) + np.einsum(
        "wx,nxv->nwv", mixing, rng.normal(size=(n_subjects, n_cells, n_voxels))
    )


# Corrections

CUBE = np.ones((10, 10, 10), bool)
TAILS = ["positive", "negative", "two-sided"]
DOF = 14.0


def make_t(seed=0, n_signal=150, dof=DOF):
    """A thousand t values, some of them shifted up, some down."""
    rng = np.random.default_rng(seed)
    value = rng.standard_t(dof, size=1000)
    value[:n_signal] += 5
    value[n_signal : 2 * n_signal] -= 5
    return Statistic("t", value, value, np.ones(1000), 1.0, dof)


def make_f(seed=0):
    value = np.random.default_rng(seed).f(3, DOF, size=1000) * np.where(np.arange(1000) < 200, 12, 1)
    return Statistic("F", value, None, None, 3.0, DOF)


def compute_plain_p(statistic, tail):
    """The p of the tail by scipy."""
    if statistic.test == "F":
        return stats.f.sf(statistic.value, statistic.dof_effect, statistic.dof)
    if tail == "two-sided":
        return 2 * stats.t.sf(np.abs(statistic.value), statistic.dof)
    return stats.t.sf(statistic.value if tail == "positive" else -statistic.value, statistic.dof)


# Tails, by mpmath 1.3 at 60 digits; test_distributions has the formula

# t, dof, log sf
T_TAILS = [
    (2, 1, -1.9133603645040103),
    (1e6, 1, -14.960240443814008),
    (0.01, 1.5, -0.6999850156977171),
    (60, 7.3, -24.58659037519783),
    (1e200, 16, -7348.412435571957),
    (10, 120, -39.29829654535251),
    (1e6, 120, -1373.9265301097496),
    (5, 1234.5, -14.930240629066578),
    (1e20, 1234.5, -52461.45874487401),
    (1e3, 1e4, -23081.12174375986),
    (1e-6, 1e5, -0.6931479784428297),
    (36, 1e5, -648.3336823935215),
    (37, 1e5, -684.3807147943609),
    (38, 1e5, -721.386855139633),
    (38.2, 1e5, -728.90299146025),  # below the smallest normal double
]
# F, dof1, dof2, log sf, log cdf
F_TAILS = [
    (1e-300, 1, 3.2, -7.387736752745685e-151, -345.6905276121332),
    (1e3, 1.7, 1e4, -786.1137630174211, 0.0),
    (1e6, 2, 15, -88.50461278045414, -3.6554011696384225e-39),
    (50, 4, 1, -2.2478470973397378, -0.11163167530615199),
    (1e100, 4, 120, -13607.327841200371, 0.0),
    (10, 8, 120, -22.734452160913108, -1.33829814949917e-10),
    (1e4, 8, 120, -379.6423821705116, -1.3286430702656889e-165),
    (1e-30, 24.5, 1e4, 0.0, -836.1147539225457),
    (0.9, 144, 120, -0.31702159378786354, -1.303112074626767),
    (1e-6, 144, 1e4, 0.0, -925.2664806487629),
    # Where the continued fraction has more than its first term.
    (100, 300, 500, -769.71685898076181, 0.0),
    (0.05, 2000, 1000, 0.0, -1495.554989524444),
]

# Meta-analysis

META = load_reference("meta_analysis")
ROWS = [np.eye(3)[[column]] for column in range(3)]


def fit_pinned_meta(method):
    effects, variances, matrix = (np.array(META[name]) for name in ("effects", "variances", "design"))
    return fit_meta(effects, variances, matrix, [*ROWS, np.eye(3)[1:]], method=method)


def pick_meta(program, method, name):
    return np.array([row[name] for row in META[program][method]])


# Random fields

RANDOM_FIELDS = load_reference("random_fields")


def make_pinned_smoothness(name):
    resels, n_voxels = RANDOM_FIELDS["searches"][name]
    return Smoothness(np.ones(3), np.ones(3), np.array(resels), n_voxels, 1.0)


def make_field(pin):
    return Field("t", 1.0, pin["dof"]) if pin["test"] == "t" else Field("F", *pin["dof"])


# Effect sizes

SAMPLES = [np.array(sample) for sample in load_reference("effect_sizes")["pingouin"]["samples"]]


def fit_samples(samples, contrast):
    groups = np.repeat(np.arange(len(samples)), [len(sample) for sample in samples])
    matrix = (groups[:, None] == np.arange(len(samples))).astype(float)
    return fit_glm(np.concatenate(samples)[:, None], matrix, [np.atleast_2d(contrast).astype(float)])


# Atlases


def make_cluster_coordinates(recipe):
    """The centres of the voxels of each cluster, a union of balls, in atlasreader's order."""
    world = np.moveaxis(np.indices(recipe["shape"]), 0, -1) * recipe["voxel_size"] + recipe["origin"]
    masks = [
        np.any([((world - ball[:3]) ** 2).sum(axis=-1) <= ball[3] ** 2 for ball in balls], axis=0)
        for balls in recipe["clusters"]
    ]
    return [world[masks[i]] for i in recipe["order"]]
