"""The parts of a repeated-measures contrast: what it compares within subjects, and what between them.

The design is that of the maps without subject columns. Each column must be a number per subject times a number per
cell (a group indicator, a condition, their interaction, a covariate of the subjects). A contrast of its coefficients is
a weight on every map; it has an error term of its own when these weights, too, are a between-subject part times a
within-subject part.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bids_group.column_space import ESTIMABILITY_TOLERANCE, ColumnSpace, decompose
from bids_group.errors import DataError

MOST_COLUMNS_LISTED = 12

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SubjectLayout:
    """Where the map of each subject and cell stands.

    Attributes
    ----------
    subjects, cells : tuple of str
        Labels, sorted.
    rows : ndarray of int, shape (n_subjects, n_cells)
        Positions among the maps.
    """

    subjects: tuple[str, ...]
    cells: tuple[str, ...]
    rows: NDArray[np.intp]


@dataclass(frozen=True)
class SubjectDesign:
    """A design of repeated maps, and what of it differs between subjects.

    Attributes
    ----------
    columns : tuple of str
    space : ColumnSpace
        Of the design of the maps, without subject columns; its rows are ordered by subject and cell, so that no
        rounding depends on the order of the maps.
    layout : SubjectLayout
    basis : ndarray of float64, shape (n_subjects, q)
        Orthonormal basis of the between-subject design ``Z``: of all columns, in all cells.
    """

    columns: tuple[str, ...]
    space: ColumnSpace
    layout: SubjectLayout
    basis: Floats

    @property
    def dof(self) -> int:
        """Return the degrees of freedom of the error between subjects, ``n_subjects - q``."""
        return self.basis.shape[0] - self.basis.shape[1]


@dataclass(frozen=True)
class SubjectContrast:
    """A contrast factored into a part within and a part between subjects.

    With the maps of a voxel as ``Y`` (n_subjects, n_cells): ``C b = loadings @ vec(U' Y W)``.

    Attributes
    ----------
    within : ndarray of float64, shape (n_cells, r_w)
        ``W``, orthonormal columns.
    between : ndarray of float64, shape (n_subjects, r_g)
        ``U``, orthonormal columns in the span of `basis`.
    loadings : ndarray of float64, shape (n_contrast_rows, r_g r_w)
        Within directions run fastest; positive for a contrast of one row.
    basis : ndarray of float64, shape (n_subjects, q)
        Orthonormal basis of the between-subject design ``Z``.
    """

    within: Floats
    between: Floats
    loadings: Floats
    basis: Floats

    @property
    def rank(self) -> int:
        """Return the number of linearly independent rows of the contrast, ``r_g r_w``."""
        return self.loadings.shape[1]

    @property
    def dof(self) -> int:
        """Return the degrees of freedom of the error between subjects, ``n_subjects - q``."""
        return self.basis.shape[0] - self.basis.shape[1]


def lay_out(subjects: "pd.Series[str]", cells: "pd.Series[str]") -> SubjectLayout:
    """Arrange the maps by subject and cell.

    Parameters
    ----------
    subjects, cells : Series of str, length n_maps
        Of each map.

    Returns
    -------
    SubjectLayout

    Raises
    ------
    DataError
        If a subject has no map, or several, in a cell.
    """
    subject_codes, subject_labels = pd.factorize(subjects.to_numpy(), sort=True)
    cell_codes, cell_labels = pd.factorize(cells.to_numpy(), sort=True)
    counts = np.zeros((len(subject_labels), len(cell_labels)), dtype=int)
    np.add.at(counts, (subject_codes, cell_codes), 1)
    if np.any(counts != 1):
        subject, cell = np.argwhere(counts != 1)[0]
        raise DataError(
            f"sub-{subject_labels[subject]} has {counts[subject, cell]} maps in the cell {cell_labels[cell]!r}; "
            "partitioned error terms need exactly one map in every cell"
        )
    rows = np.empty(counts.shape, dtype=np.intp)
    rows[subject_codes, cell_codes] = np.arange(len(subjects))
    return SubjectLayout(tuple(map(str, subject_labels)), tuple(map(str, cell_labels)), rows)


def build_subject_design(design: pd.DataFrame, layout: SubjectLayout) -> SubjectDesign:
    """Find what of a design of repeated maps differs between subjects.

    Every column of the design, laid out as (n_subjects, n_cells), must be ``z a'``; ``Z`` spans all ``z``.

    Parameters
    ----------
    design : DataFrame of float64, shape (n_maps, n_columns)
        Without subject columns; rows as in the layout's positions.
    layout : SubjectLayout

    Returns
    -------
    SubjectDesign

    Raises
    ------
    DataError
        If a column varies within subjects in a way that differs between them, or no degree of freedom is left.
    """
    matrix = design.to_numpy(dtype=np.float64)[layout.rows.ravel()]
    columns = tuple(map(str, design.columns))
    between, sizes, _ = np.linalg.svd(matrix.T.reshape(-1, *layout.rows.shape), full_matrices=False)
    is_mixed = np.any(sizes[:, 1:] > ESTIMABILITY_TOLERANCE * sizes[:, :1], axis=1)
    if is_mixed.any():
        raise DataError(
            f"the column {columns[int(np.argmax(is_mixed))]!r} differs both within and between subjects, and is no "
            'product of the two, so that the errors cannot be partitioned; take it out, or write "pooled" as '
            'ErrorTerm and put "subject" into the design'
        )
    basis = decompose(between[sizes[:, 0] > 0, :, 0].T).basis
    if basis.shape[0] <= basis.shape[1]:
        raise DataError(
            f"{basis.shape[0]} subjects and a between-subject design of rank {basis.shape[1]} leave no degree of "
            "freedom for the error; use more subjects or fewer columns"
        )
    return SubjectDesign(columns, decompose(matrix), layout, basis)


def factor_contrast(design: SubjectDesign, weights: Floats) -> SubjectContrast:
    """Factor a contrast into a part within and a part between subjects.

    ``L = C (X'X)^- X'`` are its weights on the maps. With ``W`` a basis of their row space over cells and ``U`` of that
    over subjects, the contrast factors when ``rank(C) = r_g r_w``: then it tests all of ``U'YW``.

    Parameters
    ----------
    design : SubjectDesign
    weights : ndarray of float64, shape (n_contrast_rows, n_columns)
        ``C``; rows may depend on each other.

    Returns
    -------
    SubjectContrast
        Its between directions lie in the span of its basis, because every column of the design does in every cell.

    Raises
    ------
    DataError
        If the contrast is zero, not estimable, or does not factor.
    """
    weights = np.atleast_2d(np.asarray(weights, dtype=np.float64))
    _refuse_inestimable(design, weights)
    return factor_map_weights(design, weigh_maps(design.space, weights))


def weigh_maps(space: ColumnSpace, weights: Floats) -> Floats:
    """Return the weights that a contrast of the coefficients gives the maps, ``L = C (X'X)^- X'``.

    Parameters
    ----------
    space : ColumnSpace
        Of a design in which the contrast is estimable.
    weights : ndarray of float64, shape (n_contrast_rows, n_columns)

    Returns
    -------
    ndarray of float64, shape (n_contrast_rows, n_maps)
        In the order of the design's rows.
    """
    return space.score_weights(weights) @ space.basis.T


def factor_map_weights(design: SubjectDesign, on_maps: Floats) -> SubjectContrast:
    """Factor weights on the maps into a part within and a part between subjects.

    Parameters
    ----------
    design : SubjectDesign
        For the layout, and for the between-subject design that the errors are those of.
    on_maps : ndarray of float64, shape (n_contrast_rows, n_maps)
        Maps in the order of the layout: by subject, then by cell.

    Returns
    -------
    SubjectContrast

    Raises
    ------
    DataError
        If the weights are zero, do not factor, or weigh subjects in another way than the between-subject design does.
    """
    on_maps = on_maps.reshape(len(on_maps), *design.layout.rows.shape)
    sizes = np.linalg.norm(on_maps, axis=(1, 2), keepdims=True)
    if not np.any(sizes > 0):
        raise DataError("all weights of the contrast are 0; give it an estimable weight")
    unit = on_maps / np.where(sizes > 0, sizes, 1.0)  # ranks depend on the scale of no row; a row of zeros is dependent
    n_rows, n_subjects, n_cells = unit.shape
    between = _find_directions(unit.transpose(1, 0, 2).reshape(n_subjects, -1))
    within = _find_directions(unit.transpose(2, 0, 1).reshape(n_cells, -1))
    rank = _find_directions(unit.reshape(n_rows, -1)).shape[1]
    if rank != between.shape[1] * within.shape[1]:
        raise DataError(_describe_mixture(rank, between.shape[1], within.shape[1]))
    outside = between - design.basis @ (design.basis.T @ between)
    if np.linalg.norm(outside) > ESTIMABILITY_TOLERANCE * np.sqrt(between.shape[1]):
        raise DataError("the contrast weighs subjects in a way that the between-subject design does not span")
    between, within = _orient(between, within, on_maps)
    loadings = (between.T @ on_maps @ within).reshape(n_rows, -1)
    return SubjectContrast(within, between, loadings, design.basis)


def _refuse_inestimable(design: SubjectDesign, weights: Floats) -> None:
    """Make sure that the maps can tell the weighted columns apart."""
    inestimable = design.space.find_inestimable(weights)
    if not inestimable.any():
        return
    row = int(np.argmax(inestimable.any(axis=1)))
    concerned = [name for name, is_out in zip(design.columns, inestimable[row], strict=True) if is_out]
    n_more = len(concerned) - MOST_COLUMNS_LISTED
    listed = ", ".join(concerned[:MOST_COLUMNS_LISTED]) + (f" and {n_more} more" if n_more > 0 else "")
    raise DataError(
        f"row {row} of the contrast is not estimable: the columns {listed} are linearly dependent, so that the maps "
        'cannot tell them apart; test a difference between them (weights that sum to 0 exactly, thirds as "1/3"), or '
        "take a redundant column out of the model"
    )


def _find_directions(matrix: Floats) -> Floats:
    """Return an orthonormal basis of the column space, the strongest direction first."""
    directions, values, _ = np.linalg.svd(matrix, full_matrices=False)
    return cast(Floats, directions[:, values > ESTIMABILITY_TOLERANCE * values[0]])


def _orient(between: Floats, within: Floats, on_maps: Floats) -> tuple[Floats, Floats]:
    """Fix the signs: of a within direction by its first cell, of a between direction by its first loading."""
    within = within * _find_first_signs(within)
    loadings = np.einsum("ng,rnc,cw->rwg", between, on_maps, within)
    return between * _find_first_signs(loadings.reshape(-1, between.shape[1])), within


def _find_first_signs(matrix: Floats) -> Floats:
    """Return the sign of the first entry of each column that is more than rounding."""
    size = np.abs(matrix)
    first = np.argmax(size > ESTIMABILITY_TOLERANCE * size.max(axis=0), axis=0)
    return np.sign(matrix[first, np.arange(matrix.shape[1])])


def _describe_mixture(rank: int, n_between: int, n_within: int) -> str:
    """Say why a contrast has no error term of its own, and what to do."""
    return (
        f"the contrast has no error term of its own: its rank is {rank}, but it mixes {n_between} comparisons of "
        f"subjects with {n_within} of conditions. Test one effect of groups, of conditions or of their interaction at "
        "a time (patients' A minus controls' B is none); if the model has a covariate, centre it with Demean, or give "
        "every condition its own slope of it"
    )
