"""The general linear model by ordinary least squares: fit once, then t or F of any of the contrasts.

With ``Q`` an orthonormal basis of the design's column space, all a contrast needs is the scores ``Q'Y``:
its own part of them, in orthonormal units, is `ContrastScores.scores`. Coefficients of columns are never
made, so a design with a column per subject costs no map per subject.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bids_group.column_space import decompose, find_contrast_axes
from bids_group.stats import distributions
from bids_group.vocabulary import Tail, Test

# A voxel whose residuals hold no more than this part of its sum of squares is fitted to rounding.
UNFITTED_PART = 1e-12
BLOCK_VOXELS, FEWEST_BLOCK_VOXELS = 8192, 64
BLOCK_VALUES = 2**23  # 64 MiB of float64: with more rows, blocks have fewer voxels

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ContrastScores:
    """What a fit keeps of one contrast: ``C b = loadings @ scores``, the scores uncorrelated, of variance s2.

    Attributes
    ----------
    scores : ndarray of float64, shape (rank, n_voxels)
        The contrast in orthonormal units; its sum of squares over rows is what the contrast explains.
    loadings : ndarray of float64, shape (n_contrast_rows, rank)
        Back to the units of the contrast; ``loadings @ loadings.T`` is ``C (X'X)^- C'``.
    """

    scores: Floats
    loadings: Floats

    @property
    def rank(self) -> int:
        """Return the number of linearly independent rows of the contrast."""
        return self.scores.shape[0]


@dataclass(frozen=True)
class Fit:
    """A fitted model: its error, and its contrasts.

    Attributes
    ----------
    n_rows, rank : int
        Rows (maps) and rank of the design.
    dof : float or ndarray of float64, shape (n_voxels,)
        Degrees of freedom of the error, ``n_rows - rank``.
    residual_ss, total_ss : ndarray of float64, shape (n_voxels,)
        Sums of squares of the residuals, and of the data about zero.
    contrasts : tuple of ContrastScores
        In the order in which they were given.
    """

    n_rows: int
    rank: int
    dof: float | Floats
    residual_ss: Floats
    total_ss: Floats
    contrasts: tuple[ContrastScores, ...]

    @property
    def residual_variance(self) -> Floats:
        """Return ``s2``, the error variance of each voxel."""
        return self.residual_ss / self.dof

    def find_unfitted(self) -> NDArray[np.bool_]:
        """Mark the voxels without error variance: all zero, or fitted by the design to rounding.

        Returns
        -------
        ndarray of bool, shape (n_voxels,)
        """
        return self.residual_ss <= UNFITTED_PART * self.total_ss

    def restrict(self, kept: NDArray[np.bool_]) -> "Fit":
        """Return the fit of some of the voxels.

        Parameters
        ----------
        kept : ndarray of bool, shape (n_voxels,)

        Returns
        -------
        Fit
        """
        return replace(
            self,
            dof=self.dof[kept] if isinstance(self.dof, np.ndarray) else self.dof,
            residual_ss=self.residual_ss[kept],
            total_ss=self.total_ss[kept],
            contrasts=tuple(replace(one, scores=one.scores[:, kept]) for one in self.contrasts),
        )


@dataclass(frozen=True)
class Statistic:
    """The map of a t or an F.

    Attributes
    ----------
    test : {'t', 'F', 'z'}
        z of conjunctions only.
    value : ndarray of float64, shape (n_voxels,)
    effect, variance : ndarray of float64, shape (n_voxels,), or None
        ``c'b`` and its estimated variance, in the units of the data and their square; of t only.
    dof_effect, dof : float or ndarray of float64, shape (n_voxels,)
        Of the numerator (1 for t), and of the error; nan for z.
    """

    test: Test
    value: Floats
    effect: Floats | None
    variance: Floats | None
    dof_effect: float | Floats
    dof: float | Floats


def fit_glm(
    data: NDArray[np.floating],
    design_matrix: Floats,
    contrasts: Sequence[Floats],
    *,
    block_voxels: int | None = None,
) -> Fit:
    """Fit a design to every voxel by ordinary least squares.

    ``residual_ss = |Y - Q Q'Y|^2`` and, for each contrast, ``C b = C (X'X)^- X'Y``.

    Parameters
    ----------
    data : ndarray of float32 or float64, shape (n_rows, n_voxels)
        Finite. Computed in float64, of which two blocks of n_rows x `block_voxels` are held at a time.
    design_matrix : ndarray of float64, shape (n_rows, n_columns)
        Of any rank.
    contrasts : sequence of ndarray of float64, each of shape (n_contrast_rows, n_columns)
        Non-zero and estimable: their rows lie in the row space of the design, which is not judged here
        (`ColumnSpace.find_inestimable` does). Rows may depend on each other.
    block_voxels : int or None
        Voxels fitted at a time; None for what suits the number of rows (never of processors or memory, so that the
        rounding does not depend on the machine).

    Returns
    -------
    Fit

    Raises
    ------
    ValueError
        If rows do not match, a contrast is zero, or no degree of freedom is left for the error.

    References
    ----------
    Searle 1971, Linear Models, chapter 5.
    """
    space = decompose(design_matrix)
    n_rows = data.shape[0]
    if space.basis.shape[0] != n_rows:
        raise ValueError(f"the design has {space.basis.shape[0]} rows, but there are {n_rows} maps")
    if n_rows <= space.rank:
        raise ValueError(
            f"{n_rows} maps and a design of rank {space.rank} leave no degree of freedom for the error; "
            "add maps or drop columns"
        )
    axes = [find_contrast_axes(space, np.atleast_2d(weights)) for weights in contrasts]
    ends = np.cumsum([0, *(directions.shape[1] for directions, _ in axes)])
    stacked = np.hstack([np.empty((space.rank, 0)), *(directions for directions, _ in axes)])
    scores, residual_ss, total_ss = _fit_blocks(data, space.basis, stacked, block_voxels or choose_block_voxels(n_rows))
    kept = tuple(
        ContrastScores(scores[start:end], loadings)
        for start, end, (_, loadings) in zip(ends[:-1], ends[1:], axes, strict=True)
    )
    return Fit(n_rows, space.rank, float(n_rows - space.rank), residual_ss, total_ss, kept)


def choose_block_voxels(n_rows: int) -> int:
    """Choose how many voxels to compute at a time, so that a block of all rows stays small.

    Parameters
    ----------
    n_rows : int

    Returns
    -------
    int
    """
    return max(FEWEST_BLOCK_VOXELS, min(BLOCK_VOXELS, BLOCK_VALUES // n_rows))


def _fit_blocks(
    data: NDArray[np.floating], basis: Floats, directions: Floats, block_voxels: int
) -> tuple[Floats, Floats, Floats]:
    """Return the contrasts' scores, the residual and the total sums of squares, block by block."""
    n_voxels = data.shape[1]
    scores = np.empty((directions.shape[1], n_voxels))
    residual_ss, total_ss = np.empty(n_voxels), np.empty(n_voxels)
    for start in range(0, n_voxels, block_voxels):
        block = slice(start, start + block_voxels)
        values = data[:, block].astype(np.float64)
        total_ss[block] = np.einsum("ij,ij->j", values, values)
        design_scores = basis.T @ values
        scores[:, block] = directions.T @ design_scores
        # Explicit residuals: total minus explained loses every digit where the model fits well.
        values -= basis @ design_scores
        residual_ss[block] = np.einsum("ij,ij->j", values, values)
    return scores, residual_ss, total_ss


def compute_t(fit: Fit, index: int) -> Statistic:
    """Compute the t of a contrast of one row.

    ``t = c'b / sqrt(c'(X'X)^- c s2)``.

    Parameters
    ----------
    fit : Fit
        Without unfitted voxels.
    index : int
        Which of the fit's contrasts.

    Returns
    -------
    Statistic

    Raises
    ------
    ValueError
        If the contrast has several rows, or a voxel has no error variance.

    References
    ----------
    Searle 1971, Linear Models, section 5.5.
    """
    contrast = fit.contrasts[index]
    if contrast.loadings.shape[0] != 1:
        raise ValueError(f"a t contrast has one row, this one has {contrast.loadings.shape[0]}; test it with F")
    variance = _require_variance(fit)
    loading, scores = contrast.loadings[0, 0], contrast.scores[0]
    return Statistic("t", scores / np.sqrt(variance), loading * scores, loading**2 * variance, 1.0, fit.dof)


def compute_f(fit: Fit, index: int) -> Statistic:
    """Compute the F of a contrast of one or more rows.

    ``F = (Cb)'[C (X'X)^- C']^- (Cb) / (r s2)`` with ``r = rank(C)``.

    Parameters
    ----------
    fit : Fit
        Without unfitted voxels.
    index : int
        Which of the fit's contrasts.

    Returns
    -------
    Statistic
        Its effect and variance are None.

    Raises
    ------
    ValueError
        If a voxel has no error variance.

    References
    ----------
    Searle 1971, Linear Models, section 5.5.
    """
    contrast = fit.contrasts[index]
    explained = np.einsum("ij,ij->j", contrast.scores, contrast.scores)
    value = explained / (contrast.rank * _require_variance(fit))
    return Statistic("F", value, None, None, float(contrast.rank), fit.dof)


def compute_statistic(fit: Fit, index: int, test: Test) -> Statistic:
    """Compute the t or the F of one of the fit's contrasts.

    Parameters
    ----------
    fit : Fit
        Without unfitted voxels.
    index : int
    test : {'t', 'F'}

    Returns
    -------
    Statistic

    Raises
    ------
    ValueError
        As `compute_t` and `compute_f` do.
    """
    return compute_t(fit, index) if test == "t" else compute_f(fit, index)


def _require_variance(fit: Fit) -> Floats:
    """Return the error variance, after making sure that every voxel has one."""
    n_unfitted = np.count_nonzero(fit.find_unfitted())
    if n_unfitted:
        raise ValueError(f"{n_unfitted} voxels have no error variance; restrict the fit to the others first")
    return fit.residual_variance


def compute_z(statistic: Statistic) -> Floats:
    """Return the z of equal upper tail: ``sf(z) = sf(statistic)``, signed for t; of a z itself.

    Parameters
    ----------
    statistic : Statistic

    Returns
    -------
    ndarray of float64, shape (n_voxels,)
        Finite.
    """
    if statistic.test == "z":
        return statistic.value
    if statistic.test == "t":
        return distributions.t_to_z(statistic.value, statistic.dof)
    return distributions.f_to_z(statistic.value, statistic.dof_effect, statistic.dof)


def compute_p(statistic: Statistic) -> Floats:
    """Return the uncorrected p: two-sided for t, of the upper tail for F.

    Parameters
    ----------
    statistic : Statistic

    Returns
    -------
    ndarray of float64, shape (n_voxels,)
    """
    return np.exp(compute_log_p(statistic, "two-sided" if statistic.test == "t" else None))


def compute_log_p(statistic: Statistic, tail: Tail | None) -> Floats:
    """Return the natural logarithm of the uncorrected p of one tail.

    Parameters
    ----------
    statistic : Statistic
    tail : {'positive', 'negative', 'two-sided'}, or None for F
        F has its upper tail only.

    Returns
    -------
    ndarray of float64, shape (n_voxels,)
        At most 0.

    Raises
    ------
    ValueError
        If `tail` is none of the tails of the statistic.
    """
    value, dof = statistic.value, statistic.dof
    if statistic.test == "F" and tail is None:
        return distributions.log_sf_f(value, statistic.dof_effect, dof)
    if statistic.test == "t" and tail == "positive":
        return distributions.log_sf_t(value, dof)
    if statistic.test == "t" and tail == "negative":
        return distributions.log_cdf_t(value, dof)
    if statistic.test == "t" and tail == "two-sided":
        return distributions.log_sf_t(np.abs(value), dof) - distributions.LOG_HALF
    raise ValueError(f"{statistic.test} has no tail {tail!r}")
