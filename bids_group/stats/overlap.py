"""Where the survivors of two results overlap, counted on packed bits."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint8]


@dataclass(frozen=True)
class Survivors:
    """The voxels of a grid that survive, eight to a byte, by the sign of the statistic.

    Attributes
    ----------
    positive, negative : ndarray of uint8, shape (ceil(n_grid / 8),)
    """

    positive: Bits
    negative: Bits

    @property
    def any_sign(self) -> Bits:
        """Return the survivors of either sign."""
        return self.positive | self.negative


@dataclass(frozen=True)
class Overlap:
    """How many voxels survive in one result, in another, and in both.

    Attributes
    ----------
    n_first, n_second, n_both : int
    n_opposite : int
        Those of both in which the signs differ.
    """

    n_first: int
    n_second: int
    n_both: int
    n_opposite: int

    @property
    def dice(self) -> float:
        """Return ``2 n_both / (n_first + n_second)`` (Dice 1945); nan where nothing survives in either."""
        total = self.n_first + self.n_second
        return 2 * self.n_both / total if total else np.nan


def pack_mask(mask: NDArray[np.bool_]) -> Bits:
    """Pack the voxels of a grid eight to a byte, in C order."""
    return np.packbits(mask.ravel())


def pack_survivors(survives: NDArray[np.bool_], values: NDArray[np.floating], mask: NDArray[np.bool_]) -> Survivors:
    """Pack the survivors of a result.

    Parameters
    ----------
    survives : ndarray of bool, shape (n_voxels,)
    values : ndarray of float, shape (n_voxels,)
        Of the statistic, for the signs.
    mask : ndarray of bool, shape (x, y, z)
        Of n_voxels true voxels.
    """
    packed = []
    for marked in (survives & (values > 0), survives & (values < 0)):
        volume = np.zeros(mask.shape, dtype=bool)
        volume[mask] = marked
        packed.append(pack_mask(volume))
    return Survivors(*packed)


def count_bits(bits: Bits) -> int:
    """Count the voxels that are marked."""
    return int(np.bitwise_count(bits).sum(dtype=np.int64))


def count_overlap(first: Survivors, second: Survivors, common: Bits) -> Overlap:
    """Count the survivors of two results on one grid.

    Parameters
    ----------
    first, second : Survivors
    common : ndarray of uint8, shape (ceil(n_grid / 8),)
        The voxels that both analysed; others are not counted.

    Examples
    --------
    >>> import numpy as np
    >>> mask, t = np.ones((1, 1, 3), bool), np.array([3.0, -3.0, 1.0])
    >>> one, other = pack_survivors(np.abs(t) > 2, t, mask), pack_survivors(t > 0, t, mask)
    >>> count_overlap(one, other, pack_mask(mask))
    Overlap(n_first=2, n_second=2, n_both=1, n_opposite=0)
    """
    one, other = first.any_sign & common, second.any_sign & common
    opposite = ((first.positive & second.negative) | (first.negative & second.positive)) & common
    return Overlap(count_bits(one), count_bits(other), count_bits(one & other), count_bits(opposite))


def correlate(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Return Pearson's correlation of two maps; nan with fewer than two voxels, or where one of them is constant.

    Parameters
    ----------
    first, second : ndarray of float, shape (n_voxels,)
    """
    deviations = [
        values.astype(np.float64) - values.mean(dtype=np.float64) for values in (first, second) if values.size
    ]
    if not deviations or min(float(np.ptp(values)) for values in deviations) == 0:
        return float("nan")
    norms = [np.sqrt(values @ values) for values in deviations]
    return float(deviations[0] @ deviations[1] / (norms[0] * norms[1]))
