"""The z of equal tail of very many t or F, from tables: what the exact functions need a minute for in a second.

With nu degrees of freedom of the error, t and F are brought to one scale on which these hardly matter,

    w^2 = nu log(1 + t^2 / nu) = nu log(1 + r F / nu) = -nu log(1 - R^2),

so that z is a smooth function of ``w`` for t, of ``log w^2`` for F, and of ``log nu``. Cubic interpolation between
the nodes is within 1e-5 of the exact z. It is monotone but for the rounding of float64.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from bids_group.stats import distributions
from bids_group.vocabulary import Test

STEP, LOG_STEP, DOF_STEP = 0.125, 0.0625, 0.0625  # of w, of log w^2 and of log nu
# The largest w^2 / nu that is told apart: a part of 2^-30 unexplained, below the rounding of float32.
LARGEST_LOG = 30 * np.log(2.0)
# The nodes reach further, so that what is interpolated has no corner.
LARGEST_NODE_LOG = 500.0
# Of F all z below are taken as one: nothing is found there.
SMALLEST_Z = -6.0
SMALLEST_LOG = -60.0  # of w^2

Floats = NDArray[np.float64]


class ZTable(NamedTuple):
    """The z at the nodes.

    Attributes
    ----------
    values : ndarray of float64, shape (n_dof, n_nodes)
        A row for each number of degrees of freedom.
    first, step : float
        The first node, of ``w`` for t and of ``log w^2`` for F, and the distance to the next.
    is_t : bool
    """

    values: Floats
    first: float
    step: float
    is_t: bool


def build_table(test: Test, dof_effect: float, dof: ArrayLike, *, most_dof: float | None = None) -> ZTable:
    """Tabulate z for given degrees of freedom of the error.

    Parameters
    ----------
    test : {'t', 'F'}
    dof_effect : float
        1 for t.
    dof : array_like of float, shape (n_dof,)
        Of the error.
    most_dof : float or None
        The nodes reach to the largest ``w`` of so many; None for the largest of `dof`.

    Returns
    -------
    ZTable
    """
    error_dof = np.asarray(dof, np.float64)[:, np.newaxis]
    largest = LARGEST_LOG * float(error_dof.max() if most_dof is None else most_dof)
    if test == "t":
        nodes = STEP * np.arange(-1, np.sqrt(largest) / STEP + 3)
        ratio = np.expm1(np.minimum(nodes**2 / error_dof, LARGEST_NODE_LOG))
        t = np.copysign(np.sqrt(error_dof * ratio), nodes)
        return ZTable(distributions.t_to_z(t, error_dof), float(nodes[0]), STEP, True)
    nodes = np.arange(SMALLEST_LOG, np.log(largest) + 3 * LOG_STEP, LOG_STEP)
    ratio = np.expm1(np.minimum(np.exp(nodes) / error_dof, LARGEST_NODE_LOG))
    z = distributions.f_to_z(error_dof * ratio / dof_effect, dof_effect, error_dof)
    first = max(int(np.searchsorted(z.max(axis=0), SMALLEST_Z)) - 1, 0)
    return ZTable(np.ascontiguousarray(z[:, first:]), float(nodes[first]), LOG_STEP, False)


def build_full_table(test: Test, dof_effect: float, *, most_dof: float) -> ZTable:
    """Tabulate z for all degrees of freedom of the error from 1 upwards.

    Parameters
    ----------
    test : {'t', 'F'}
    dof_effect : float
    most_dof : float
        The largest that will be asked for.

    Returns
    -------
    ZTable
        Its rows are those of log nu from one step below 0 on, in equal steps.
    """
    n_steps = int(np.ceil(np.log(most_dof) / DOF_STEP)) + 2
    return build_table(test, dof_effect, np.exp(DOF_STEP * np.arange(-1, n_steps + 1)), most_dof=most_dof)


@njit(nogil=True, error_model="numpy")
def look_up(table: ZTable, row: int, squared_w: float) -> float:
    """Return the z of a ``w^2`` for the degrees of freedom of a row of a table.

    Parameters
    ----------
    table : ZTable
    row : int
    squared_w : float

    Returns
    -------
    float
        Of the upper tail: of t it is at least 0.
    """
    node, weights = _find_node(table, squared_w)
    values = table.values
    return (
        weights[0] * values[row, node - 1]
        + weights[1] * values[row, node]
        + weights[2] * values[row, node + 1]
        + weights[3] * values[row, node + 2]
    )


@njit(nogil=True, error_model="numpy")
def look_up_between(table: ZTable, dof: float, squared_w: float) -> float:
    """Return the z of a ``w^2`` for any degrees of freedom from a table of `build_full_table`.

    Parameters
    ----------
    table : ZTable
    dof : float
        At least 1.
    squared_w : float

    Returns
    -------
    float
        Of the upper tail: of t it is at least 0.
    """
    node, weights = _find_node(table, squared_w)
    place = np.log(dof) / DOF_STEP + 1.0
    row = min(max(int(place), 1), table.values.shape[0] - 3)
    shares = _weigh_nodes(place - row)
    z = 0.0
    for i in range(4):
        values = table.values[row - 1 + i]
        z += shares[i] * (
            weights[0] * values[node - 1]
            + weights[1] * values[node]
            + weights[2] * values[node + 1]
            + weights[3] * values[node + 2]
        )
    return z


@njit(nogil=True, error_model="numpy")
def _find_node(table: ZTable, squared_w: float) -> tuple[int, tuple[float, float, float, float]]:
    """Return the node before a value, and the weights of the four nodes around it."""
    if table.is_t:
        coordinate = np.sqrt(squared_w)
    else:
        coordinate = np.log(squared_w) if squared_w > 0.0 else table.first
    n_nodes = table.values.shape[1]
    place = min(max((coordinate - table.first) / table.step, 1.0), n_nodes - 2.0)
    node = min(int(place), n_nodes - 3)
    return node, _weigh_nodes(place - node)


@njit(nogil=True, error_model="numpy")
def _weigh_nodes(place: float) -> tuple[float, float, float, float]:
    """Return the weights of the nodes at -1, 0, 1 and 2 of the cubic through them."""
    before, after, last = place + 1.0, place - 1.0, place - 2.0
    return (
        -place * after * last / 6.0,
        before * after * last / 2.0,
        -before * place * last / 2.0,
        before * place * after / 6.0,
    )
