"""The rearrangements of a design that exchangeability allows: all distinct ones, or a random sample of them.

A rearrangement is a source row and a sign for every row: ``U* = signs[:, None] * U[sources]``. The group of allowed
rearrangements is that of the tree of blocks (see `exchangeability`). Rows of U that are equal are interchangeable, so
that many of the group may give the same U*; `schemes` counts and lists the distinct ones.

Number 0 is always the identity. Random draws depend on the seed and their number alone, not on what was drawn before.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bids_group.column_space import decompose
from bids_group.stats.permutation.exchangeability import Branch, Exchangeability, Indices, grow_tree
from bids_group.stats.permutation.schemes import Flips, Permutations, Signs, name_content, plan_flips, plan_permutations

# Rows of U closer than this, relative to the largest value of the column, are equal but for rounding.
ROW_TOLERANCE = 1e-9
# A rearranged U spans the space of U itself if no more than this of its squared norm lies outside of it.
SPAN_TOLERANCE = 1e-9
DEGENERATE = 1e-8  # of a direction of U*: no more than this is left of it
BATCH = 1024  # rearrangements compared with one another at a time
WORDS_PER_COUNT = 4  # 64-bit words that Philox makes of one value of its counter

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rearrangements:
    """A numbered list of rearrangements, made when asked for.

    Attributes
    ----------
    n_rows : int
    n : int
        How many there are, the identity (number 0) counted.
    n_distinct : int
        How many distinct ones the exchangeability allows; may be larger than any fixed-size integer.
    is_exhaustive : bool
        Whether these are all the distinct ones, each once; else random draws with replacement.
    mirrors : ndarray of int64, shape (n,), or None
        The number of the rearrangement whose ``U*`` is the negative of this one's, if all of them have one among the
        distinct ones. None otherwise, and for random draws.
    n_equivalent, n_same : int
        How many of them give the same F or two-sided t as the identity, and how many the same t, whatever the data:
        what the nuisance leaves of ``U*`` spans the same space, or is the same; 1 for draws.
    """

    n_rows: int
    n: int
    n_distinct: int
    is_exhaustive: bool
    mirrors: Indices | None
    n_equivalent: int
    n_same: int
    _scheme: Permutations | Flips = field(repr=False)
    _seed: int = field(repr=False)

    def draw(self, start: int, stop: int) -> tuple[Indices, Signs]:
        """Return the rearrangements from number `start` to before `stop`.

        Parameters
        ----------
        start, stop : int

        Returns
        -------
        sources : ndarray of int64, shape (stop - start, n_rows)
            Which row of U comes to each row.
        signs : ndarray of int8, shape (stop - start, n_rows)
            1 or -1.

        Raises
        ------
        ValueError
            If not ``0 <= start <= stop <= n``.
        """
        if not 0 <= start <= stop <= self.n:
            raise ValueError(f"there are rearrangements 0 to {self.n}, not {start} to {stop}")
        if self.is_exhaustive:
            return self._scheme.enumerate(start, stop)
        words = _draw_words(self._seed, start, stop, self._scheme.n_words)
        sources, signs = self._scheme.draw(words)
        if start == 0 < stop:
            sources[0], signs[0] = np.arange(self.n_rows), 1
        return sources, signs

    def compute_smallest_p(self, *, two_sided: bool) -> float:
        """Return the smallest p that a test with these rearrangements can reach.

        ``n_same / n``, and ``n_equivalent / n`` for all distinct ones when two-sided: 2 / n where each has its mirror.
        Random draws from a set with mirrors can reach 1 / n, as the mirror need not be drawn.

        Parameters
        ----------
        two_sided : bool
            True for F too, which has no sign.

        Returns
        -------
        float
        """
        return (self.n_equivalent if two_sided else self.n_same) / self.n


def plan_rearrangements(
    interest: Floats,
    exchangeability: Exchangeability,
    *,
    n_asked: int,
    seed: int,
    nuisance: Floats | None = None,
) -> Rearrangements:
    """Plan all distinct rearrangements if there are no more than asked for, else random draws of them.

    Parameters
    ----------
    interest : ndarray of float64, shape (n_rows, r)
        ``U``, linearly independent columns.
    exchangeability : Exchangeability
        Of the same rows.
    n_asked : int
        How many are wanted, the identity counted.
    seed : int
        Not negative; of no effect when all are listed.
    nuisance : ndarray of float64, shape (n_rows, k), or None
        Orthonormal, orthogonal to the interest. Rearrangements that differ by it alone give the same statistic.

    Returns
    -------
    Rearrangements

    Raises
    ------
    ValueError
        If the rows do not match, fewer than one is asked for, or the seed is negative.

    References
    ----------
    Winkler et al. 2014, Permutation inference for the general linear model; Winkler et al. 2015, Multi-level block
    permutation; Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3 (Philox).
    """
    if interest.ndim != 2 or len(interest) != exchangeability.n_rows:
        raise ValueError(f"interest of shape {interest.shape} does not match {exchangeability.n_rows} rows of blocks")
    if n_asked < 1 or seed < 0:
        raise ValueError(f"n_asked must be at least 1 and seed at least 0, not {n_asked} and {seed}")
    n_rows = len(interest)
    labels, mirrored = np.split(label_rows(np.vstack([interest, -interest])), 2)
    tree = grow_tree(exchangeability)
    permutes = exchangeability.kind == "permutations"
    scheme = plan_permutations(tree, labels) if permutes else plan_flips(tree, labels != mirrored)
    n_distinct = scheme.n_distinct
    if n_distinct > n_asked:
        return Rearrangements(n_rows, n_asked, n_distinct, False, None, 1, 1, scheme, seed)
    if isinstance(scheme, Permutations):
        mirrors = _match_mirrors(scheme, tree, labels, mirrored)
    else:
        mirrors = np.arange(n_distinct)[::-1] if np.all((labels == mirrored) | (scheme.sets >= 0)) else None
    nothing = np.empty((n_rows, 0))
    n_equivalent, n_same = _count_equivalent(scheme, interest, nothing if nuisance is None else nuisance)
    return Rearrangements(n_rows, n_distinct, n_distinct, True, mirrors, n_equivalent, n_same, scheme, seed)


def label_rows(interest: Floats) -> Indices:
    """Give rows that are equal but for rounding the same label.

    Parameters
    ----------
    interest : ndarray of float64, shape (n_rows, r)

    Returns
    -------
    ndarray of int64, shape (n_rows,)
        From 0.

    Examples
    --------
    >>> import numpy as np
    >>> label_rows(np.array([[0.5], [-0.5], [0.5 + 1e-15]]))
    array([1, 0, 1])
    """
    labels = np.empty(interest.shape, dtype=np.int64)
    for column, values in enumerate(interest.T):
        order = np.argsort(values)
        is_new = np.diff(values[order]) > ROW_TOLERANCE * np.abs(values).max(initial=0.0)
        labels[order, column] = np.concatenate([[0], np.cumsum(is_new)])
    return np.unique(labels, axis=0, return_inverse=True)[1].ravel()


def _match_mirrors(scheme: Permutations, tree: Branch, labels: Indices, mirrored: Indices) -> Indices | None:
    """Find for each permutation the one whose rows have the labels of this one's negative rows."""
    names: dict[tuple[object, ...], int] = {}
    if name_content(tree, labels, names) != name_content(tree, mirrored, names):
        return None
    kinds = np.stack([labels, mirrored])
    n_kinds = int(kinds.max()) + 1
    # A design is known by a sum of random words, one for each label in each row: of a million designs two have the
    # same sum with a probability of 3e-8, and neither the designs nor their sort takes much memory.
    words = np.random.Philox(key=0).random_raw(scheme.n_rows * n_kinds).reshape(scheme.n_rows, n_kinds)
    designs = np.empty((2, scheme.n_distinct), dtype=np.uint64)
    for start, stop in _iterate_batches(scheme.n_distinct):
        sources, _ = scheme.enumerate(start, stop)
        designs[:, start:stop] = words[np.arange(scheme.n_rows), kinds[:, sources]].sum(axis=2)
    order = np.argsort(designs[0])
    return order[np.searchsorted(designs[0], designs[1], sorter=order)]


def _iterate_batches(n: int) -> Iterator[tuple[int, int]]:
    """Iterate over the beginnings and ends of batches of rearrangements."""
    return ((start, min(start + BATCH, n)) for start in range(0, n, BATCH))


def _count_equivalent(scheme: Permutations | Flips, interest: Floats, nuisance: Floats) -> tuple[int, int]:
    """Count the rearrangements that give the statistic of the design itself, its sign aside and with its sign.

    They are those for which the rearranged interest and the nuisance span what the interest and the nuisance do.
    """
    basis = decompose(interest).basis
    n_equivalent = n_same = 0
    for start in range(0, scheme.n_distinct, BATCH):
        sources, signs = scheme.enumerate(start, min(start + BATCH, scheme.n_distinct))
        moved = signs[:, :, None] * basis[sources]
        overlap = basis.T @ moved
        left = moved - nuisance @ (nuisance.T @ moved)
        shared = np.einsum("nij,nij->n", overlap, overlap)
        total = np.einsum("nij,nij->n", left, left)
        is_equivalent = (shared >= total * (1 - SPAN_TOLERANCE)) & _keeps_rank(overlap)
        n_equivalent += int(np.count_nonzero(is_equivalent))
        n_same += int(np.count_nonzero(is_equivalent & (np.trace(overlap, axis1=1, axis2=2) > 0)))
    return n_equivalent, n_same if basis.shape[1] == 1 else n_equivalent


def _keeps_rank(overlap: Floats) -> NDArray[np.bool_]:
    """Tell whether what is left of the interest has its rank."""
    smallest = np.linalg.svd(overlap, compute_uv=False)[:, -1]
    return np.asarray(smallest > DEGENERATE, dtype=np.bool_)


def _draw_words(seed: int, start: int, stop: int, n_words: int) -> NDArray[np.uint64]:
    """Draw random words for each number, uint64, shape (stop - start, n_words or a few more).

    Each number owns a stretch of the counter of Philox, whose key is the seed.
    """
    n_counts = -(-n_words // WORDS_PER_COUNT)
    generator = np.random.Philox(key=seed, counter=start * n_counts)
    words = generator.random_raw((stop - start) * n_counts * WORDS_PER_COUNT)
    return words.reshape(stop - start, n_counts * WORDS_PER_COUNT)
