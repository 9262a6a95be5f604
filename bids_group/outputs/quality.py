"""The quality of the inputs in a table and in words: which maps are odd, and why. Maps are flagged, never dropped."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bids_group.entities import ENTITY_SHORT_NAMES
from bids_group.inputs.images import AnalysedVoxels
from bids_group.stats.quality import MapQuality, score_robustly

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]

# A map stands out beyond this many robust standard deviations (Iglewicz & Hoaglin 1993).
OUTLYING_SCORE = 3.5
# A flipped map, or the differences between the sides of a mirrored one, correlate negatively with the others'; of maps
# with little in common a small negative correlation is chance.
FLIPPED_CORRELATION = -0.2
# The spread of correlations is never taken to be less, however alike the others' are: this is their sampling error
# in a hundred independent voxels.
CORRELATION_ERROR = 0.1
# In simulations of 15 and more maps of noise none lay further out.
OUTLYING_DISTANCE = 5.0
# Contrasts, sites and subjects differ by two or three in scale, units by ten or a hundred.
OUTLYING_SCALE = 5.0
SCALE_ERROR = 0.1  # of the logarithm: scales within a tenth are the same
UNIT_SCALES = (0.5, 2.0)  # the SD of a map of z or t
# Beyond the share of voxels that normal errors would give; maps of twice the scale of others reach 0.3.
EXCESSIVE_INFLUENCE = 0.5
CONSTANT_SD = 1e-5  # of the mean: float32 has seven digits
MOST_WARNINGS_OF_A_KIND = 8

COLUMNS = {
    "design_row": "Row of design.tsv, from 0",
    "n_voxels_missing": "Voxels of the search volume (of the fullest map where no mask is given) that the map lacks",
    "finite_share": "Share of the voxels of the grid, or of the given mask, that are finite",
    "zero_share": "Share of the voxels of the grid, or of the given mask, that are 0",
    "mean": "Mean over the analysed voxels, in the units of the maps",
    "sd": "Standard deviation over the analysed voxels, in the units of the maps",
    "correlation": "Correlation over voxels with the mean of the other maps of the same contrast, each scaled to unit "
    "standard deviation; a negative one suggests a sign flip",
    "asymmetry": "The same correlation of the differences between left and right; a negative one suggests that left "
    "and right are exchanged, which is weak evidence. n/a where the grid or mask is not symmetric about x = 0",
    "distance": "Robust distance (median and MAD) of the map's residuals in their leading principal components, the "
    "maps scaled to unit standard deviation; about 1 for an ordinary map, n/a with fewer than 15 maps",
    "leverage": "Leverage of the map in the design of the maps",
    "cook_share": "Share of the voxels with a Cook's distance above 4 / maps",
    "cook_expected": "Share of the voxels in which normal errors would exceed that",
    "peak_t_without": "t of the first contrast, where its absolute value is largest, fitted again without this map; "
    "n/a for F, and where the error is not the residuals of one design of maps",
    "same_as": "design_row of the first map with the same values in every analysed voxel",
    "flags": "What is odd about the map, commas between: copy, constant, sign, exchanged, pattern, scale, influence",
}
_SENTENCES = {
    "constant": "has the same value, {mean:.3g}, in every analysed voxel; is it an effect map?",
    "copy": "the values are those of {original} in every voxel; is it a copy?",
    "sign": "correlates {correlation:.2f} with the mean of the other maps of its contrast (median of all: "
    "{median_correlation:.2f}); is its sign flipped?",
    "exchanged": "is more like the others when mirrored (its differences between left and right correlate "
    "{asymmetry:.2f} with theirs, median of all {median_asymmetry:.2f}); are left and right exchanged? This is weak "
    "evidence",
    "pattern": "is unlike the others (robust distance {distance:.1f}, about 1 for an ordinary map); look at the map",
    "scale": "has a standard deviation of {sd:.3g}, {ratio:.3g} times the median of its contrast{unit}",
    "influence": "alone moves the fit in {cook_share:.0%} of the voxels (Cook's distance above 4 / maps; "
    "{cook_expected:.0%} would be ordinary)",
}


def find_flags(measured: MapQuality, groups: NDArray[np.integer]) -> dict[str, Flags]:
    """Judge which maps are odd.

    A pattern is flagged only where nothing more particular explains it.

    Parameters
    ----------
    measured : MapQuality
    groups : ndarray of int, shape (n_rows,)
        Maps of one group (of one contrast) are compared with each other.

    Returns
    -------
    dict of str to ndarray of bool, shape (n_rows,)
    """
    copy = np.bincount(measured.same_as, minlength=len(groups))[measured.same_as] > 1
    constant = measured.sd <= CONSTANT_SD * np.abs(measured.mean)
    sign = _is_low(measured.correlation, groups)
    exchanged = _is_low(measured.asymmetry, groups) & ~sign
    ratio = measured.sd / _find_medians(measured.sd, groups)
    scores = _score_in_groups(_take_log(measured.sd), groups, SCALE_ERROR)
    scale = (np.abs(_take_log(ratio)) > np.log(OUTLYING_SCALE)) & (np.abs(scores) > OUTLYING_SCORE)
    return {
        "copy": copy,
        "constant": constant,
        "sign": sign,
        "exchanged": exchanged,
        "pattern": (measured.distance > OUTLYING_DISTANCE) & ~(copy | constant | sign | exchanged),
        "scale": scale & ~constant,
        "influence": measured.cook_share - measured.cook_expected > EXCESSIVE_INFLUENCE,
    }


def _is_low(correlation: Floats, groups: NDArray[np.integer]) -> Flags:
    scores = _score_in_groups(correlation, groups, CORRELATION_ERROR)
    return (correlation < FLIPPED_CORRELATION) & (scores < -OUTLYING_SCORE)


def _score_in_groups(values: Floats, groups: NDArray[np.integer], least_spread: float) -> Floats:
    scores = np.full(len(values), np.nan)
    for group in np.unique(groups):
        scores[groups == group] = score_robustly(values[groups == group], least_spread=least_spread)
    return scores


def _find_medians(values: Floats, groups: NDArray[np.integer]) -> Floats:
    medians: Floats = pd.Series(values).groupby(groups).transform("median").to_numpy()
    return np.where(medians == 0, 1.0, medians)


def _take_log(values: Floats) -> Floats:
    return np.log(np.maximum(values, np.finfo(np.float64).tiny))


def list_quality(
    rows: pd.DataFrame,
    measured: MapQuality,
    flags: dict[str, Flags],
    *,
    voxels: AnalysedVoxels,
    peak_t_without: Floats,
) -> pd.DataFrame:
    """List what was measured of each map, and what is odd about it.

    Parameters
    ----------
    rows : DataFrame
        The maps, in the order of the design's rows, with their entities.
    measured : MapQuality
    flags : dict of str to ndarray of bool, shape (n_rows,)
        What `find_flags` returned.
    voxels : AnalysedVoxels
    peak_t_without : ndarray of float64, shape (n_rows,)

    Returns
    -------
    DataFrame
        One row per map: the entities in use and the keys of `COLUMNS`.
    """
    entities = [name for name in ENTITY_SHORT_NAMES if name in rows and rows[name].notna().any()]
    own = np.arange(len(rows))
    names = [",".join(name for name, flagged in flags.items() if flagged[row]) or None for row in own]
    same_as = pd.Series(measured.same_as, dtype="Int64").where(pd.Series(measured.same_as != own))
    found = {
        "design_row": own,
        **{name: rows[name].to_numpy() for name in entities},
        "n_voxels_missing": voxels.missing,
        "finite_share": voxels.finite_share,
        "zero_share": voxels.zero_share,
        **{name: getattr(measured, name) for name in COLUMNS if hasattr(measured, name)},
        "peak_t_without": peak_t_without,
        "same_as": same_as,
        "flags": pd.Series(names, dtype=object),
    }
    return pd.DataFrame(found)[[*list(COLUMNS)[:1], *entities, *list(COLUMNS)[1:]]]


def describe_quality(table: pd.DataFrame, *, n_voxels_partly: int = 0) -> dict[str, Any]:
    """Describe the columns of quality.tsv, with the thresholds of its flags.

    Parameters
    ----------
    table : DataFrame
        What `list_quality` returned.
    n_voxels_partly : int
        Analysed voxels that some map lacks, in which nothing was measured.
    """
    texts = {
        **COLUMNS,
        **{name: f"Entity {short} of the file name" for name, short in ENTITY_SHORT_NAMES.items() if name in table},
    }
    described: dict[str, Any] = {name: {"Description": text} for name, text in texts.items()}
    described["flags"]["Levels"] = {
        "copy": "The same values as another map",
        "constant": f"sd at most {CONSTANT_SD:g} of the mean",
        "sign": f"correlation below {FLIPPED_CORRELATION:g}, standing out from the others",
        "exchanged": f"asymmetry below {FLIPPED_CORRELATION:g}, standing out from the others",
        "pattern": f"distance above {OUTLYING_DISTANCE:g}, and none of the above",
        "scale": f"sd more than {OUTLYING_SCALE:g} times above or below its contrast's median, and standing out",
        "influence": f"cook_share above cook_expected by more than {EXCESSIVE_INFLUENCE:g}",
    }
    described["flags"]["StandingOut"] = f"more than {OUTLYING_SCORE:g} robust standard deviations from the median"
    where = f" in the voxels that all maps have ({n_voxels_partly} analysed ones are not)" if n_voxels_partly else ""
    return {"Description": f"What was measured of each map{where}; nothing was left out because of it", **described}


def find_quality_warnings(table: pd.DataFrame) -> list[str]:
    """Say in words which maps are odd.

    Parameters
    ----------
    table : DataFrame
        What `list_quality` returned.

    Returns
    -------
    list of str
        One for each map and flag, but no more than 8 for each flag and one that counts the rest.
    """
    warnings = []
    names = name_maps(table)
    known = table.assign(**_compare_with_contrast(table))
    flags = [set((flags or "").split(",")) for flags in table["flags"]]
    for flag, sentence in _SENTENCES.items():
        found = [row for row in known.index if flag in flags[row]]
        if flag == "copy":  # said of the copies, not of what they are copies of
            found = [row for row in found if pd.notna(table["same_as"][row])]
        for row in found[:MOST_WARNINGS_OF_A_KIND]:
            original = names[table["same_as"][row]] if flag == "copy" else ""
            warnings.append(f"{names[row]} " + sentence.format(**known.loc[row], original=original))
        if len(found) > MOST_WARNINGS_OF_A_KIND:
            warnings.append(f"{len(found) - MOST_WARNINGS_OF_A_KIND} more maps are flagged {flag}; see quality.tsv")
    return warnings


def _compare_with_contrast(table: pd.DataFrame) -> dict[str, Any]:
    groups = table["contrast"].to_numpy()
    ratio = table["sd"] / _find_medians(table["sd"].to_numpy(), groups)
    is_unit = table["sd"].between(*UNIT_SCALES)
    return {
        "ratio": ratio,
        "unit": np.where(is_unit, "; is it a map of z or t among effects?", "; is it in other units?"),
        "median_correlation": _find_medians(table["correlation"].to_numpy(), groups),
        "median_asymmetry": _find_medians(table["asymmetry"].to_numpy(), groups),
    }


def name_maps(table: pd.DataFrame, *, with_contrast: bool = True) -> list[str]:
    """Name maps by subject, session and run as far as there are any, and by contrast: ``sub-04 ses-pre (faces)``."""
    names = []
    for _, row in table.iterrows():
        parts = [
            f"{ENTITY_SHORT_NAMES[name]}-{row[name]}"
            for name in ("subject", "session", "run")
            if name in table and pd.notna(row[name])
        ]
        names.append(" ".join([*parts, f"({row['contrast']})"] if with_contrast else parts))
    return names


def count_flagged(table: pd.DataFrame) -> int:
    """Return how many maps have a flag."""
    return int(table["flags"].notna().sum())
