"""Which designs meet which noise, what is tested of them, and what is expected of each.

A cell of the table is a scenario and a level. Where nothing is said of a level it is expected to hold.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

VOXEL, EXTENT, MASS, TFCE = "voxel", "cluster-size", "cluster-mass", "tfce"
BONFERRONI, RFT, RFT_CLUSTER, FDR, PERM_FDR = "bonferroni", "rft", "rft-cluster", "fdr", "permutation-fdr"
ROI, ROI_FDR = "roi", "roi-fdr"
LEVELS = (VOXEL, EXTENT, MASS, TFCE, PERM_FDR, BONFERRONI, RFT, RFT_CLUSTER, FDR, ROI, ROI_FDR)
REGIONAL = (ROI, ROI_FDR)
ALL = (VOXEL, EXTENT, MASS, TFCE, BONFERRONI, RFT, RFT_CLUSTER, FDR)
SOME = (VOXEL, EXTENT, MASS, BONFERRONI)
FEW = (VOXEL, EXTENT, BONFERRONI)

POOLED = "the pooled error variance is not that of the contrast"
SKEWED = "flips and t presume symmetric errors"
UNEQUAL = "the smaller group is the noisier one"
EXCHANGED = "subjects of unequal variance are exchanged"
WELCH = "Welch's degrees of freedom are estimated from a small group, and fail far in the tail"
NO_EPSILON = "sphericity is presumed and does not hold"
EPSILON = "epsilon mends the F on average, not far in its tail"


@dataclass(frozen=True)
class Scenario:
    """A design under a kind of noise.

    Attributes
    ----------
    name : str
        Of the scratch files and the table.
    design : str
        A key of `validation.designs.DESIGNS`.
    groups : tuple of int
        Subjects of each group.
    levels : tuple of str
        What is tested.
    law : {'gaussian', 'heavy', 'skewed'}
    conditions : {'compound', 'noisy', 'autocorrelated'}
        Errors of a subject's maps: independent and alike, the first two with twice the SD, or each with 0.8 of the
        one before it.
    group_sd : tuple of float
        Of the errors of each group.
    outlier : float
        What the errors of one subject, drawn anew for each dataset, are multiplied by.
    n_lacking : int
        Subjects, drawn anew, whose maps lack a part of the volume.
    signal : float
        Effect in the innermost voxels, in SD of the errors of one map.
    tail : str
    fails : Mapping of str to str
        The levels that are known not to hold, and why.
    n_permutations : int
        200, so that 5% of them are a whole number.
    """

    name: str
    design: str
    groups: tuple[int, ...]
    levels: tuple[str, ...] = FEW
    law: str = "gaussian"
    conditions: str = "compound"
    group_sd: tuple[float, ...] = (1.0, 1.0, 1.0)
    outlier: float = 1.0
    n_lacking: int = 0
    signal: float = 0.0
    tail: str = "two-sided"
    fails: Mapping[str, str] = field(default_factory=dict)
    n_permutations: int = 200

    @property
    def title(self) -> str:
        """Say what noise it is."""
        laws = {"gaussian": "normal", "heavy": "heavy tails (t, 4 dof)", "skewed": "skewed (exponential)"}
        orders = {
            "compound": (),
            "noisy": ("two conditions twice as noisy",),
            "autocorrelated": ("autocorrelated conditions",),
        }
        parts = [laws[self.law], *orders[self.conditions]]
        if len(set(self.group_sd[: len(self.groups)])) > 1:
            parts.append("SD of the groups " + " : ".join(f"{sd:g}" for sd in self.group_sd[: len(self.groups)]))
        if self.outlier != 1:
            parts.append(f"one subject {self.outlier:g} times as noisy")
        if self.n_lacking:
            parts.append(f"{self.n_lacking} subjects lack a part")
        if self.tail != "two-sided":
            parts.append(f"{self.tail} tail")
        if self.signal:
            parts.append(f"effect of {self.signal:g} SD in a tenth of the voxels")
        return ", ".join(parts)


def _all_fail(levels: tuple[str, ...], reason: str) -> dict[str, str]:
    return dict.fromkeys(levels, reason)


_PARTITIONED_F = (VOXEL, EXTENT, TFCE, BONFERRONI)
_WELCH = (VOXEL, EXTENT, MASS, TFCE, BONFERRONI, FDR)
_PROPER_FDR = (FDR, PERM_FDR, VOXEL, BONFERRONI)
_ONE_NOISY = (2.0, 1.0)

# In the order of importance: the first have their datasets first.
SCENARIOS: tuple[Scenario, ...] = (
    Scenario("mean", "mean", (16,), ALL),
    Scenario("groups", "groups", (10, 10), ALL),
    Scenario("slope", "slope", (20,), ALL),
    Scenario("paired", "paired", (12,), ALL),
    Scenario("partitioned-t-noisy", "partitioned-t", (12,), ALL, conditions="noisy"),
    Scenario("pooled-t", "pooled-t", (12,), SOME),
    Scenario("pooled-t-noisy", "pooled-t", (12,), FEW, conditions="noisy", fails=_all_fail(FEW, POOLED)),
    Scenario("pooled-distant", "pooled-distant", (12,), FEW, conditions="autocorrelated", fails=_all_fail(FEW, POOLED)),
    Scenario("partitioned-distant", "partitioned-distant", (12,), FEW, conditions="autocorrelated"),
    Scenario("partitioned-F", "partitioned-F", (12,), _PARTITIONED_F),
    Scenario("partitioned-F-noisy", "partitioned-F", (12,), FEW, conditions="noisy"),
    Scenario("mean-small", "mean", (8,), (*SOME, TFCE), n_permutations=256),
    Scenario("mean-skewed", "mean", (16,), FEW, "skewed", fails=_all_fail(FEW, SKEWED)),
    Scenario("mean-heavy", "mean", (16,), (*SOME, RFT), "heavy"),
    Scenario("mean-outlier", "mean", (16,), (*SOME, RFT), outlier=5.0),
    Scenario("mean-missing", "mean", (16,), (*FEW, FDR), n_lacking=3),
    Scenario("welch-unequal", "welch", (6, 14), _WELCH, group_sd=_ONE_NOISY, fails=_all_fail(_WELCH, WELCH)),
    Scenario("groups-unequal", "groups", (6, 14), FEW, group_sd=_ONE_NOISY, fails=_all_fail(FEW, UNEQUAL)),
    Scenario("fdr-mean", "mean", (20,), _PROPER_FDR, signal=1.2),
    Scenario("mixed-F", "mixed-F", (8, 8), _PARTITIONED_F),
    Scenario("mixed-t-noisy", "mixed-t", (8, 8), FEW, conditions="noisy"),
    Scenario(
        "groups-balanced", "groups", (10, 10), FEW, group_sd=_ONE_NOISY, fails=_all_fail((VOXEL, EXTENT), EXCHANGED)
    ),
    Scenario("groups-mildly", "groups", (10, 10), FEW, group_sd=(1.5, 1.0)),
    Scenario("groups-many", "groups", (30, 30), FEW, group_sd=_ONE_NOISY, fails=_all_fail((VOXEL, EXTENT), EXCHANGED)),
    Scenario("welch-balanced", "welch", (10, 10), FEW, group_sd=_ONE_NOISY, fails=_all_fail((VOXEL, EXTENT), WELCH)),
    Scenario("welch-large-noisy", "welch", (14, 6), FEW, group_sd=_ONE_NOISY),
    Scenario("welch-more", "welch", (12, 28), FEW, group_sd=_ONE_NOISY, fails=_all_fail((VOXEL, BONFERRONI), WELCH)),
    Scenario("welch-many", "welch", (20, 20), FEW, group_sd=_ONE_NOISY, fails={VOXEL: WELCH}),
    Scenario("welch-most", "welch", (30, 70), FEW, group_sd=_ONE_NOISY),
    Scenario("groups-skewed", "groups", (10, 10), FEW, "skewed"),
    Scenario("slope-skewed", "slope", (20,), FEW, "skewed"),
    Scenario("slope-heavy", "slope", (20,), FEW, "heavy"),
    Scenario("slope-outlier", "slope", (20,), FEW, outlier=5.0),
    Scenario("three-groups", "three-groups", (7, 7, 7), _PARTITIONED_F),
    Scenario("mean-skewed-negative", "mean", (16,), FEW, "skewed", tail="negative", fails=_all_fail(FEW, SKEWED)),
    Scenario("mean-skewed-positive", "mean", (16,), FEW, "skewed", tail="positive"),
    Scenario("mean-skewed-many", "mean", (48,), FEW, "skewed", fails=_all_fail(FEW, SKEWED)),
    Scenario("pooled-F", "pooled-F", (12,), FEW),
    Scenario("pooled-F-noisy", "pooled-F", (12,), FEW, conditions="noisy", fails=_all_fail(FEW, POOLED)),
    Scenario(
        "uncorrected-F-noisy", "uncorrected-F", (12,), (BONFERRONI,), conditions="noisy", fails={BONFERRONI: NO_EPSILON}
    ),
    Scenario("mean-age", "mean-age", (16,), SOME),
    Scenario("welch-small", "welch", (6, 6), FEW),
    Scenario("welch-skewed", "welch", (10, 10), FEW, "skewed"),
    Scenario("groups-heavy", "groups", (10, 10), FEW, "heavy"),
    Scenario("groups-outlier", "groups", (10, 10), FEW, outlier=5.0),
    Scenario("slope-small", "slope", (8,), FEW),
    Scenario("slope-missing", "slope", (20,), FEW, n_lacking=3),
    Scenario("paired-heavy", "paired", (12,), FEW, "heavy"),
    Scenario("paired-skewed", "paired", (12,), FEW, "skewed"),
    Scenario(
        "partitioned-F-autocorrelated",
        "partitioned-F",
        (12,),
        FEW,
        conditions="autocorrelated",
        fails={BONFERRONI: EPSILON},
    ),
    Scenario("mixed-group", "mixed-group", (8, 8), FEW),
    Scenario("mixed-group-unequal", "mixed-group", (5, 11), FEW, group_sd=_ONE_NOISY, fails=_all_fail(FEW, UNEQUAL)),
    Scenario("fdr-groups", "groups", (14, 14), _PROPER_FDR, signal=1.6),
    Scenario("fdr-slope", "slope", (24,), _PROPER_FDR, signal=1.2),
    Scenario("meta", "meta-moments", (12,), (VOXEL, BONFERRONI), n_permutations=100),
    Scenario("meta-reml", "meta", (12,), (BONFERRONI,)),
    Scenario("regions-mean", "mean", (16,), REGIONAL),
    Scenario("regions-groups", "groups", (10, 10), REGIONAL),
    Scenario("regions-slope", "slope", (20,), REGIONAL),
    Scenario("regions-paired", "paired", (12,), REGIONAL),
    Scenario("regions-partitioned-t-noisy", "partitioned-t", (12,), REGIONAL, conditions="noisy"),
    Scenario("regions-partitioned-F", "partitioned-F", (12,), REGIONAL),
    Scenario("regions-pooled-t", "pooled-t", (12,), REGIONAL),
    Scenario("regions-mixed-F", "mixed-F", (8, 8), REGIONAL),
    Scenario("regions-mean-small", "mean", (8,), REGIONAL, n_permutations=256),
    Scenario("regions-mean-heavy", "mean", (16,), REGIONAL, "heavy"),
    Scenario("regions-mean-outlier", "mean", (16,), REGIONAL, outlier=5.0),
    Scenario("regions-mean-missing", "mean", (16,), REGIONAL, n_lacking=3),
    Scenario("regions-groups-skewed", "groups", (10, 10), REGIONAL, "skewed"),
    Scenario("regions-meta", "meta-moments", (12,), REGIONAL, n_permutations=100),
    Scenario("regions-mean-skewed", "mean", (16,), REGIONAL, "skewed", fails=_all_fail(REGIONAL, SKEWED)),
    Scenario(
        "regions-groups-unequal", "groups", (6, 14), REGIONAL, group_sd=_ONE_NOISY, fails=_all_fail(REGIONAL, UNEQUAL)
    ),
)
