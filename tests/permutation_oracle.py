"""The permutation test as its definition has it, in float64: every rearrangement refitted by least squares."""

import numpy as np
from scipy import ndimage

TIE = 1e-9  # relative; float64's rounding is far below it


def refit(test, sources, signs):
    """The map of one rearrangement: the model [N, U*] against the model N, summed over the stacks of data."""
    rearranged = signs[:, None] * test.interest[sources]
    full = np.hstack([test.nuisance, rearranged])
    if np.linalg.matrix_rank(full, tol=1e-6) < full.shape[1]:
        return np.zeros(test.data.shape[2])
    data = test.data.astype(np.float64)
    if test.test == "t":
        coefficients, _, _, _ = np.linalg.lstsq(full, data[0])
        variance = sum_residuals(full, data) / (len(full) - full.shape[1]) * np.linalg.inv(full.T @ full)[-1, -1]
        return coefficients[-1] / np.sqrt(variance)
    error = sum_residuals(full, data)
    n_within, n_rows, _ = data.shape
    dof = n_within * (n_rows - full.shape[1])
    explained = sum_residuals(test.nuisance, data) - error
    return (explained / (n_within * test.interest.shape[1])) / (error / dof)


def sum_residuals(design, data):
    fitted = np.stack([design @ np.linalg.lstsq(design, stack)[0] for stack in data])
    return ((data - fitted) ** 2).sum(axis=(0, 1))


def measure(test, values, level):
    """The value of a level at each voxel, in the direction of the tail."""
    if test.test == "F":
        signs = [1]
    else:
        signs = {"positive": [1], "negative": [-1], "two-sided": [1, -1]}[test.tail]
    if level == "voxel":
        return np.max([sign * values for sign in signs], axis=0)
    found = np.zeros(len(values))
    for sign in signs:
        heights = np.maximum(sign * values, 0.0)
        if level == "tfce":
            found += sum_tfce(test, np.sqrt(heights) if test.test == "F" else heights)
        else:
            found += measure_clusters(test, heights, level)
    return found


def label(test, marked):
    volume = np.zeros(test.mask.shape, dtype=bool)
    volume[test.mask] = marked
    structure = ndimage.generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[test.connectivity])
    return ndimage.label(volume, structure)[0][test.mask]


def measure_clusters(test, heights, level):
    labels = label(test, heights > test.cluster_threshold)
    weights = None if level == "cluster-size" else heights - test.cluster_threshold
    sizes = np.bincount(labels, weights=weights).astype(float)
    sizes[0] = 0.0
    return sizes[labels]


def sum_tfce(test, heights):
    """The integral piece by piece between one height of the map and the next."""
    found, bottom = np.zeros(len(heights)), 0.0
    for height in np.unique(heights[heights > 0]):
        labels = label(test, heights >= height)
        extents = np.bincount(labels).astype(float)
        extents[0] = 0.0
        power = test.height_power + 1
        found += extents[labels] ** test.extent_power * (height**power - bottom**power) / power
        bottom = height
    return found


def run(test):
    """Null distributions, observed values, familywise p and uncorrected p."""
    sources, signs = test.rearrangements.draw(0, test.rearrangements.n)
    maps = [refit(test, *one) for one in zip(sources, signs, strict=True)]
    null, observed, p = {}, {}, {}
    for level in test.levels:
        measured = np.array([measure(test, values, level) for values in maps])
        null[level], observed[level] = measured.max(axis=1), measured[0]
        p[level] = count_reached(null[level][:, None], observed[level])
        if level != "voxel":
            p[level][observed[level] == 0] = 1.0
    heights = np.array([measure(test, values, "voxel") for values in maps])
    return null, observed, p, count_reached(heights, heights[0])


def count_reached(null, observed):
    return (null >= observed - TIE * np.abs(observed)).mean(axis=0)
