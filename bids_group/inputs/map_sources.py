"""What the map of a design row is made of: a file, or a weighted sum of a subject's other maps.

Subject-level nodes compute nothing; they say how. Maps are read and combined when the group's model needs them, one row
at a time.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bids_group.inputs.nifti import read_values

WEIGHT_FORMAT = "{:+.4g}"
SMALLEST_WEIGHT = 1e-12  # of the largest: rounding
MOST_FILES_DESCRIBED = 4

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MapFile:
    """A first-level effect on disk.

    Attributes
    ----------
    path : Path
    uri : str
        BIDS URI.
    entities : Mapping of str to str
        By pybids' names; those that the file does not have are None or left out.
    variance : MapFile or None
        The map of the effect's variance, where there is one and it is needed.
    """

    path: Path
    uri: str
    entities: Mapping[str, str | None] = field(default_factory=dict)
    variance: "MapFile | None" = None


@dataclass(frozen=True, eq=False)
class CombinedMap:
    """A linear combination of a subject's maps: ``c b`` of the least-squares fit of a design to them.

    ``c b = k (Q'WQ)^-1 Q'W y`` with Q an orthonormal basis of the design, k the contrast in its terms, and W the
    identity, or the inverse of the maps' variances (a fixed-effects combination).

    Attributes
    ----------
    parts : tuple of MapSource
    basis : ndarray of float64, shape (n_parts, rank)
        Q; where all maps weigh the same one column with their weights will do.
    coefficients : ndarray of float64, shape (rank,)
        k.
    by_variance : bool
        Whether the maps are weighted by the inverse of their variances.
    """

    parts: "tuple[MapFile | CombinedMap, ...]"
    basis: Floats
    coefficients: Floats
    by_variance: bool = False

    @property
    def weights(self) -> Floats:
        """Return the weights of the maps; under equal variances where they are weighted by those."""
        return self.basis @ self.coefficients


MapSource = MapFile | CombinedMap


def list_weights(source: MapSource) -> Iterator[tuple[MapFile, float]]:
    """List the effect maps that a row is made of, each with its weight; NaN where weights differ between voxels."""
    if isinstance(source, MapFile):
        yield source, 1.0
        return
    for weight, part in zip(source.weights, source.parts, strict=True):
        for file, own in list_weights(part):
            yield file, np.nan if source.by_variance else float(weight * own)


def list_files(source: MapSource) -> list[MapFile]:
    """List the effect maps that a row is made of."""
    return [file for file, _ in list_weights(source)]


def list_uris(source: MapSource) -> list[str]:
    """List the BIDS URIs of everything that is read for a row."""
    files = [file for effect in list_files(source) for file in (effect, effect.variance) if file is not None]
    return [file.uri for file in files]


def list_paths(source: MapSource) -> list[Path]:
    """List everything that is read for a row."""
    files = [file for effect in list_files(source) for file in (effect, effect.variance) if file is not None]
    return [file.path for file in files]


def describe_source(source: MapSource) -> str:
    """Write what a row is made of: a URI, or the weighted sum of several.

    Examples
    --------
    >>> run1, run2 = (MapFile(Path(name), name) for name in ("run-1", "run-2"))
    >>> half = np.full((2, 1), np.sqrt(0.5))
    >>> describe_source(CombinedMap((run1, run2), half, np.array([np.sqrt(0.5)])))
    '+0.5 run-1 +0.5 run-2'
    """
    if isinstance(source, MapFile):
        return source.uri
    if (n_files := len(list_files(source))) > MOST_FILES_DESCRIBED:
        return f"a combination of {n_files} maps such as {list_files(source)[0].uri}"
    terms = []
    for weight, part in zip(source.weights, source.parts, strict=True):
        shown = describe_source(part) if isinstance(part, MapFile) else f"({describe_source(part)})"
        terms.append(f"{WEIGHT_FORMAT.format(weight)} {shown}")
    return " ".join(terms) + (", weighted by the inverse of their variances" if source.by_variance else "")


def has_variance(source: MapSource) -> bool:
    """Return whether the variance of every file of a row is known."""
    return all(file.variance is not None for file in list_files(source))


def find_repeated(source: MapSource) -> MapFile | None:
    """Return a file that enters a row more than once, so that its parts are not independent; None if none does."""
    counts = Counter(file.uri for file in list_files(source))
    return next((file for file in list_files(source) if counts[file.uri] > 1), None)


def add_up(parts: Sequence[MapSource], weights: Sequence[float]) -> CombinedMap:
    """Return a weighted sum, in which a file that stands in several parts has one weight.

    Sums of sums are one sum of files, so that what cancels is not read, and what enters twice is not taken for two.

    Parameters
    ----------
    parts : sequence of MapSource
    weights : sequence of float
    """
    total: dict[object, tuple[MapSource, float]] = {}
    for part, weight in zip(parts, weights, strict=True):
        for key, source, own in _list_terms(part):
            total[key] = (source, total.get(key, (source, 0.0))[1] + weight * own)
    largest = max(abs(weight) for _, weight in total.values())
    kept = [(source, weight) for source, weight in total.values() if abs(weight) > SMALLEST_WEIGHT * largest]
    column = np.array([[weight] for _, weight in kept])
    return CombinedMap(tuple(source for source, _ in kept), column, np.ones(1))


def _list_terms(source: MapSource) -> Iterator[tuple[object, MapSource, float]]:
    """List what a plain sum is made of, each with its weight and what tells it from others."""
    if isinstance(source, MapFile):
        yield source.uri, source, 1.0
    elif source.by_variance:
        yield id(source), source, 1.0
    else:
        for part, weight in zip(source.parts, source.weights, strict=True):
            for key, term, own in _list_terms(part):
                yield key, term, float(weight * own)


def read_effect(source: MapSource) -> NDArray[np.float32]:
    """Read or compute a row's effect.

    Returns
    -------
    ndarray of float32, shape (x, y, z)
        Where a part has no value (zero, or not finite), neither has the sum, which is NaN there.

    Raises
    ------
    DataError, MissingInputError, ReadWriteError
        If a map cannot be read, or maps to be combined have different grids.
    """
    if isinstance(source, MapFile):
        return read_values(source.path)
    return read_effect_and_variance(source)[0] if source.by_variance else _sum_plainly(source)


def read_effect_and_variance(source: MapSource) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Read or compute a row's effect and its variance; errors of different maps are taken to be independent.

    Returns
    -------
    effect, variance : ndarray of float32, shape (x, y, z)
        Where a part has no effect or no positive variance, the sum has neither: both are NaN.

    Raises
    ------
    ValueError
        If a map's variance is not known.
    DataError, MissingInputError, ReadWriteError
        If a map cannot be read.
    """
    if isinstance(source, MapFile):
        if source.variance is None:
            raise ValueError(f"{source.path}: the variance of the map is not known")
        return read_values(source.path), read_values(source.variance.path)
    read = [read_effect_and_variance(part) for part in source.parts]
    effects, variances = (np.stack(maps) for maps in zip(*read, strict=True))
    known = np.isfinite(effects).all(axis=0) & (effects != 0).all(axis=0)
    known &= (np.isfinite(variances) & (variances > 0)).all(axis=0)
    effect, variance = _combine(source, effects[:, known].astype(np.float64), variances[:, known].astype(np.float64))
    return _spread(effect, known), _spread(variance, known)


def _combine(source: CombinedMap, effects: Floats, variances: Floats) -> tuple[Floats, Floats]:
    """Return the combination and its variance of maps of shape (n_parts, n_voxels)."""
    if not source.by_variance:
        return source.weights @ effects, source.weights**2 @ variances
    weights = 1.0 / variances
    information = np.einsum("iv,ia,ib->vab", weights, source.basis, source.basis, optimize=True)
    covariance = np.linalg.inv(information)
    on_scores = np.einsum("a,vab->vb", source.coefficients, covariance)
    scores = np.einsum("ia,iv->va", source.basis, weights * effects)
    return np.einsum("va,va->v", on_scores, scores), on_scores @ source.coefficients


def _sum_plainly(source: CombinedMap) -> NDArray[np.float32]:
    """Return the weighted sum of maps, one of which is held at a time."""
    total: Floats | None = None
    known: NDArray[np.bool_] = np.ones((), dtype=bool)
    for weight, part in zip(source.weights, source.parts, strict=True):
        values = read_effect(part)
        known = known & np.isfinite(values) & (values != 0)
        weighted = weight * np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
        total = weighted if total is None else total + weighted
    assert total is not None  # a combination has parts
    return _spread(total[known], known)


def _spread(values: Floats, known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Put values on the grid, NaN where there are none; a value that is 0 becomes the smallest that is not."""
    volume = np.full(known.shape, np.nan, dtype=np.float32)
    volume[known] = values
    volume[volume == 0] = np.finfo(np.float32).tiny  # a difference of 0 is a value; a 0 on disk is none
    return volume
