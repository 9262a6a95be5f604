"""Write tfce.json: exact TFCE of two small maps by Gaser's tfce.

The heights have two decimals, so that some are equal, and 0 where the mask is not. The package computes in float32.

    pip install tfce==0.1.0
    python make_tfce.py
"""

import json
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np
import tfce

SHAPE = (6, 5, 4)
POWERS = ((0.5, 2.0), (1.0, 1.5))


def make_volume(seed: int) -> np.ndarray:
    """Return heights of both signs, with a seventh of the voxels outside the mask."""
    rng = np.random.default_rng(seed)
    heights = rng.normal(scale=1.5, size=SHAPE).round(2)
    return np.where(rng.random(SHAPE) < 1 / 7, 0.0, heights)


def main() -> None:
    """Write the numbers beside this script."""
    cases = []
    for seed, (extent_power, height_power) in enumerate(POWERS):
        volume = make_volume(seed)
        enhanced = {
            connectivity: tfce.tfce(volume, connectivity=connectivity, E=extent_power, H=height_power, two_sided=True)
            for connectivity in (6, 18, 26)
        }
        cases.append(
            {
                "extent_power": extent_power,
                "height_power": height_power,
                "heights": volume.ravel().tolist(),
                "enhanced": {key: [float(f"{one:.8g}") for one in map_.ravel()] for key, map_ in enhanced.items()},
            }
        )
    made_by = f"tfce {version('tfce')}, NumPy {version('numpy')}, Python {platform.python_version()}"
    pinned = {"made_by": made_by, "shape": SHAPE, "cases": cases}
    Path(__file__).with_name("tfce.json").write_text(json.dumps(pinned) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
