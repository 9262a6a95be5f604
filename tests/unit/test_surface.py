"""The packed cortex holds the mesh to half a step, and little of the page."""

import numpy as np

from bids_group.cortex import load_cortex
from bids_group.report.surface import STEP_MM, pack_cortex
from bids_group.report.viewer import _pack

MOST_CHARACTERS = 600_000


def unpack(packed):
    """Return the coordinates, shape (2 hemispheres, 3 parts, 3, n_vertices), the triangles and the sulci."""
    count = 18 * packed.n_vertices + 3 * packed.n_triangles
    content = np.frombuffer(packed.content, np.uint8)
    lower, higher = content[: 2 * count].reshape(2, -1).astype(np.int32)
    numbers = (lower | higher << 8).astype(np.uint16).view(np.int16)
    places = numbers[: 18 * packed.n_vertices].reshape(2, 3, 3, packed.n_vertices) * packed.step
    triangles = numbers[18 * packed.n_vertices :].reshape(-1, 3)
    return places, triangles, content[2 * count :].reshape(2, -1)


def test_every_vertex_and_triangle_comes_back():
    places, triangles, sulci = unpack(pack_cortex())
    for hemisphere, cortex in enumerate(load_cortex().values()):
        white, way, inflated = places[hemisphere]
        np.testing.assert_allclose(white.T, cortex.white, atol=0.51 * STEP_MM)
        np.testing.assert_allclose((white + way).T, cortex.pial, atol=1.01 * STEP_MM)
        np.testing.assert_allclose(inflated.T, cortex.inflated, atol=0.51 * STEP_MM)
        np.testing.assert_array_equal(triangles, cortex.triangles)
        np.testing.assert_array_equal(sulci[hemisphere].astype(bool), cortex.is_sulcus)


def test_it_takes_little_of_the_page():
    assert len(_pack(pack_cortex().content)) < MOST_CHARACTERS
