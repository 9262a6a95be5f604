"""Which rows of a design may stand for one another: blocks in blocks, as a tree, in PALM's notation.

Each column of the blocks is a level, from the outermost to the innermost, and names by an integer the block that a row
is in at that level. The rows themselves are the leaves below the last column. The first column is constant: the root.

The sign of a block tells what may be done with the branches right below it. Positive: they may be shuffled as wholes,
each keeping the order of its rows. Negative: they stay where they are. Hence, with the rows of subjects as blocks::

    [1]                 free: any row for any other
    [-1, subject]       within blocks: rows are shuffled inside their subject
    [1, -subject]       whole blocks: subjects are shuffled, the order of rows inside each is kept
    [1, subject]        both
    [-1, type, -family] families move as wholes among families of their type

- Branches are shuffled among branches of the same shape only: as many branches, of the same signs, all the way down.
  A family of two and a family of three never change places. Branches of a negative block are matched in the order of
  their rows, so the rows of all blocks must be sorted alike.
- Signs are flipped where permutations would start: on the way from the root to a row, each branch of the first
  positive block has one sign for all of its rows. Branches further down have none of their own, because rows that
  share a larger unit may be dependent, and then flipping one without the other breaks their correlation. A row without
  a positive block above it is never flipped.

References
----------
Winkler, Webster, Vidaurre, Nichols & Smith 2015, Multi-level block permutation.
"""

from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
Kind = Literal["permutations", "flips"]  # errors are exchangeable; errors are symmetric about zero


@dataclass(frozen=True)
class Exchangeability:
    """What is done with the rows of a design, and inside which blocks.

    Attributes
    ----------
    kind : {'permutations', 'flips'}
    blocks : ndarray of int64, shape (n_rows, n_levels)
        One column a level, outer to inner, the first one constant; the sign of a block is that of its index.

    Raises
    ------
    ValueError
        If there is no row or level, an index is 0, the first column is not constant, a block has both signs, or a
        block lies in several blocks of the level above it.
    """

    kind: Kind
    blocks: Indices

    def __post_init__(self) -> None:
        if self.blocks.ndim != 2 or self.blocks.size == 0:
            raise ValueError(f"blocks must have rows and levels, their shape is {self.blocks.shape}")
        if np.any(self.blocks == 0):
            row, level = np.argwhere(self.blocks == 0)[0]
            raise ValueError(f"row {row + 1} has the block 0 at level {level + 1}: 0 has no sign, number blocks from 1")
        if np.ptp(self.blocks[:, 0]) != 0:
            raise ValueError("the first column of the blocks must be constant: it is the root of all rows")
        for level in range(1, self.blocks.shape[1]):
            _require_one(np.abs(self.blocks[:, level]), np.sign(self.blocks[:, level]), level, "has both signs")
            outer = np.abs(self.blocks[:, level - 1])
            _require_one(np.abs(self.blocks[:, level]), outer, level, "lies in several blocks of the level above it")

    @property
    def n_rows(self) -> int:
        """Return the number of rows."""
        return len(self.blocks)


def _require_one(inner: Indices, outer: Indices, level: int, fault: str) -> None:
    """Raise unless all rows of a block share one value."""
    pairs = np.unique(np.column_stack([inner, outer]), axis=0)
    repeated = pairs[1:][pairs[1:, 0] == pairs[:-1, 0], 0]
    if repeated.size:
        raise ValueError(f"block {repeated[0]} of level {level + 1} {fault}: give different blocks different numbers")


def exchange_freely(n_rows: int, kind: Kind) -> Exchangeability:
    """Let every row stand for every other (permutations), or have a sign of its own (flips).

    Parameters
    ----------
    n_rows : int
    kind : {'permutations', 'flips'}

    Returns
    -------
    Exchangeability
    """
    return Exchangeability(kind, np.ones((n_rows, 1), dtype=np.int64))


def exchange_within(labels: NDArray[np.integer], kind: Kind) -> Exchangeability:
    """Let rows stand for others of their block, blocks stay; under flips every row has a sign of its own.

    Parameters
    ----------
    labels : ndarray of int, shape (n_rows,)

    Returns
    -------
    Exchangeability
    """
    blocks = _number_blocks(labels)
    return Exchangeability(kind, np.column_stack([np.full_like(blocks, -1), blocks]))


def exchange_whole(labels: NDArray[np.integer], kind: Kind) -> Exchangeability:
    """Let whole blocks of the same size stand for one another, or have one sign each; the order inside is kept.

    Parameters
    ----------
    labels : ndarray of int, shape (n_rows,)
        The rows of all blocks in the same order.

    Returns
    -------
    Exchangeability
    """
    blocks = _number_blocks(labels)
    return Exchangeability(kind, np.column_stack([np.ones_like(blocks), -blocks]))


def exchange_by_blocks(columns: NDArray[np.integer], kind: Kind) -> Exchangeability:
    """Take blocks as PALM does, one or several columns with signs.

    A root is added where the first column is not constant: a negative one (blocks stay) above positive blocks, a
    positive one (blocks move as wholes) above negative ones. A last column that differs in every row names the rows
    themselves, as in PALM's files; it is left out, and its signs mean nothing.

    Parameters
    ----------
    columns : ndarray of int, shape (n_rows, n_levels)
        Outer to inner.
    kind : {'permutations', 'flips'}

    Returns
    -------
    Exchangeability

    Raises
    ------
    ValueError
        If the first column is not constant and has both signs, or the blocks are not valid.

    References
    ----------
    Winkler et al. 2015, Multi-level block permutation, section "Theory".
    """
    blocks = np.asarray(columns, dtype=np.int64)
    if blocks.ndim == 2 and blocks.shape[1] > 1 and len(np.unique(np.abs(blocks[:, -1]))) == len(blocks):
        blocks = blocks[:, :-1]
    if blocks.ndim == 2 and blocks.size and np.ptp(blocks[:, 0]) != 0:
        blocks = np.column_stack([np.full(len(blocks), _choose_root(blocks[:, 0])), blocks])
    return Exchangeability(kind, blocks)


def _choose_root(outermost: Indices) -> int:
    """Return the index of the root that goes above blocks of one sign."""
    if np.all(outermost > 0):
        return -1
    if np.all(outermost < 0):
        return 1
    raise ValueError(
        "the outermost blocks have both signs, so it cannot be told whether they may be shuffled: put a constant "
        "column first, 1 if whole blocks may be shuffled, -1 if not"
    )


def _number_blocks(labels: NDArray[np.integer]) -> Indices:
    """Number blocks from 1."""
    return np.unique(labels, return_inverse=True)[1].astype(np.int64).ravel() + 1


@dataclass(frozen=True)
class Branch:
    """A block with the branches below it, or a single row.

    Attributes
    ----------
    rows : ndarray of int64, shape (n_rows_below,)
        In the order in which branches of the same shape match one another.
    shape : int
        Equal for branches that may change places; 0 for a single row.
    may_shuffle : bool
        Whether the branches right below may change places.
    branches : tuple of Branch
        Right below, those of the same shape side by side where they may change places.
    """

    rows: Indices
    shape: int
    may_shuffle: bool
    branches: tuple["Branch", ...]


@dataclass(frozen=True)
class Shuffle:
    """Branches of one block that may change places.

    Attributes
    ----------
    depth : int
        Of the block in the tree, 0 for the root.
    branches : tuple of Branch
        Two or more, all of one shape.
    """

    depth: int
    branches: tuple[Branch, ...]

    @property
    def rows(self) -> Indices:
        """Return the rows of each branch, int64, shape (n_branches, n_rows_in_each)."""
        return np.stack([branch.rows for branch in self.branches])


def grow_tree(exchangeability: Exchangeability) -> Branch:
    """Grow the tree of the blocks, down to the rows.

    Parameters
    ----------
    exchangeability : Exchangeability

    Returns
    -------
    Branch
        The root.
    """
    return _grow_branch(exchangeability.blocks, np.arange(exchangeability.n_rows), 0, {})


def _grow_branch(blocks: Indices, rows: Indices, level: int, shapes: dict[tuple[int, ...], int]) -> Branch:
    """Grow the block that `rows` share at `level`; `shapes` numbers the shapes met so far."""
    if level + 1 == blocks.shape[1]:
        branches = [Branch(rows[at : at + 1], 0, False, ()) for at in range(len(rows))]
    else:
        parts = _split(rows, np.abs(blocks[rows, level + 1]))
        branches = [_grow_branch(blocks, part, level + 1, shapes) for part in parts]
    may_shuffle = bool(blocks[rows[0], level] > 0)
    if may_shuffle:  # two such blocks match whatever the order in which their branches come
        branches.sort(key=lambda branch: branch.shape)
    key = (int(may_shuffle), *(branch.shape for branch in branches))
    shape = shapes.setdefault(key, len(shapes) + 1)
    return Branch(np.concatenate([branch.rows for branch in branches]), shape, may_shuffle, tuple(branches))


def _split(rows: Indices, labels: Indices) -> list[Indices]:
    """Split rows by their label, in the order in which labels first appear."""
    _, first, label = np.unique(labels, return_index=True, return_inverse=True)
    return [rows[label == part] for part in np.argsort(first)]


def find_shuffles(tree: Branch, depth: int = 0) -> list[Shuffle]:
    """Find all sets of branches that may change places, inner ones before outer ones.

    Parameters
    ----------
    tree : Branch
    depth : int
        Of the branch itself.

    Returns
    -------
    list of Shuffle
    """
    inner = [shuffle for branch in tree.branches for shuffle in find_shuffles(branch, depth + 1)]
    if not tree.may_shuffle:
        return inner
    alike = (tuple(group) for _, group in groupby(tree.branches, key=lambda branch: branch.shape))
    return inner + [Shuffle(depth, branches) for branches in alike if len(branches) > 1]


def find_flips(tree: Branch) -> list[Indices]:
    """Find the sets of rows that have one sign each.

    Parameters
    ----------
    tree : Branch

    Returns
    -------
    list of ndarray of int64, shape (n_rows_of_the_set,)
        Disjoint; rows in none of them are never flipped.
    """
    if tree.may_shuffle:
        return [branch.rows for branch in tree.branches]
    return [rows for branch in tree.branches for rows in find_flips(branch)]
