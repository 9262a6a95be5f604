"""Pin EC densities, thresholds and cluster p of BrainStat's `stat_threshold`, a port of Worsley's program.

    python make_random_fields.py > random_fields.json

Needs brainstat 0.7.0 with numpy 1.26 and scipy; the versions that made the file stand in it.
"""

import contextlib
import json
import sys
from importlib.metadata import version

import numpy as np
from brainstat.stats._multiple_comparisons import stat_threshold

SEARCHES = {  # resels R0 to R3, and voxels
    "small": ([1.0, 8.0, 20.0, 15.0], 1_000),
    "medium": ([1.0, 30.0, 200.0, 500.0], 30_000),
    "brain": ([2.0, 45.0, 600.0, 3000.0], 200_000),
}
DOFS = {"t": [8, 15, 40, 120, 500], "F": [[1, 20], [2, 12], [3, 45], [8, 120]]}
# Beyond 1000 dof the program takes infinitely many, a Gaussian field; only there is its cluster law Friston's.
GAUSSIAN_DOF = 1e6
CLUSTER_THRESHOLDS = [3.2, 4.0]
EXTENTS = [0.02, 0.1, 0.4, 1.0]  # resels
ALPHAS = [0.05, 0.005]


def describe_dof(dof):
    """Return dof as the program takes it: one for t, a row of two for F."""
    return [dof] if isinstance(dof, list) else dof


def pin_densities(dof):
    """Return heights on the program's own grid, free of its interpolation, and the densities per resel."""
    resels, n_voxels = SEARCHES["medium"]
    *_, t, rho = stat_threshold([resels], n_voxels, 1.0, describe_dof(dof), 0.05, 0.001, 0.05, nprint=0)
    chosen = [int(np.argmin(np.abs(t - height))) for height in (0.6, 2.0, 3.5, 6.0, 12.0)]
    # Its densities are per unit of length over the root of 4 log 2.
    scale = (4 * np.log(2)) ** (np.arange(4) / 2)
    return {"heights": t[chosen].tolist(), "densities": (rho[chosen, :, 0] * scale).T.tolist()}


def pin_thresholds(dof):
    """Return the thresholds of every search volume and alpha: the smaller of field theory's and Bonferroni's."""
    found = {}
    for name, (resels, n_voxels) in SEARCHES.items():
        peaks = stat_threshold([resels], n_voxels, 1.0, describe_dof(dof), np.array(ALPHAS), 0.001, 0.05, nprint=0)[0]
        found[name] = peaks.tolist()
    return found


def pin_clusters(threshold):
    """Return the familywise p of extents in a Gaussian field, of a volume without boundary."""
    volume = [[0.0, 0.0, 0.0, SEARCHES["medium"][0][3]]]
    extents = np.array([10.0, *EXTENTS])  # a first one above 1 tells the program that these are extents, not p
    return stat_threshold(volume, 30_000, 1.0, GAUSSIAN_DOF, 0.05, threshold, extents, nprint=0)[1][1:].tolist()


def main():
    """Write the pinned numbers to standard output."""
    with contextlib.redirect_stdout(sys.stderr):
        pinned = {
            "made_by": {name: version(name) for name in ("brainstat", "numpy", "scipy")},
            "searches": SEARCHES,
            "alphas": ALPHAS,
            "fields": [
                {"test": test, "dof": dof, **pin_densities(dof), "thresholds": pin_thresholds(dof)}
                for test, dofs in DOFS.items()
                for dof in dofs
            ],
            "gaussian_dof": GAUSSIAN_DOF,
            "extents": EXTENTS,
            "clusters": [{"threshold": one, "p": pin_clusters(one)} for one in CLUSTER_THRESHOLDS],
        }
    sys.stdout.write(json.dumps(pinned, indent=1) + "\n")


if __name__ == "__main__":
    main()
