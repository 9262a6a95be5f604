"""Tables of neighbours against a search over all pairs of voxels."""

import numpy as np
import pytest

from bids_group.stats.neighbours import build_lattice, build_neighbours, require_maps, require_neighbours

CONNECTIVITIES = [6, 18, 26]
# How many coordinates two voxels that touch may differ in.
DIFFERING = {6: 1, 18: 2, 26: 3}


def make_mask(seed, shape=(5, 4, 6)):
    """A mask with holes that reaches the edges of the grid."""
    return np.random.default_rng(seed).random(shape) < 0.8


def find_touching(mask, connectivity):
    """Every ordered pair of voxels that touch, from their coordinates."""
    places = np.argwhere(mask)
    steps = np.abs(places[:, None] - places[None])
    touching = (steps.max(axis=2) == 1) & (steps.sum(axis=2) <= DIFFERING[connectivity])
    return set(zip(*(axis.tolist() for axis in np.nonzero(touching)), strict=True))


def walk_lattice(mask, connectivity):
    """Every (voxel, neighbour) that steps lead to."""
    lattice = build_lattice(mask, connectivity)
    numbers = np.full(lattice.n_places, -1)
    numbers[lattice.places] = np.arange(mask.sum())
    return list_pairs(numbers[lattice.places[:, None] + lattice.steps])


def list_pairs(table):
    """Every (voxel, neighbour) of a table, as a list so that doubles show."""
    return [(voxel, neighbour) for voxel, row in enumerate(table.tolist()) for neighbour in row if neighbour >= 0]


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("seed", range(3))
def test_neighbours_are_the_voxels_one_step_away(connectivity, seed):
    mask = make_mask(seed)
    expected = find_touching(mask, connectivity)
    pairs = walk_lattice(mask, connectivity)
    assert len(pairs) == len(expected)
    assert set(pairs) == expected


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_earlier_neighbours_hold_every_pair_once_and_none_that_comes_later(connectivity):
    mask = make_mask(7)
    table = build_neighbours(mask, connectivity)
    assert table.shape == (mask.sum(), connectivity // 2)
    assert table.dtype == np.int32
    pairs = list_pairs(table)
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == {(voxel, other) for voxel, other in find_touching(mask, connectivity) if other < voxel}


def test_a_full_grid_has_as_many_pairs_as_its_sides_say():
    x, y, z = 4, 3, 5
    mask = np.ones((x, y, z), dtype=bool)
    faces = (x - 1) * y * z + x * (y - 1) * z + x * y * (z - 1)
    edges = 2 * ((x - 1) * (y - 1) * z + (x - 1) * y * (z - 1) + x * (y - 1) * (z - 1))
    corners = 4 * (x - 1) * (y - 1) * (z - 1)
    counts = [np.count_nonzero(build_neighbours(mask, connectivity) >= 0) for connectivity in CONNECTIVITIES]
    assert counts == [faces, faces + edges, faces + edges + corners]


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("n_voxels", [0, 1])
def test_a_mask_of_no_or_one_voxel_has_no_neighbours(connectivity, n_voxels):
    mask = np.zeros((3, 3, 3), dtype=bool)
    mask.flat[:n_voxels] = True
    table = build_neighbours(mask, connectivity)
    np.testing.assert_array_equal(table, np.full((n_voxels, connectivity // 2), -1))
    assert walk_lattice(mask, connectivity) == []


def test_other_connectivities_are_refused():
    with pytest.raises(ValueError, match="6, 18 or 26, not 8"):
        build_neighbours(make_mask(0), 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda maps: maps.astype(np.float64), "float32"),
        (lambda maps: np.asfortranarray(maps), "C order"),
        (lambda maps: maps[0], "n_maps"),
        (lambda maps: np.ascontiguousarray(maps[:, 1:]), "voxels"),
    ],
)
def test_maps_that_a_compiled_loop_would_misread_are_refused(change, message):
    maps = np.zeros((2, 5), dtype=np.float32)
    require_maps(maps, 5)
    with pytest.raises(ValueError, match=message):
        require_maps(change(maps), 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [(lambda table: np.hstack([table, table]), "3, 9, 13 columns"), (lambda table: table.astype(np.int64), "int32")],
)
def test_tables_that_a_compiled_loop_would_misread_are_refused(change, message):
    table = build_neighbours(make_mask(0), 6)
    require_neighbours(table)
    with pytest.raises(ValueError, match=message):
        require_neighbours(change(table))
