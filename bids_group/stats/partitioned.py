"""Repeated measures with partitioned error terms: each contrast is tested against its own error.

A contrast that factors into a part within subjects ``W`` and a part between subjects ``U`` (both orthonormal) needs of
the maps only the subject scores ``D = Y W``, one row per subject, regressed on the between-subject design ``Z``. With
one within direction that is an ordinary linear model. With several, their errors are summed into one, which presumes
sphericity: epsilon says how far that holds.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from bids_group.stats.glm import ContrastScores, Fit, Statistic, choose_block_voxels, compute_statistic
from bids_group.stats.sphericity import estimate_greenhouse_geisser, estimate_huynh_feldt
from bids_group.vocabulary import Sphericity, Test

# Scores whose sum of squares is no more than this part of the maps' are sums that cancel but for float64's rounding.
ROUNDING_PART = (64 * np.finfo(np.float64).eps) ** 2

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PartitionedFit:
    """One contrast of repeated measures, fitted against its own error.

    Attributes
    ----------
    fit : Fit
        The linear model of all subject scores, on ``Z`` for each within direction and with one error variance: its
        dof is ``r_w (n_subjects - q)``, its residual sum of squares ``tr(E)``, its one contrast ``U'D``.
    squared_trace : ndarray of float64, shape (n_voxels,)
        ``tr(E^2)`` of the within directions' error sums of squares and products.
    n_within : int
        ``r_w``, the number of within directions.
    """

    fit: Fit
    squared_trace: Floats
    n_within: int

    @property
    def subject_dof(self) -> float:
        """Return the degrees of freedom between subjects, ``n_subjects - q``."""
        return (self.fit.n_rows - self.fit.rank) / self.n_within

    @property
    def residual_variance(self) -> Floats:
        """Return the error variance of each voxel, averaged over the orthonormal within directions."""
        return self.fit.residual_variance

    def find_unfitted(self) -> NDArray[np.bool_]:
        """Mark the voxels whose subject scores have no error variance.

        Returns
        -------
        ndarray of bool, shape (n_voxels,)
        """
        return self.fit.find_unfitted()

    def restrict(self, kept: NDArray[np.bool_]) -> "PartitionedFit":
        """Return the fit of some of the voxels.

        Parameters
        ----------
        kept : ndarray of bool, shape (n_voxels,)

        Returns
        -------
        PartitionedFit
        """
        return replace(self, fit=self.fit.restrict(kept), squared_trace=self.squared_trace[kept])


@dataclass(frozen=True)
class SphericityEstimate:
    """How spherical the errors of all within-subject contrasts are.

    Attributes
    ----------
    epsilon : ndarray of float64, shape (n_voxels,)
        Huynh and Feldt's, as corrected by Lecoutre; nan where there is no error variance.
    n_within : int
        Number of orthonormal contrasts, conditions minus 1.
    """

    epsilon: Floats
    n_within: int

    @property
    def median(self) -> float:
        """Return the median over the voxels with error variance, nan if there are none."""
        known = self.epsilon[~np.isnan(self.epsilon)]
        return float(np.median(known)) if known.size else np.nan


def fit_partitioned(
    data: NDArray[np.floating],
    rows: NDArray[np.integer],
    within: Floats,
    between: Floats,
    between_basis: Floats,
    *,
    loadings: Floats,
    block_voxels: int | None = None,
) -> PartitionedFit:
    """Fit a contrast of repeated measures against its own error.

    ``D = Y W``, the explained ``H = (U'D)'(U'D)`` and the error ``E = (D - Z Z'D)'(D - Z Z'D)``, of which ``tr(E)`` and
    ``tr(E^2)`` are kept.

    Parameters
    ----------
    data : ndarray of float32 or float64, shape (n_rows, n_voxels)
        Finite. Computed in float64, block by block.
    rows : ndarray of int, shape (n_subjects, n_cells)
        Which row of the data holds the map of a subject and cell.
    within : ndarray of float64, shape (n_cells, r_w)
        ``W``, orthonormal columns.
    between : ndarray of float64, shape (n_subjects, r_g)
        ``U``, orthonormal columns in the span of `between_basis`.
    between_basis : ndarray of float64, shape (n_subjects, q)
        ``Z``, orthonormal columns.
    loadings : ndarray of float64, shape (n_contrast_rows, r_g r_w)
        From the scores ``U'D``, within directions running fastest, to the units of the contrast.
    block_voxels : int or None
        Voxels computed at a time; None for what suits the number of maps.

    Returns
    -------
    PartitionedFit

    Raises
    ------
    ValueError
        If shapes do not match, or no degree of freedom is left between subjects.

    References
    ----------
    Kirk 2013, Experimental Design; McFarquhar 2019, on partitioned errors in neuroimaging.
    """
    n_subjects, n_cells = rows.shape
    n_within = within.shape[1]
    shapes = (within.shape[0], between.shape[0], between_basis.shape[0], loadings.shape[1])
    if shapes != (n_cells, n_subjects, n_subjects, n_within * between.shape[1]):
        raise ValueError(
            f"within, between, between_basis and loadings do not match {n_subjects} subjects and {n_cells} cells: "
            f"{within.shape}, {between.shape}, {between_basis.shape}, {loadings.shape}"
        )
    _require_subject_dof(between_basis)
    scores = np.empty((loadings.shape[1], data.shape[1]))
    residual_ss, squared_trace, total_ss = np.empty((3, data.shape[1]))
    for block, subject_scores in _iterate_scores(data, rows, within, block_voxels):
        total_ss[block] = _sum_squares(subject_scores)
        scores[:, block] = _project(between.T, subject_scores).reshape(scores[:, block].shape)
        subject_scores -= _project(between_basis, _project(between_basis.T, subject_scores))
        residual_ss[block] = _sum_squares(subject_scores)
        squared_trace[block] = _compute_squared_trace(subject_scores)
    n_rows, rank = n_subjects * n_within, between_basis.shape[1] * n_within
    contrast = ContrastScores(scores, np.asarray(loadings, dtype=np.float64))
    fit = Fit(n_rows, rank, float(n_rows - rank), residual_ss, total_ss, (contrast,))
    return PartitionedFit(fit, squared_trace, n_within)


def compute_subject_scores(
    data: NDArray[np.floating], rows: NDArray[np.integer], within: Floats
) -> NDArray[np.float32]:
    """Compute the score of each subject along one within-subject direction, ``D = Y w``.

    Parameters
    ----------
    data : ndarray of float32 or float64, shape (n_rows, n_voxels)
    rows : ndarray of int, shape (n_subjects, n_cells)
    within : ndarray of float64, shape (n_cells,)

    Returns
    -------
    ndarray of float32, shape (n_subjects, n_voxels)
    """
    scores = np.empty((len(rows), data.shape[1]), dtype=np.float32)
    for subject, maps in enumerate(rows):
        scores[subject] = np.einsum("i,ij->j", within, data[maps], dtype=np.float64)
    return scores


def compute_partitioned(
    partitioned: PartitionedFit, test: Test, *, sphericity: Sphericity = "greenhouse-geisser"
) -> Statistic:
    """Compute the t or the F of a contrast of repeated measures.

    ``F = [tr H / (r_g r_w)] / [tr E / (r_w (n_subjects - q))]``, on those degrees of freedom; with several within
    directions they are multiplied by each voxel's epsilon. The F itself is the same whatever the sphericity.

    Parameters
    ----------
    partitioned : PartitionedFit
        Without unfitted voxels.
    test : {'t', 'F'}
        t for a contrast of one row.
    sphericity : {'greenhouse-geisser', 'huynh-feldt', 'none'}
        Which epsilon; of no effect on t and on contrasts of one within direction.

    Returns
    -------
    Statistic
        Its degrees of freedom are arrays where an epsilon was applied.

    Raises
    ------
    ValueError
        If a t is asked of several rows, or a voxel has no error variance.

    References
    ----------
    Greenhouse & Geisser 1959; Lecoutre 1991; Kirk 2013, Experimental Design.
    """
    statistic = compute_statistic(partitioned.fit, 0, test)
    if partitioned.n_within == 1 or sphericity == "none":
        return statistic
    epsilon = estimate_epsilon(partitioned, sphericity=sphericity)
    return replace(statistic, dof_effect=epsilon * statistic.dof_effect, dof=epsilon * statistic.dof)


def estimate_epsilon(partitioned: PartitionedFit, *, sphericity: Sphericity = "greenhouse-geisser") -> Floats:
    """Estimate how spherical the errors of a contrast's within directions are.

    Parameters
    ----------
    partitioned : PartitionedFit
    sphericity : {'greenhouse-geisser', 'huynh-feldt', 'none'}
        Which estimate; none is 1 everywhere.

    Returns
    -------
    ndarray of float64, shape (n_voxels,)
        From 1 / r_w to 1; nan in voxels without any error.

    References
    ----------
    Greenhouse & Geisser 1959; Lecoutre 1991.
    """
    n_within = partitioned.n_within
    if sphericity == "none":
        return np.ones_like(partitioned.squared_trace)
    epsilon = estimate_greenhouse_geisser(partitioned.fit.residual_ss, partitioned.squared_trace, n_within)
    if sphericity == "huynh-feldt":
        return estimate_huynh_feldt(epsilon, n_within, partitioned.subject_dof)
    return epsilon


def estimate_sphericity(
    data: NDArray[np.floating],
    rows: NDArray[np.integer],
    between_basis: Floats,
    *,
    block_voxels: int | None = None,
) -> SphericityEstimate:
    """Estimate how spherical the errors of all contrasts between conditions are, after the between-subject design.

    A pooled error term presumes an epsilon of 1. The estimate is Huynh and Feldt's (Lecoutre's), because that of
    Greenhouse and Geisser is far below 1 under perfect sphericity when subjects are few.

    Parameters
    ----------
    data : ndarray of float32 or float64, shape (n_rows, n_voxels)
    rows : ndarray of int, shape (n_subjects, n_cells)
        Which row of the data holds the map of a subject and cell.
    between_basis : ndarray of float64, shape (n_subjects, q)
        Orthonormal columns.
    block_voxels : int or None

    Returns
    -------
    SphericityEstimate

    Raises
    ------
    ValueError
        If there are fewer than two cells, or no degree of freedom is left between subjects.

    References
    ----------
    Lecoutre 1991.
    """
    n_subjects, n_cells = rows.shape
    if n_cells < 2:
        raise ValueError("sphericity is that of differences between cells, and there is one cell only")
    partitioned = fit_partitioned(
        data,
        rows,
        linalg.helmert(n_cells).T,
        np.empty((n_subjects, 0)),
        between_basis,
        loadings=np.empty((0, 0)),
        block_voxels=block_voxels,
    )
    epsilon = estimate_epsilon(partitioned, sphericity="huynh-feldt")
    return SphericityEstimate(np.where(partitioned.find_unfitted(), np.nan, epsilon), n_cells - 1)


def compare_error_variances(partitioned: PartitionedFit, pooled: Fit) -> Floats:
    """Compare a contrast's own error variance with the one that a pooled model has for all contrasts.

    Parameters
    ----------
    partitioned : PartitionedFit
        Of a contrast within subjects.
    pooled : Fit
        Of the same voxels, with a column per subject.

    Returns
    -------
    ndarray of float64, shape (n_voxels,)
        Own over pooled: above 1 the pooled test of this contrast is too lenient.

    Raises
    ------
    ValueError
        If a voxel has no pooled error variance.
    """
    n_unfitted = np.count_nonzero(pooled.find_unfitted())
    if n_unfitted:
        raise ValueError(f"{n_unfitted} voxels have no pooled error variance; restrict both fits to the others first")
    return partitioned.residual_variance / pooled.residual_variance


def _require_subject_dof(between_basis: Floats) -> None:
    """Make sure that subjects are left for the error."""
    n_subjects, rank = between_basis.shape
    if n_subjects <= rank:
        raise ValueError(
            f"{n_subjects} subjects and a between-subject design of rank {rank} leave no degree of freedom for the "
            "error; add subjects or drop columns"
        )


def _iterate_scores(
    data: NDArray[np.floating], rows: NDArray[np.integer], within: Floats, block_voxels: int | None
) -> Iterator[tuple[slice, Floats]]:
    """Yield blocks of voxels and their subject scores ``D``, of shape (n_subjects, r_w, n_block)."""
    n_block = block_voxels or choose_block_voxels(rows.size)
    for start in range(0, data.shape[1], n_block):
        block = slice(start, start + n_block)
        cells = data[:, block][rows.ravel()].astype(np.float64, copy=False).reshape(*rows.shape, -1)
        subject_scores = within.T @ cells
        is_rounding = _sum_squares(subject_scores) <= ROUNDING_PART * _sum_squares(cells)
        subject_scores[:, :, is_rounding] = 0.0
        yield block, subject_scores


def _project(weights: Floats, scores: Floats) -> Floats:
    """Combine the subjects of scores of shape (n_subjects, r_w, n_block) as the rows of the weights say."""
    return (weights @ scores.reshape(len(scores), -1)).reshape(len(weights), *scores.shape[1:])


def _sum_squares(values: Floats) -> Floats:
    """Return each voxel's sum of squares over the first two axes."""
    return np.einsum("ijv,ijv->v", values, values)


def _compute_squared_trace(residuals: Floats) -> Floats:
    """Return ``tr(E^2)``, the sum of the squared entries of E, without holding an E per voxel."""
    total = np.zeros(residuals.shape[2])
    for j in range(residuals.shape[1]):
        products = np.einsum("niv,nv->iv", residuals[:, : j + 1], residuals[:, j])
        total += 2.0 * np.einsum("iv,iv->v", products[:j], products[:j]) + products[j] ** 2
    return total
