"""How often the p of an F that epsilon corrects fall below small levels where there is no effect.

    python -m validation.tails [--voxels 200000] [--seed 0]

The conditions of a subject have one mean and errors of some covariance; every voxel is a dataset of its own. Epsilon
matches the first two moments of a sum of squares, whose tail is heavier than that of the F that it is matched to when a
few directions outweigh the others.
"""

import argparse
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from bids_group.stats.glm import compute_log_p
from bids_group.stats.partitioned import compute_partitioned, estimate_epsilon, fit_partitioned

Floats = NDArray[np.float64]

N_SUBJECTS = (8, 12, 16, 40)
LEVELS = (0.001, 0.00005)
VOXELS_AT_ONCE = 20_000


@dataclass(frozen=True)
class Errors:
    """The covariance of a subject's errors, of shape (n_conditions, n_conditions), in words and numbers."""

    title: str
    covariance: Floats


def _decay(n: int, correlation: float) -> Floats:
    lag = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    powers: Floats = correlation**lag
    return powers


def _scale(*sd: float) -> Floats:
    return np.diag(np.square(sd))


ERRORS = (
    Errors("9 conditions, autocorrelated by 0.8", _decay(9, 0.8)),
    Errors("9 conditions, autocorrelated by 0.5", _decay(9, 0.5)),
    Errors("9 conditions, two twice as noisy", _scale(2, 2, *[1] * 7)),
    Errors("9 conditions, one 4 times as noisy", _scale(4, *[1] * 8)),
    Errors("4 conditions, autocorrelated by 0.8", _decay(4, 0.8)),
    Errors("4 conditions, one 3 times as noisy", _scale(3, 1, 1, 1)),
    Errors("3 conditions, one twice as noisy", _scale(2, 1, 1)),
    Errors("3 conditions, one 4 times as noisy", _scale(4, 1, 1)),
)


def measure_tails(errors: Errors, n_subjects: int, n_voxels: int, rng: np.random.Generator) -> tuple[float, Floats]:
    """Measure the omnibus F over conditions.

    Parameters
    ----------
    errors : Errors
    n_subjects : int
    n_voxels : int
    rng : Generator

    Returns
    -------
    epsilon : float
        Of Huynh and Feldt, median over voxels.
    times : ndarray of float64, shape (n_levels,)
        How many times as often as it should p (Greenhouse-Geisser) is below each level.
    """
    n_conditions = len(errors.covariance)
    root = np.linalg.cholesky(errors.covariance)
    rows = np.arange(n_subjects * n_conditions).reshape(n_subjects, n_conditions)
    within = linalg.null_space(np.ones((1, n_conditions)))
    mean = np.full((n_subjects, 1), n_subjects**-0.5)
    epsilons, counts = [], np.zeros(len(LEVELS))
    for _ in range(0, n_voxels, VOXELS_AT_ONCE):
        white = rng.standard_normal((n_subjects, n_conditions, VOXELS_AT_ONCE))
        data = np.einsum("cd,sdv->scv", root, white, optimize=True).reshape(rows.size, -1)
        fitted = fit_partitioned(data, rows, within, mean, mean, loadings=np.eye(within.shape[1]))
        log_p = compute_log_p(compute_partitioned(fitted, "F"), None)
        counts += [np.count_nonzero(log_p < np.log(level)) for level in LEVELS]
        epsilons.append(np.median(estimate_epsilon(fitted, sphericity="huynh-feldt")))
    n = VOXELS_AT_ONCE * len(epsilons)
    return float(np.median(epsilons)), counts / n / np.array(LEVELS)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voxels", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("| errors | " + " | ".join(f"{n} subjects" for n in N_SUBJECTS) + " |")
    print("| --- |" + " --- |" * len(N_SUBJECTS))
    for number, errors in enumerate(ERRORS):
        cells = []
        for n_subjects in N_SUBJECTS:
            rng = np.random.default_rng([options.seed, number, n_subjects])
            epsilon, times = measure_tails(errors, n_subjects, options.voxels, rng)
            cells.append(f"{', '.join(f'{one:.1f}' for one in times)} ({epsilon:.2f})")
        print(f"| {errors.title} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
