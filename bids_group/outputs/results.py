"""What one model found, as it passes from the analysis to the tables, maps, figures and the summary."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bids_group.entities import to_label
from bids_group.inputs.contrasts import Contrast
from bids_group.inputs.design import DesignMatrix
from bids_group.inputs.images import AnalysedVoxels
from bids_group.inputs.inference_spec import InferenceSpec
from bids_group.inputs.spec import NodeSpec
from bids_group.outputs.naming import CORRECTION_LABELS, PERMUTATION_LABELS, ModelNames
from bids_group.outputs.region_results import RegionResult
from bids_group.stats.effect_sizes import EffectSize
from bids_group.stats.glm import Statistic
from bids_group.stats.inference import Inference
from bids_group.stats.smoothness import Smoothness
from bids_group.vocabulary import TAIL_ENDING, ErrorTerm


@dataclass(frozen=True)
class Rearranging:
    """How a permutation test rearranged the design.

    Attributes
    ----------
    words : str
        What was rearranged.
    leaves_nuisance : bool
        Whether no nuisance remained but what the rearrangements leave as it is.
    """

    words: str
    leaves_nuisance: bool


@dataclass(frozen=True)
class InferenceResult:
    """One correction of one contrast.

    Attributes
    ----------
    spec : InferenceSpec
        What was asked for.
    inference : Inference
        What was found.
    rearranging : Rearranging or None
        Of a permutation test.
    conjoined : tuple of InferenceResult
        What a conjunction was made from, in the order of its contrasts; empty of a contrast.
    """

    spec: InferenceSpec
    inference: Inference
    rearranging: Rearranging | None = None
    conjoined: "tuple[InferenceResult, ...]" = ()

    @property
    def label(self) -> str:
        """Return the label in file names and results.tsv."""
        facts = self.inference.permutation
        if facts is None:
            return label_inference(self.spec)
        ending = TAIL_ENDING if facts.tail is not None else ""
        return PERMUTATION_LABELS[facts.level] + ending + to_label(self.spec.name)


DOF_DECIMALS = 6  # what multiplication by epsilon and division rounds away
# The maps of an effect size: its value, and the lower and upper bound of its interval.
EFFECT_SIZE_MAPS = {
    "cohens_d": ("d", "dlower", "dupper"),
    "partial_eta_squared": ("etasq", "etasqlower", "etasqupper"),
}


def label_inference(spec: InferenceSpec) -> str:
    """Return the label of an entry's outputs: that of its correction, and its name."""
    return CORRECTION_LABELS[spec.correction] + to_label(spec.name)


@dataclass(frozen=True)
class Heterogeneous:
    """How far the effects of a meta-analysis differ beyond their known variances.

    Attributes
    ----------
    tau2 : ndarray of float64, shape (n_voxels,)
        Variance between subjects, in the squared units of the effects.
    i2 : ndarray of float64, shape (n_voxels,)
        Its share of the variance of a typical map.
    n_voxels_not_converged : int
        Voxels in which the search for tau2 ran out of iterations.
    """

    tau2: NDArray[np.float64]
    i2: NDArray[np.float64]
    n_voxels_not_converged: int


@dataclass(frozen=True)
class ContrastTest:
    """The statistic of a contrast, and what was found out about its error.

    Attributes
    ----------
    statistic : Statistic
    epsilon : ndarray of float64, shape (n_voxels,), or None
        What the degrees of freedom of an F of partitioned error terms were multiplied by.
    variance_ratio : float or None
        Under a pooled error term: the median of the contrast's own error variance over the pooled one.
    smoothness : Smoothness or None
        Of the residuals, where random field theory is asked for.
    effect_size : EffectSize or None
        Cohen's d or partial eta squared, with its confidence interval; None where there is none.
    n_subjects : ndarray of int64, shape (n_voxels,), or None
        The subjects whose maps the test of a voxel used; None where they are all of them.
    heterogeneous : Heterogeneous or None
        Of a meta-analysis.
    p : ndarray of float64, shape (n_voxels,), or None
        Uncorrected p of a conjunction; None where the statistic itself has one.
    """

    statistic: Statistic
    epsilon: NDArray[np.float64] | None = None
    variance_ratio: float | None = None
    smoothness: Smoothness | None = None
    effect_size: EffectSize | None = None
    n_subjects: NDArray[np.int64] | None = None
    heterogeneous: Heterogeneous | None = None
    p: NDArray[np.float64] | None = None

    @property
    def dof(self) -> tuple[float, ...]:
        """Return the degrees of freedom before any epsilon: those of the error for t, of effect and error for F.

        Their median over voxels where missing maps or the variances of groups give each voxel its own; empty for z.
        """
        if self.statistic.test == "z":
            return ()
        scale = 1.0 if self.epsilon is None else self.epsilon
        both = (self.statistic.dof_effect, self.statistic.dof)
        effect, error = (round(float(np.median(one / scale)), DOF_DECIMALS) for one in both)
        return (effect, error) if self.statistic.test == "F" else (error,)

    @property
    def own_dof(self) -> NDArray[np.float64] | None:
        """Return the degrees of freedom of each voxel's error, where they differ for another reason than epsilon."""
        if np.ndim(self.statistic.dof) == 0 or (self.epsilon is not None and self.n_subjects is None):
            return None
        dof = np.asarray(self.statistic.dof)
        return dof if self.epsilon is None else np.round(dof / self.epsilon, DOF_DECIMALS)

    @property
    def median_epsilon(self) -> float | None:
        """Return the median of epsilon over voxels."""
        return None if self.epsilon is None else float(np.median(self.epsilon))


@dataclass(frozen=True)
class ContrastResult:
    """One contrast, its statistic and all its corrections; or one conjunction, and the contrasts it is of."""

    contrast: Contrast
    test: ContrastTest
    inferences: tuple[InferenceResult, ...]
    conjoined: "tuple[ContrastResult, ...]" = ()

    @property
    def statistic(self) -> Statistic:
        """Return the statistic of the contrast."""
        return self.test.statistic


@dataclass(frozen=True)
class PeakValues:
    """What every map holds at the peaks of the largest clusters of a contrast.

    Attributes
    ----------
    label : str
        Of the correction that the clusters are of.
    clusters : ndarray of int, shape (n_peaks,)
        Their ids.
    voxels : ndarray of int, shape (n_peaks,)
        Positions among the voxels of the mask.
    values : ndarray of float32, shape (n_maps, n_peaks)
        In the units of the maps, NaN where a map lacks the voxel.
    """

    label: str
    clusters: NDArray[np.intp]
    voxels: NDArray[np.intp]
    values: NDArray[np.float32]


@dataclass(frozen=True)
class SubjectView:
    """A map from its left and from above: the value furthest from 0 on each line of sight.

    Attributes
    ----------
    from_left : ndarray of float32, shape (y, z)
        Front and top last.
    from_above : ndarray of float32, shape (x, y)
        Right and front last.
    voxel_sizes : tuple of 3 float
        Along x, y and z, in mm.
    """

    from_left: NDArray[np.float32]
    from_above: NDArray[np.float32]
    voxel_sizes: tuple[float, float, float]


@dataclass(frozen=True)
class SubjectViews:
    """A map of each subject as it is seen from two sides.

    Attributes
    ----------
    names : tuple of str
        Of the subjects that are shown.
    n_subjects : int
        How many there are.
    views : tuple of (SubjectView or None)
        Of each subject that is shown; None for one without a map.
    title : str
        What maps they are; empty for the mean of those that are analysed.
    unit : str or None
        The statistic that they hold; None where they have units of their own.
    """

    names: tuple[str, ...]
    n_subjects: int
    views: tuple[SubjectView | None, ...]
    title: str = ""
    unit: str | None = None

    @property
    def without_map(self) -> list[str]:
        """Return the names of the subjects shown that have no map."""
        return [name for name, view in zip(self.names, self.views, strict=True) if view is None]


@dataclass(frozen=True)
class InputPictures:
    """What figures show of the maps, which are themselves too large to be passed on.

    Attributes
    ----------
    cells : tuple of str
        The condition of each map.
    sd : ndarray of float64, shape (n_voxels,)
        Standard deviation over all maps that a voxel has, 0 where it has one.
    n_maps : ndarray of int64, shape (n_voxels,), or None
        How many that are; None where every voxel has them all.
    subjects : SubjectViews
    peaks : Mapping of str to PeakValues
        By the label of the contrast; of those with survivors.
    subject_maps : SubjectViews or None
        Of maps that are not analysed; in the first model of a node only, being the same for all.
    """

    cells: tuple[str, ...]
    sd: NDArray[np.float64]
    n_maps: NDArray[np.int64] | None
    subjects: SubjectViews
    peaks: Mapping[str, PeakValues]
    subject_maps: SubjectViews | None = None


@dataclass(frozen=True)
class ModelResult:
    """Everything that is written of one model.

    Attributes
    ----------
    node : NodeSpec
    names : ModelNames
    rows : DataFrame
        The maps, as in the design.
    n_excluded : int
        Effect maps that were found and are not in the model.
    design : DesignMatrix
    voxels : AnalysedVoxels
    mean_effect : ndarray of float64, shape (n_voxels,)
        The mean over all maps.
    quality : DataFrame
        What was measured of each map, and what is odd about it.
    mask_sources : Mapping of str to Path
        The given masks by BIDS URI or path; empty where the maps alone define the mask.
    contrasts : tuple of ContrastResult
    error_term : str or None
        Of repeated measures; None where every subject has one map.
    dof : float
        Of the error: of subjects where it is partitioned, else of maps.
    epsilon : float or None
        How spherical the errors of a pooled model are: the median of Huynh and Feldt's estimate.
    warnings : tuple of str
    pictures : InputPictures
    conjunctions : tuple of ContrastResult
        Of these contrasts.
    regions : RegionResult or None
        What was found in regions of interest.
    """

    node: NodeSpec
    names: ModelNames
    rows: pd.DataFrame
    n_excluded: int
    design: DesignMatrix
    voxels: AnalysedVoxels
    mean_effect: NDArray[np.float64]
    quality: pd.DataFrame
    mask_sources: Mapping[str, Path]
    contrasts: tuple[ContrastResult, ...]
    error_term: ErrorTerm | None
    dof: float
    epsilon: float | None
    warnings: tuple[str, ...]
    pictures: InputPictures
    conjunctions: tuple[ContrastResult, ...] = ()

    @property
    def results(self) -> tuple[ContrastResult, ...]:
        """Return everything that was tested: the contrasts, then their conjunctions."""
        return (*self.contrasts, *self.conjunctions)

    regions: RegionResult | None = None

    @property
    def is_in_mni_space(self) -> bool:
        """Return whether the maps say that they are in an MNI space, or say nothing."""
        return self.names.is_in_mni_space


# Which correction of a contrast is shown where one must stand for all: the first of these with survivors.
_HEADLINES = (
    *("tfce", "voxel", "cluster-mass", "cluster-size"),  # levels of a permutation test
    *("bonferroni", "rft", "fdr", "none", "uncorrected"),
)


def choose_headline(result: ContrastResult) -> InferenceResult | None:
    """Return the correction that stands for all of a contrast's: the strictest kind with survivors, None without any.

    Familywise by permutation (TFCE, voxels, mass, extent), then Bonferroni, random fields, FDR, uncorrected.
    """
    survived = [entry for entry in result.inferences if len(entry.inference.clusters.peak)]
    return min(survived, key=lambda entry: rank_headline(entry.inference), default=None)


def rank_headline(inference: Inference) -> int:
    """Return the place of a correction among those that may stand for all: 0 for the first to be taken."""
    facts = inference.permutation
    return _HEADLINES.index(inference.correction if facts is None else facts.level)


def list_statmaps(result: ContrastResult) -> tuple[str, ...]:
    """Return the unthresholded maps that a contrast has."""
    stats = {"t": ("effect", "variance", "t", "z", "p"), "F": ("F", "z", "p"), "z": ("z", "p")}[result.contrast.test]
    own = {"epsilon": result.test.epsilon, "dof": result.test.own_dof, "n": result.test.n_subjects}
    size = result.test.effect_size
    return (
        *stats,
        *(name for name, values in own.items() if values is not None),
        *(EFFECT_SIZE_MAPS[size.measure] if size is not None else ()),
        *(("tau2", "i2") if result.test.heterogeneous is not None else ()),
    )


def name_inference_files(names: ModelNames, result: ContrastResult, entry: InferenceResult) -> dict[str, str]:
    """Return the names of the files of one correction by what they are."""
    label, test = result.contrast.label, result.contrast.test
    facts = entry.inference.permutation
    has_null = facts is not None and facts.null is not None
    return {
        "map": names.statmap(label, test, entry.label),
        "logp": names.statmap(label, "logp", entry.label),
        "dseg": names.dseg(label, entry.label),
        "clusters": names.table(label, entry.label, "clusters"),
        "peaks": names.table(label, entry.label, "peaks"),
        **({"null": names.table(label, entry.label, "null")} if has_null else {}),
    }
