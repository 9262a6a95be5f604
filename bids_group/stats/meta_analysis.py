"""Random-effects meta-analysis over maps whose own variances are known, voxel by voxel.

    y_i = x_i'b + u_i + e_i,    u_i ~ N(0, tau2),    e_i ~ N(0, v_i),

with weights ``w_i = 1 / (v_i + tau2)``. The design stands as an orthonormal basis Q of its columns, so that a
rank-deficient one needs no care. With ``H = (Q'WQ)^-1`` and ``P = W - WQ H Q'W`` all that is asked of a voxel is
``Py``, ``PPy`` and traces of P, none of which needs a matrix of maps by maps.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from bids_group.column_space import ColumnSpace, decompose, find_contrast_axes
from bids_group.stats.glm import BLOCK_VOXELS, UNFITTED_PART, Statistic
from bids_group.stats.heterogeneity import estimate_tau2, trace_projection, weigh
from bids_group.vocabulary import Heterogeneity, Test

# The attributes of a `MetaFit` that hold a value per voxel, its contrasts aside.
VOXEL_MAPS = ("tau2", "q", "i2", "residual_ss", "total_ss", "converged")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MetaContrast:
    """What a meta-analysis keeps of one contrast: ``C b = loadings @ scores``.

    Attributes
    ----------
    scores : ndarray of float64, shape (rank, n_voxels)
    covariance : ndarray of float64, shape (n_voxels, rank, rank)
        Of the scores, ``C (X'WX)^- C'`` in their units, before the factor of Knapp and Hartung.
    loadings : ndarray of float64, shape (n_contrast_rows, rank)
        Back to the units of the contrast.
    """

    scores: Floats
    covariance: Floats
    loadings: Floats

    @property
    def rank(self) -> int:
        """Return the number of linearly independent rows of the contrast."""
        return self.scores.shape[0]


@dataclass(frozen=True)
class MetaFit:
    """A fitted random-effects model: its heterogeneity, its error, and its contrasts.

    Attributes
    ----------
    n_rows, rank : int
        Rows (maps) and rank of the design.
    dof : float
        ``n_rows - rank``.
    tau2 : ndarray of float64, shape (n_voxels,)
        Variance between maps, at least 0, in the squared units of the effects.
    q : ndarray of float64, shape (n_voxels,)
        Cochran's Q, the residual sum of squares under the weights ``1 / v``; chi-squared on `dof` if tau2 is 0.
    i2 : ndarray of float64, shape (n_voxels,)
        Share of tau2 in the total variance of a typical map, 0 to 1.
    residual_ss, total_ss : ndarray of float64, shape (n_voxels,)
        Sums of squares of the residuals, and of the effects about zero, under the weights ``1 / (v + tau2)``.
    converged : ndarray of bool, shape (n_voxels,)
        Whether tau2 was found to its tolerance.
    contrasts : tuple of MetaContrast
        In the order in which they were given.
    """

    n_rows: int
    rank: int
    dof: float
    tau2: Floats
    q: Floats
    i2: Floats
    residual_ss: Floats
    total_ss: Floats
    converged: NDArray[np.bool_]
    contrasts: tuple[MetaContrast, ...]

    @property
    def scale(self) -> Floats:
        """Return the factor of Knapp and Hartung on the variance of the contrasts, ``residual_ss / dof``."""
        return self.residual_ss / self.dof

    def find_unfitted(self) -> NDArray[np.bool_]:
        """Mark the voxels without residuals: all zero, or fitted by the design to rounding.

        Returns
        -------
        ndarray of bool, shape (n_voxels,)
        """
        return self.residual_ss <= UNFITTED_PART * self.total_ss

    def restrict(self, kept: NDArray[np.bool_]) -> "MetaFit":
        """Return the fit of some of the voxels.

        Parameters
        ----------
        kept : ndarray of bool, shape (n_voxels,)

        Returns
        -------
        MetaFit
        """
        contrasts = tuple(
            replace(one, scores=one.scores[:, kept], covariance=one.covariance[kept]) for one in self.contrasts
        )
        maps: dict[str, Any] = {name: getattr(self, name)[kept] for name in VOXEL_MAPS}
        return replace(self, contrasts=contrasts, **maps)


def fit_meta(
    effects: NDArray[np.floating],
    variances: NDArray[np.floating],
    design_matrix: Floats,
    contrasts: Sequence[Floats],
    *,
    method: Heterogeneity = "reml",
    block_voxels: int = BLOCK_VOXELS,
) -> MetaFit:
    """Fit a random-effects model to every voxel.

    ``b = (X'WX)^- X'Wy`` with ``W = diag(1 / (v + tau2))``.

    Parameters
    ----------
    effects, variances : ndarray of float32 or float64, shape (n_rows, n_voxels)
        The maps' effects, finite, and their variances, in the squared units of the effects. Computed in float64, of
        which a few blocks of n_rows x `block_voxels` are held at a time.
    design_matrix : ndarray of float64, shape (n_rows, n_columns)
        Of any rank.
    contrasts : sequence of ndarray of float64, each of shape (n_contrast_rows, n_columns)
        Non-zero and estimable, which is not judged here.
    method : {'reml', 'dersimonian-laird'}
        How tau2 is estimated: restricted maximum likelihood, or the moments of DerSimonian and Laird.
    block_voxels : int
        Voxels fitted at a time.

    Returns
    -------
    MetaFit

    Raises
    ------
    ValueError
        If shapes do not match, a variance is not finite and positive, the method is neither of the two, or no degree
        of freedom is left.

    References
    ----------
    Raudenbush 2009, Handbook of Research Synthesis, chapter 16; Higgins & Thompson 2002, Stat Med 21 (I2).
    """
    space = decompose(design_matrix)
    _require_maps(effects, variances, space.basis, method)
    axes = [find_contrast_axes(space, np.atleast_2d(weights)) for weights in contrasts]
    blocks = []
    for start in range(0, max(effects.shape[1], 1), block_voxels):
        block = slice(start, start + block_voxels)
        own, known = effects[:, block].astype(np.float64), variances[:, block].astype(np.float64)
        blocks.append(_fit_block(own, known, space, axes, method))
    return _join(blocks)


def _require_maps(
    effects: NDArray[np.floating], variances: NDArray[np.floating], basis: Floats, method: Heterogeneity
) -> None:
    """Refuse effects, variances and designs that cannot be fitted."""
    n_rows, rank = basis.shape
    if method not in get_args(Heterogeneity):
        raise ValueError(f"the method is one of {', '.join(get_args(Heterogeneity))}, not {method!r}")
    if effects.shape != variances.shape:
        raise ValueError(f"effects are of shape {effects.shape}, but variances of {variances.shape}")
    if n_rows != effects.shape[0]:
        raise ValueError(f"the design has {n_rows} rows, but there are {effects.shape[0]} maps")
    if n_rows <= rank:
        raise ValueError(
            f"{n_rows} maps and a design of rank {rank} leave no degree of freedom for the error; "
            "add maps or drop columns"
        )
    bad = np.zeros(variances.shape[1], dtype=bool)
    for row in variances:
        bad |= ~((row > 0) & np.isfinite(row))
    if np.any(bad):
        raise ValueError(
            f"{np.count_nonzero(bad)} voxels have a variance that is not finite and positive; "
            "leave them out of the mask"
        )


def _fit_block(
    effects: Floats, variances: Floats, space: ColumnSpace, axes: Sequence[tuple[Floats, Floats]], method: Heterogeneity
) -> MetaFit:
    """Fit the random-effects model to a block of voxels."""
    n_rows, rank = space.basis.shape
    fixed = weigh(effects, 1.0 / variances, space.basis)
    tau2, converged = estimate_tau2(effects, variances, space.basis, method=method)
    model = weigh(effects, 1.0 / (variances + tau2), space.basis)
    typical_variance = (n_rows - rank) / trace_projection(fixed, space.basis)
    contrasts = tuple(
        MetaContrast(
            directions.T @ model.coefficients,
            np.einsum("ia,vij,jb->vab", directions, model.covariance, directions, optimize=True),
            loadings,
        )
        for directions, loadings in axes
    )
    return MetaFit(
        n_rows=n_rows,
        rank=rank,
        dof=float(n_rows - rank),
        tau2=tau2,
        q=fixed.residual_ss,
        i2=tau2 / (tau2 + typical_variance),
        residual_ss=model.residual_ss,
        total_ss=np.einsum("iv,iv,iv->v", model.weights, effects, effects),
        converged=converged,
        contrasts=contrasts,
    )


def _join(blocks: Sequence[MetaFit]) -> MetaFit:
    """Return the fit of all voxels from the fits of blocks of them."""
    contrasts = tuple(
        MetaContrast(
            np.concatenate([one.scores for one in parts], axis=1),
            np.concatenate([one.covariance for one in parts]),
            parts[0].loadings,
        )
        for parts in zip(*(block.contrasts for block in blocks), strict=True)
    )
    maps: dict[str, Any] = {name: np.concatenate([getattr(block, name) for block in blocks]) for name in VOXEL_MAPS}
    return replace(blocks[0], contrasts=contrasts, **maps)


def compute_meta_t(fit: MetaFit, index: int) -> Statistic:
    """Compute the t of a contrast of one row with the variance of Knapp and Hartung.

    ``t = c'b / sqrt(s c'(X'WX)^- c)`` on n - p degrees of freedom, with ``s = y'Py / (n - p)``, not truncated at 1.

    Parameters
    ----------
    fit : MetaFit
        Without unfitted voxels.
    index : int
        Which of the fit's contrasts.

    Returns
    -------
    Statistic

    Raises
    ------
    ValueError
        If the contrast has several rows, or a voxel has no residuals.

    References
    ----------
    Hartung & Knapp 2001, Stat Med 20; Knapp & Hartung 2003, Stat Med 22.
    """
    contrast = fit.contrasts[index]
    if contrast.loadings.shape[0] != 1:
        raise ValueError(f"a t contrast has one row, this one has {contrast.loadings.shape[0]}; test it with F")
    loading, scores = contrast.loadings[0, 0], contrast.scores[0]
    variance = _require_scale(fit) * contrast.covariance[:, 0, 0]
    return Statistic("t", scores / np.sqrt(variance), loading * scores, loading**2 * variance, 1.0, fit.dof)


def compute_meta_f(fit: MetaFit, index: int) -> Statistic:
    """Compute the F of a contrast of one or more rows with the variance of Knapp and Hartung.

    ``F = (Cb)'[C (X'WX)^- C']^- (Cb) / (r s)`` on r and n - p degrees of freedom, with ``r = rank(C)``.

    Parameters
    ----------
    fit : MetaFit
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
        If a voxel has no residuals.

    References
    ----------
    Knapp & Hartung 2003, Stat Med 22.
    """
    contrast = fit.contrasts[index]
    solved = np.linalg.solve(contrast.covariance, contrast.scores.T[:, :, np.newaxis])[:, :, 0]
    explained = np.einsum("iv,vi->v", contrast.scores, solved)
    value = explained / (contrast.rank * _require_scale(fit))
    return Statistic("F", value, None, None, float(contrast.rank), fit.dof)


def compute_meta_statistic(fit: MetaFit, index: int, test: Test) -> Statistic:
    """Compute the t or the F of one of the fit's contrasts.

    Parameters
    ----------
    fit : MetaFit
        Without unfitted voxels.
    index : int
    test : {'t', 'F'}

    Returns
    -------
    Statistic

    Raises
    ------
    ValueError
        As `compute_meta_t` and `compute_meta_f` do.
    """
    return compute_meta_t(fit, index) if test == "t" else compute_meta_f(fit, index)


def _require_scale(fit: MetaFit) -> Floats:
    """Return the factor of Knapp and Hartung, after making sure that every voxel has residuals."""
    n_unfitted = np.count_nonzero(fit.find_unfitted())
    if n_unfitted:
        raise ValueError(f"{n_unfitted} voxels have no error variance; restrict the fit to the others first")
    return fit.scale
