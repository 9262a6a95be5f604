"""How the nuisance of a permutation test is dealt with: false positives of four methods at 5%.

    python -m validation.nuisance [--designs 100] [--voxels 400] [--rearrangements 400] [--seed 0]

The design has a constant, a covariate of interest and two nuisance covariates that correlate with it. Data are noise
plus large effects of the nuisance, which a valid method must not feel. Each voxel is a dataset of its own: its p is the
share of rearrangements whose |t| reaches the observed one.

- Smith (Dekker): the covariate's residuals from the nuisance are rearranged.
- Freedman-Lane: the residuals of the data under the null are rearranged, and the nuisance fitted again.
- Manly: the data themselves are rearranged, nuisance effects and all.
- Draper-Stoneman: the covariate itself is rearranged, and loses its correlation with the nuisance.
"""

import argparse
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ALPHA = 0.05
N_ROWS = (10, 16, 30)
N_NUISANCE = 2
SHARED = 0.8  # correlation of the interest with the first nuisance covariate
NUISANCE_EFFECT = 5.0  # in standard deviations of the errors
ERRORS: dict[str, Callable[[np.random.Generator, tuple[int, int]], Floats]] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "heavy tails (t, 3 dof)": lambda rng, shape: rng.standard_t(3, shape),
    "skewed (lognormal)": lambda rng, shape: rng.lognormal(0, 1, shape) - np.exp(0.5),
}


def draw_design(rng: np.random.Generator, n_rows: int) -> tuple[Floats, Floats]:
    """Return the covariate of interest, and the constant with the nuisance covariates."""
    nuisance = rng.standard_normal((n_rows, N_NUISANCE))
    interest = SHARED * nuisance[:, 0] + np.sqrt(1 - SHARED**2) * rng.lognormal(0, 0.7, n_rows)
    return interest, np.column_stack([np.ones(n_rows), nuisance])


def residualise(values: Floats, nuisance: Floats) -> Floats:
    """Return what a nuisance leaves of some values."""
    basis = np.linalg.qr(nuisance)[0]
    return values - basis @ (basis.T @ values)


def compute_t(data: Floats, interest: Floats, nuisance: Floats) -> Floats:
    """Return |t| of the interest at each voxel."""
    own, left = residualise(interest, nuisance), residualise(data, nuisance)
    correlation = own @ left / np.sqrt((own @ own) * np.einsum("ij,ij->j", left, left))
    dof = len(data) - nuisance.shape[1] - 1
    return np.abs(correlation) * np.sqrt(dof / (1 - correlation**2))


def rearrange(
    method: str, data: Floats, interest: Floats, nuisance: Floats, orders: Iterator[NDArray[np.int64]]
) -> Iterator[Floats]:
    """Yield the |t| of each rearrangement."""
    left = residualise(data, nuisance)
    own = residualise(interest, nuisance)
    for order in orders:
        if method == "Smith (Dekker)":
            yield compute_t(left, own[order], nuisance)
        elif method == "Freedman-Lane":
            yield compute_t(left[order], interest, nuisance)
        elif method == "Manly":
            yield compute_t(data[order], interest, nuisance)
        else:
            yield compute_t(data, interest[order], nuisance)


METHODS = ("Smith (Dekker)", "Freedman-Lane", "Manly", "Draper-Stoneman")


def measure_rate(method: str, errors: str, n_rows: int, options: argparse.Namespace) -> tuple[float, float]:
    """Return the share of voxels with p at most 5%, and its standard error over designs."""
    rejected = []
    for design in range(options.designs):
        rng = np.random.default_rng([options.seed, n_rows, design])
        interest, nuisance = draw_design(rng, n_rows)
        effects = NUISANCE_EFFECT * rng.standard_normal((nuisance.shape[1], options.voxels))
        data = ERRORS[errors](rng, (n_rows, options.voxels)) + nuisance @ effects
        observed = compute_t(data, interest, nuisance)
        orders = (rng.permutation(n_rows) for _ in range(options.rearrangements - 1))
        count = np.ones(options.voxels)
        for t in rearrange(method, data, interest, nuisance, orders):
            count += t >= observed * (1 - 1e-9)
        rejected.append((count / options.rearrangements <= ALPHA).mean())
    return float(np.mean(rejected)), float(np.std(rejected, ddof=1) / np.sqrt(len(rejected)))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("designs", 100), ("voxels", 400), ("rearrangements", 400), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    n_tests = options.designs * options.voxels
    print(
        f"false positives at {ALPHA:.0%} (standard error over {options.designs} designs), {n_tests} datasets a cell\n"
    )
    print("| errors | maps | " + " | ".join(METHODS) + " |\n| --- | --- |" + " --- |" * len(METHODS))
    for errors in ERRORS:
        for n_rows in N_ROWS:
            rates = (measure_rate(method, errors, n_rows, options) for method in METHODS)
            print(
                f"| {errors} | {n_rows} | " + " | ".join(f"{rate:.1%} ({error:.1%})" for rate, error in rates) + " |",
                flush=True,
            )


if __name__ == "__main__":
    main()
