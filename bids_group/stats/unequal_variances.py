"""t and F without the assumption of equal variances: Welch's v and G, with one error variance per variance group.

The effect is that of ordinary least squares, so that the effect map is the one of the pooled fit. With
``u = U'y`` the contrast's scores in orthonormal units (`ContrastScores`) and ``U_g`` the rows of variance group g,

    Cov(u) = sum over g of A_g s2_g,    A_g = U_g'U_g,    s2_g = |residuals in g|^2 / dof_g,

with ``dof_g`` the sum of the residual-forming matrix's diagonal over the group (Horn et al. 1975; Winkler et al. 2014).
Winkler's statistics hold the covariance of weighted least squares, ``C (X'WX)^- C'``, against the same ordinary
effect. Where every column belongs to one variance group the two agree. Where variance groups share a column, the
weighted covariance is too small for the ordinary effect, and v would have more than its unit variance; the covariance
above is the effect's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bids_group.column_space import ESTIMABILITY_TOLERANCE, decompose, find_contrast_axes
from bids_group.stats.glm import (
    BLOCK_VOXELS,
    UNFITTED_PART,
    ContrastScores,
    Fit,
    Statistic,
    fit_glm,
)
from bids_group.vocabulary import Test

# A whole degree of freedom is a sum of squares that rounds.
DOF_TOLERANCE = 1e-9

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class WelchFit:
    """A fitted model whose error has one variance per variance group.

    Attributes
    ----------
    fit : Fit
        The same model by ordinary least squares: scores and loadings of the contrasts.
    groups : ndarray, shape (n_groups,)
        The labels of the variance groups, ascending.
    group_dof : ndarray of float64, shape (n_groups,)
        Sum over the group of the residual-forming matrix's diagonal; together ``n_rows - rank``.
    group_residual_ss, group_total_ss : ndarray of float64, shape (n_groups, n_voxels)
        Sums of squares of the residuals, and of the data about zero.
    shares : tuple of ndarray of float64, each of shape (n_groups, contrast_rank, contrast_rank)
        ``A_g`` of each contrast, the part of each group in its scores; the identity when summed over groups.
    """

    fit: Fit
    groups: NDArray[Any]
    group_dof: Floats
    group_residual_ss: Floats
    group_total_ss: Floats
    shares: tuple[Floats, ...]

    @property
    def group_variances(self) -> Floats:
        """Return ``s2_g``, the error variance of each group and voxel, of shape (n_groups, n_voxels)."""
        return self.group_residual_ss / self.group_dof[:, np.newaxis]

    def find_unfitted(self) -> NDArray[np.bool_]:
        """Mark the voxels in which a variance group has no error variance: all zero, or fitted to rounding.

        Returns
        -------
        ndarray of bool, shape (n_voxels,)
        """
        return np.any(self.group_residual_ss <= UNFITTED_PART * self.group_total_ss, axis=0)

    def restrict(self, kept: NDArray[np.bool_]) -> "WelchFit":
        """Return the fit of some of the voxels.

        Parameters
        ----------
        kept : ndarray of bool, shape (n_voxels,)

        Returns
        -------
        WelchFit
        """
        return replace(
            self,
            fit=self.fit.restrict(kept),
            group_residual_ss=self.group_residual_ss[:, kept],
            group_total_ss=self.group_total_ss[:, kept],
        )


def fit_welch(
    data: NDArray[np.floating],
    design_matrix: Floats,
    contrasts: Sequence[Floats],
    variance_groups: NDArray[Any],
    *,
    block_voxels: int = BLOCK_VOXELS,
) -> WelchFit:
    """Fit a design to every voxel, with one error variance per variance group.

    ``s2_g = |e_g|^2 / sum of R_ii over i in g`` with ``R = 1 - QQ'`` and ``e = RY``.

    Parameters
    ----------
    data : ndarray of float32 or float64, shape (n_rows, n_voxels)
        Finite. Computed in float64, of which two blocks of n_rows x `block_voxels` are held at a time.
    design_matrix : ndarray of float64, shape (n_rows, n_columns)
        Of any rank.
    contrasts : sequence of ndarray of float64, each of shape (n_contrast_rows, n_columns)
        Non-zero and estimable, as for `fit_glm`.
    variance_groups : ndarray of int or str, shape (n_rows,)
        The label of each row's group.
    block_voxels : int
        Voxels fitted at a time.

    Returns
    -------
    WelchFit

    Raises
    ------
    ValueError
        If a variance group has less than one degree of freedom for its error, the labels are not one per row, or as
        `fit_glm` does.

    References
    ----------
    Horn, Horn & Duncan 1975, J Am Stat Assoc 70; Winkler et al. 2014, NeuroImage 92.
    """
    fit = fit_glm(data, design_matrix, contrasts, block_voxels=block_voxels)
    labels = np.asarray(variance_groups)
    if labels.shape != (fit.n_rows,):
        raise ValueError(f"there are {fit.n_rows} maps, but variance groups of shape {labels.shape}")
    groups, members = np.unique(labels, return_inverse=True)
    membership = (np.arange(len(groups))[:, np.newaxis] == members).astype(np.float64)
    space = decompose(design_matrix)
    dof = _require_dof(membership @ (1.0 - np.einsum("ij,ij->i", space.basis, space.basis)), groups)
    shares = tuple(
        np.einsum("gi,ij,ik->gjk", membership, rows, rows)
        for rows in (space.basis @ find_contrast_axes(space, np.atleast_2d(weights))[0] for weights in contrasts)
    )
    return WelchFit(fit, groups, dof, *_sum_squares(data, space.basis, membership, block_voxels), shares)


def _require_dof(dof: Floats, groups: NDArray[Any]) -> Floats:
    """Return the groups' degrees of freedom, after making sure that each has one for its error."""
    short = dof < 1.0 - DOF_TOLERANCE
    if np.any(short):
        listed = ", ".join(f"{group} ({left:.3g})" for group, left in zip(groups[short], dof[short], strict=True))
        raise ValueError(
            f"variance groups with less than one degree of freedom for their error: {listed}; add maps or join groups"
        )
    return dof


def _sum_squares(
    data: NDArray[np.floating], basis: Floats, membership: Floats, block_voxels: int
) -> tuple[Floats, Floats]:
    """Return the residual and the total sums of squares of each group, block by block."""
    residual_ss, total_ss = (np.empty((len(membership), data.shape[1])) for _ in range(2))
    for start in range(0, data.shape[1], block_voxels):
        block = slice(start, start + block_voxels)
        values = data[:, block].astype(np.float64)
        total_ss[:, block] = membership @ values**2
        values -= basis @ (basis.T @ values)
        residual_ss[:, block] = membership @ values**2
    return residual_ss, total_ss


def compute_v(fit: WelchFit, index: int) -> Statistic:
    """Compute Welch's v, the t of a contrast of one row under unequal variances.

    ``v = c'b / sqrt(sum of a_g s2_g)`` on ``(sum of a_g s2_g)^2 / (sum of (a_g s2_g)^2 / dof_g)`` degrees of
    freedom (Welch-Satterthwaite). With one variance group it is t; for the difference of two means, Welch's t.

    Parameters
    ----------
    fit : WelchFit
        Without unfitted voxels.
    index : int
        Which of the fit's contrasts.

    Returns
    -------
    Statistic
        Of test t; its dof of shape (n_voxels,).

    Raises
    ------
    ValueError
        If the contrast has several rows, or a variance group of a voxel has no error variance.

    References
    ----------
    Satterthwaite 1946, Biometrics Bulletin 2; Welch 1947, Biometrika 34; Winkler et al. 2014, NeuroImage 92.
    """
    contrast = fit.fit.contrasts[index]
    if contrast.loadings.shape[0] != 1:
        raise ValueError(f"a t contrast has one row, this one has {contrast.loadings.shape[0]}; test it with F")
    parts = fit.shares[index][:, 0] * _require_variances(fit)
    variance = parts.sum(axis=0)
    dof = 1.0 / np.sum((parts / variance) ** 2 / fit.group_dof[:, np.newaxis], axis=0)
    loading, scores = contrast.loadings[0, 0], contrast.scores[0]
    return Statistic("t", scores / np.sqrt(variance), loading * scores, loading**2 * variance, 1.0, dof)


def compute_g(fit: WelchFit, index: int, *, block_voxels: int = BLOCK_VOXELS) -> Statistic:
    """Compute Welch's G, the F of a contrast of one or more rows under unequal variances.

    With ``S = sum of A_g s2_g``, ``P_g = A_g s2_g S^-1``, r the rank of the contrast and
    ``a = sum over g of [tr(P_g^2) + tr(P_g)^2] / (2 dof_g)``,

        G = u' S^-1 u / (r L),    L = 1 + 2 a (r - 1) / (r (r + 2)),

    on r and ``r (r + 2) / (3 a)`` degrees of freedom. For the equality of group means it is Welch's analysis of
    variance, for r = 1 the square of v. Where one variance group alone carries the contrast it is the exact F on that
    group's degrees of freedom.

    Parameters
    ----------
    fit : WelchFit
        Without unfitted voxels.
    index : int
        Which of the fit's contrasts.
    block_voxels : int
        Voxels computed at a time.

    Returns
    -------
    Statistic
        Of test F; its dof of shape (n_voxels,), its effect and variance None.

    Raises
    ------
    ValueError
        If a variance group of a voxel has no error variance.

    References
    ----------
    Welch 1951, Biometrika 38; Johansen 1980, Biometrika 67; Winkler et al. 2014, NeuroImage 92.
    """
    variances = _require_variances(fit)
    contrast, shares = fit.fit.contrasts[index], fit.shares[index]
    alone = np.flatnonzero(np.einsum("gii->g", shares) > contrast.rank - ESTIMABILITY_TOLERANCE)
    if len(alone):
        return _compute_exact_f(contrast, variances[alone[0]], float(fit.group_dof[alone[0]]))
    value, approximation = np.empty((2, variances.shape[1]))
    for start in range(0, len(value), block_voxels):
        block = slice(start, start + block_voxels)
        value[block], approximation[block] = _compute_wald(
            contrast.scores[:, block], variances[:, block], shares, fit.group_dof
        )
    rank = float(contrast.rank)
    inflation = 1.0 + 2.0 * approximation * (rank - 1.0) / (rank * (rank + 2.0))
    dof = rank * (rank + 2.0) / (3.0 * approximation)
    return Statistic("F", value / (rank * inflation), None, None, rank, dof)


def _compute_exact_f(contrast: ContrastScores, variance: Floats, dof: float) -> Statistic:
    """Return the F of a contrast that lies within one variance group."""
    explained = np.einsum("ij,ij->j", contrast.scores, contrast.scores)
    return Statistic(
        "F", explained / (contrast.rank * variance), None, None, float(contrast.rank), np.full(len(variance), dof)
    )


def _compute_wald(scores: Floats, variances: Floats, shares: Floats, group_dof: Floats) -> tuple[Floats, Floats]:
    """Return ``u' S^-1 u`` and Johansen's ``a`` of a block of voxels."""
    covariance = np.einsum("gij,gv->vij", shares, variances)
    precision = np.linalg.inv(covariance)
    approximation = np.zeros(variances.shape[1])
    for share, variance, dof in zip(shares, variances, group_dof, strict=True):
        part = share @ precision * variance[:, np.newaxis, np.newaxis]
        traces = np.einsum("vij,vji->v", part, part) + np.einsum("vii->v", part) ** 2
        approximation += traces / (2.0 * dof)
    return np.einsum("iv,vij,jv->v", scores, precision, scores, optimize=True), approximation


def compute_welch_statistic(fit: WelchFit, index: int, test: Test) -> Statistic:
    """Compute the v or the G of one of the fit's contrasts.

    Parameters
    ----------
    fit : WelchFit
        Without unfitted voxels.
    index : int
    test : {'t', 'F'}

    Returns
    -------
    Statistic

    Raises
    ------
    ValueError
        As `compute_v` and `compute_g` do.
    """
    return compute_v(fit, index) if test == "t" else compute_g(fit, index)


def _require_variances(fit: WelchFit) -> Floats:
    """Return the groups' error variances, after making sure that every voxel has all of them."""
    n_unfitted = np.count_nonzero(fit.find_unfitted())
    if n_unfitted:
        raise ValueError(
            f"{n_unfitted} voxels have a variance group without error variance; restrict the fit to the others first"
        )
    return fit.group_variances
