"""Whether a level holds: exact intervals of measured rates, and the test that each cell of the table must pass."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from bids_group.analysis.rearranging import choose_scheme, list_rearrangements
from validation.scenarios import FDR, PERM_FDR, ROI, TFCE, VOXEL, Scenario
from validation.simulate import ALPHA, plan_scenario

FAMILYWISE = 0.05  # of all verdicts together, divided among the cells
CONFIDENCE = 0.95  # of the intervals that are shown
CONTINUOUS = (VOXEL, TFCE, ROI)  # extents tie, and maps without a cluster have no mass: their level can be lower


@dataclass(frozen=True)
class Verdict:
    """What is said of a cell.

    Attributes
    ----------
    rate, low, high : float
        Measured, with its interval.
    n_datasets : int
    is_high, is_low : bool
        Whether the rate is above the level, or below the one that an exact test attains.
    """

    rate: float
    low: float
    high: float
    n_datasets: int
    is_high: bool
    is_low: bool


def find_interval(count: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the exact interval of a binomial rate (Clopper & Pearson 1934).

    Parameters
    ----------
    count, n : int
    confidence : float

    Examples
    --------
    >>> [round(bound, 3) for bound in find_interval(50, 1000)]
    [0.037, 0.065]
    """
    found = stats.binomtest(count, n).proportion_ci(confidence, method="exact")
    return float(found.low), float(found.high)


def compute_attained(scenario: Scenario) -> float | None:
    """Return the level that an exact permutation test attains, or None where the test is not exact.

    ``floor(alpha N) / N`` of N rearrangements.
    """
    plan = plan_scenario(scenario, np.random.default_rng(0))
    entry = plan.node.settings.inference[0]
    if entry.permutation is None:
        return None
    scheme = choose_scheme(plan, plan.models[0], 0)
    presumes_symmetry = scheme.exchangeability.kind == "flips"
    if not scheme.leaves_nuisance or scenario.fails or (presumes_symmetry and scenario.law == "skewed"):
        return None
    n = list_rearrangements(scheme, entry).n
    return float(np.floor(ALPHA * n + 1e-9) / n)


def judge(row: pd.Series, *, n_cells: int, has_signal: bool = False, attained: float | None = None) -> Verdict:
    """Judge a cell by the one-sided exact binomial test that its rate is at most alpha.

    Parameters
    ----------
    row : Series
        With `level`, `n_datasets`, `n_false`, and the sums of the false discovery proportion and of its square.
    n_cells : int
        Among which the error of the verdicts is divided.
    has_signal : bool
        Then the false discovery rate is the mean of a proportion, tested by its standard error.
    attained : float or None
        The level that the rate must reach as well; where values tie, it need not.
    """
    n, limit = int(row["n_datasets"]), FAMILYWISE / n_cells
    if has_signal and row["level"] in (FDR, PERM_FDR):
        mean = row["fdp"] / n
        error = np.sqrt(max(row["fdp_squared"] / n - mean**2, 0.0) / (n - 1))
        width = float(stats.norm.isf((1 - CONFIDENCE) / 2)) * error
        is_high = bool(mean - ALPHA > stats.norm.isf(limit) * error)
        return Verdict(mean, max(mean - width, 0.0), mean + width, n, is_high, is_low=False)
    count = int(row["n_false"])
    is_low = (
        attained is not None
        and row["level"] in CONTINUOUS
        and stats.binomtest(count, n, attained, alternative="less").pvalue < limit
    )
    is_high = bool(stats.binomtest(count, n, ALPHA, alternative="greater").pvalue < limit)
    return Verdict(count / n, *find_interval(count, n), n, is_high, bool(is_low))
