"""The two schemes of rearrangement, permutations and sign flips: each lists its distinct members or draws from all.

Rows of a design that are equal are interchangeable, so many rearrangements give the same design. The distinct ones are
counted along the tree of blocks: where branches change places, by the multinomial of how many of them have the same
content (the same rows of the design, up to what may be shuffled inside them); for flips, by 2 for each set of rows
that has one sign and is not 0 in the design.

The distinct ones are numbered with a mixed radix, one digit for each place of the tree where something is chosen, so
that any of them is written out without the others. Number 0 is the identity.
"""

import math
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from bids_group.stats.permutation.exchangeability import Branch, Indices, Shuffle, find_flips, find_shuffles

Signs = NDArray[np.int8]


@dataclass(frozen=True)
class Choice:
    """Branches that change places, in one order for each distinct sequence of their contents.

    Attributes
    ----------
    rows : ndarray of int64, shape (n_branches, n_rows_in_each)
    contents : ndarray of int64, shape (n_branches,)
        From 0; branches of the same content are not told apart.
    """

    rows: Indices
    contents: Indices

    @property
    def n_orders(self) -> int:
        """Return the number of distinct orders, a multinomial."""
        return count_orders(np.bincount(self.contents))

    def order(self, numbers: Indices) -> Indices:
        """Return which branch comes to each place, int64, shape (n, n_branches); number 0 moves none."""
        first = rank_order(self.contents)
        contents = unrank_orders(np.bincount(self.contents), (numbers + first) % self.n_orders)
        places = np.argsort(contents, axis=1, kind="stable")
        branches = np.empty_like(places)
        np.put_along_axis(branches, places, np.argsort(self.contents, kind="stable")[None, :], axis=1)
        return branches


@dataclass(frozen=True)
class Permutations:
    """Permutations along the tree.

    Attributes
    ----------
    n_rows : int
    shuffles : tuple of ndarray of int64, shape (n_shuffles, n_branches, n_rows_in_each)
        All that may change places, those of the same depth and size together, inner before outer.
    choices : tuple of Choice
        Those of them that give distinct designs, inner before outer.
    """

    n_rows: int
    shuffles: tuple[Indices, ...]
    choices: tuple[Choice, ...]

    @property
    def n_distinct(self) -> int:
        """Return how many permutations give distinct designs."""
        return math.prod(choice.n_orders for choice in self.choices)

    @property
    def n_words(self) -> int:
        """Return how many random words a draw needs: one for each branch that may change its place."""
        return sum(rows.shape[0] * rows.shape[1] for rows in self.shuffles)

    def enumerate(self, start: int, stop: int) -> tuple[Indices, Signs]:
        """Return the distinct permutations from number `start` to before `stop`.

        Parameters
        ----------
        start, stop : int
            Only when all of them can be counted in 64 bits.

        Returns
        -------
        sources : ndarray of int64, shape (stop - start, n_rows)
        signs : ndarray of int8, shape (stop - start, n_rows)
        """
        sources = self._stay(stop - start)
        numbers = np.arange(start, stop)
        for choice in self.choices:
            numbers, digits = np.divmod(numbers, choice.n_orders)
            _move_branches(sources, choice.rows[None], choice.order(digits)[:, None])
        return sources, np.ones(sources.shape, dtype=np.int8)

    def draw(self, words: NDArray[np.uint64]) -> tuple[Indices, Signs]:
        """Return uniform permutations, each from its own random words, by sorting these in every shuffle.

        Parameters
        ----------
        words : ndarray of uint64, shape (n, n_words or more)

        Returns
        -------
        sources : ndarray of int64, shape (n, n_rows)
        signs : ndarray of int8, shape (n, n_rows)
        """
        sources = self._stay(len(words))
        used = 0
        for rows in self.shuffles:
            n_sets, n_branches, _ = rows.shape
            keys = words[:, used : used + n_sets * n_branches].reshape(len(words), n_sets, n_branches)
            _move_branches(sources, rows, np.argsort(keys, axis=2))
            used += n_sets * n_branches
        return sources, np.ones(sources.shape, dtype=np.int8)

    def _stay(self, n: int) -> Indices:
        return np.tile(np.arange(self.n_rows), (n, 1))


@dataclass(frozen=True)
class Flips:
    """Sign flips of sets of rows.

    Attributes
    ----------
    sets : ndarray of int64, shape (n_rows,)
        The set of each row; -1 if its sign is never flipped, or its row of the design is 0 so that no flip would show.
    """

    sets: Indices

    @property
    def n_words(self) -> int:
        """Return how many random words a draw needs: one for each set."""
        return int(self.sets.max(initial=-1)) + 1

    @property
    def n_distinct(self) -> int:
        """Return how many flips give distinct designs."""
        return 2**self.n_words

    def enumerate(self, start: int, stop: int) -> tuple[Indices, Signs]:
        """Return the distinct flips from number `start` to before `stop`: set i is flipped by bit i of the number.

        Parameters
        ----------
        start, stop : int
            Only when all of them can be counted in 64 bits.

        Returns
        -------
        sources : ndarray of int64, shape (stop - start, n_rows)
        signs : ndarray of int8, shape (stop - start, n_rows)
        """
        return self._flip(np.arange(start, stop)[:, None] >> np.arange(self.n_words) & 1)

    def draw(self, words: NDArray[np.uint64]) -> tuple[Indices, Signs]:
        """Return uniform flips, each from the highest bits of its own random words.

        Parameters
        ----------
        words : ndarray of uint64, shape (n, n_words or more)

        Returns
        -------
        sources : ndarray of int64, shape (n, n_rows)
        signs : ndarray of int8, shape (n, n_rows)
        """
        return self._flip(words[:, : self.n_words] >> np.uint64(63))

    def _flip(self, is_flipped: NDArray[np.integer]) -> tuple[Indices, Signs]:
        """Give every row the sign of its set."""
        signs = np.ones((len(is_flipped), self.n_words + 1), dtype=np.int8)  # the last column is that of set -1
        signs[:, :-1] -= 2 * is_flipped.astype(np.int8)
        return np.tile(np.arange(len(self.sets)), (len(signs), 1)), signs[:, self.sets]


def plan_permutations(tree: Branch, labels: Indices) -> Permutations:
    """Find what may change places, and what of it shows in the design.

    Parameters
    ----------
    tree : Branch
        The root.
    labels : ndarray of int64, shape (n_rows,)
        Equal where rows of the design are.

    Returns
    -------
    Permutations
    """
    shuffles = find_shuffles(tree)
    names: dict[tuple[object, ...], int] = {}
    choices = []
    for shuffle in shuffles:
        contents = [name_content(branch, labels, names) for branch in shuffle.branches]
        choices.append(Choice(shuffle.rows, np.unique(contents, return_inverse=True)[1].ravel()))
    distinct = tuple(choice for choice in choices if choice.contents.max() > 0)
    return Permutations(len(labels), _group_shuffles(shuffles), distinct)


def _group_shuffles(shuffles: list[Shuffle]) -> tuple[Indices, ...]:
    """Stack the rows of shuffles of one depth and size, which touch different rows; inner before outer."""
    by_size = sorted((-shuffle.depth, *shuffle.rows.shape, at) for at, shuffle in enumerate(shuffles))
    groups = groupby(by_size, key=lambda size: size[:3])
    return tuple(np.stack([shuffles[size[3]].rows for size in group]) for _, group in groups)


def name_content(branch: Branch, labels: Indices, names: dict[tuple[object, ...], int]) -> int:
    """Number the content of a branch: the same where one can be rearranged into the other.

    Parameters
    ----------
    branch : Branch
    labels : ndarray of int64, shape (n_rows,)
        Equal where rows of the design are.
    names : dict
        The contents met so far, to which new ones are added.

    Returns
    -------
    int
    """
    if not branch.branches:
        return names.setdefault(("row", int(labels[branch.rows[0]])), len(names))
    inner = [(below.shape, name_content(below, labels, names)) for below in branch.branches]
    return names.setdefault((branch.shape, *(sorted(inner) if branch.may_shuffle else inner)), len(names))


def plan_flips(tree: Branch, matters: NDArray[np.bool_]) -> Flips:
    """Number the sets of rows that have one sign and a row of the design other than 0.

    Parameters
    ----------
    tree : Branch
        The root.
    matters : ndarray of bool, shape (n_rows,)
        Where the row of the design is not 0.

    Returns
    -------
    Flips
    """
    sets = np.full(len(matters), -1, dtype=np.int64)
    shown = [rows[matters[rows]] for rows in find_flips(tree) if matters[rows].any()]
    for number, rows in enumerate(sorted(shown, key=lambda rows: int(rows.min()))):
        sets[rows] = number
    return Flips(sets)


def count_orders(counts: NDArray[np.integer]) -> int:
    """Count the distinct orders of things of which some are alike, ``(sum of n_i)! / product of n_i!``.

    Parameters
    ----------
    counts : ndarray of int, shape (n_kinds,)

    Returns
    -------
    int

    Examples
    --------
    >>> import numpy as np
    >>> count_orders(np.array([5, 5]))
    252
    """
    alike = math.prod(math.factorial(int(count)) for count in counts)
    return math.factorial(int(counts.sum())) // alike


def unrank_orders(counts: NDArray[np.integer], ranks: Indices) -> Indices:
    """Write out distinct orders by their rank in lexicographic order.

    Of the orders of what is left, the part ``n_i / n`` begins with kind i.

    Parameters
    ----------
    counts : ndarray of int, shape (n_kinds,)
        How many there are of each kind; few enough for all orders to be counted in 64 bits.
    ranks : ndarray of int64, shape (n,)
        From 0.

    Returns
    -------
    ndarray of int64, shape (n, sum of counts)
        Kinds.

    Examples
    --------
    >>> import numpy as np
    >>> unrank_orders(np.array([2, 1]), np.array([0, 1, 2]))
    array([[0, 0, 1],
           [0, 1, 0],
           [1, 0, 0]])
    """
    n_places = int(counts.sum())
    orders = np.empty((len(ranks), n_places), dtype=np.int64)
    left = np.tile(counts.astype(np.int64), (len(ranks), 1))
    n_orders = np.full(len(ranks), count_orders(counts), dtype=np.int64)
    ranks, every = ranks.copy(), np.arange(len(ranks))
    for place in range(n_places):
        begin = n_orders[:, None] * left // (n_places - place)
        ends = np.cumsum(begin, axis=1)
        kind = (ranks[:, None] >= ends).sum(axis=1)
        n_orders = begin[every, kind]
        ranks -= ends[every, kind] - n_orders
        left[every, kind] -= 1
        orders[:, place] = kind
    return orders


def rank_order(order: Indices) -> int:
    """Find the rank of one order of things among their distinct orders, lexicographically.

    Parameters
    ----------
    order : ndarray of int64, shape (n_places,)
        Kinds, from 0.

    Returns
    -------
    int
    """
    left = np.bincount(order)
    n_orders, rank = count_orders(left), 0
    for place, kind in enumerate(order):
        n_left = len(order) - place
        rank += n_orders * int(left[:kind].sum()) // n_left
        n_orders = n_orders * int(left[kind]) // n_left
        left[kind] -= 1
    return rank


def _move_branches(sources: Indices, rows: Indices, branches: Indices) -> None:
    """Let branches change places, with what has come to their rows so far.

    `rows` of shape (n_sets, n_branches, n_rows_in_each); `branches`, which one comes to each place, of shape
    (n, n_sets, n_branches).
    """
    moved = np.take_along_axis(sources[:, rows], branches[:, :, :, None], axis=2)
    sources[:, rows.ravel()] = moved.reshape(len(sources), rows.size)
