"""The inflated cortex that the report's viewer turns, packed once for the whole page.

Only the mesh is packed: the viewer holds the maps already, and looks up the voxels along each vertex as
`bids_group.cortex` does.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bids_group.cortex import DEPTHS, HEMISPHERES, load_cortex

STEP_MM = 0.01  # of the coordinates: a hundredth of what can be seen, and 16 bits hold the whole brain


@dataclass(frozen=True)
class PackedCortex:
    """Both hemispheres as viewer.js and surface.js read them.

    Attributes
    ----------
    content : bytes
        Numbers of 16 bits, all lower bytes first: of each hemisphere the white surface, the way from it to the pial
        one, and the inflated surface, each as all x, all y, all z, in steps of `step`; then the triangles, which both
        share. Then a byte for each vertex of both: 1 in a sulcus.
    n_vertices, n_triangles : int
        Of one hemisphere.
    n_depths : int
        How many voxels are looked up from the white to the pial surface.
    step : float
        In mm.
    """

    content: bytes
    n_vertices: int
    n_triangles: int
    n_depths: int
    step: float


def pack_cortex() -> PackedCortex:
    """Pack fsaverage5.

    Returns
    -------
    PackedCortex

    Raises
    ------
    MissingInputError
        nilearn, which ships it, is not installed.
    """
    cortices = [load_cortex()[name] for name in HEMISPHERES]
    coordinates = [part.T.ravel() for one in cortices for part in (one.white, one.pial - one.white, one.inflated)]
    counts = np.round(np.concatenate(coordinates) / STEP_MM)
    triangles = cortices[0].triangles
    numbers = np.concatenate([counts.astype("<i2"), triangles.ravel().astype("<i2")])
    sulci = np.concatenate([one.is_sulcus for one in cortices]).astype(np.uint8)
    content = _split_bytes(numbers) + sulci.tobytes()
    return PackedCortex(content, len(cortices[0].white), len(triangles), len(DEPTHS), STEP_MM)


def _split_bytes(numbers: NDArray[np.int16]) -> bytes:
    return numbers.view(np.uint8).reshape(-1, 2).T.tobytes()
