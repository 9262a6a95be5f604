"""What stands under `Model.Software.bids_group`: this app's own settings of a model and of its inference."""

from dataclasses import dataclass
from typing import get_args

from bids_group.entities import QUERY_KEYS
from bids_group.inputs.strict import Place
from bids_group.vocabulary import ClusterForming, Connectivity, ErrorTerm, Sphericity, Tail

KEYS = (
    *("ErrorTerm", "Sphericity", "VarianceGroups", "Mask", "Missing", "SmoothingFWHM", "Connectivity"),
    "Inference",
)
CORRECTIONS = ("none", "fdr", "bonferroni", "rft", "permutation")
AVAILABLE_CORRECTIONS = ("none", "fdr", "bonferroni", "rft")
TAILS: tuple[Tail, ...] = get_args(Tail)
PERMUTATION_KEYS = ("Permutations", "Levels", "Seed")
CLUSTER_FORMING_UNITS = ("p", "t", "z", "F")
LARGEST_CLUSTER_FORMING_P = 0.001  # random field theory: above it extents are not as the theory has them
DEFAULT_ALPHA = 0.05
SMALLEST_ALPHA = 1e-100
LARGEST_FWHM_MM = 50
LARGEST_Z = 20  # a p of 1e-89
DEFAULT_UNCORRECTED_ALPHA = 0.001  # Woo et al. 2014, as the usual cluster-forming threshold
DEFAULT_CONNECTIVITY: Connectivity = 6  # faces, as nilearn and atlasreader have it

# Settings that the interface names and this version cannot do yet, each with the one value that asks for nothing.
_LATER_SETTINGS = {
    "MinCoverage": (1.0, "maps of which some voxels are missing"),
    "ExchangeabilityBlocks": ("auto", "permutation"),
    "Atlases": (None, "atlas labels"),
}


@dataclass(frozen=True)
class InferenceSpec:
    """One entry of `Inference`: which correction, at which level, of which tail.

    Attributes
    ----------
    correction : str
        ``none``, ``fdr``, ``bonferroni`` or ``rft``.
    alpha : float
        The level of the entry's tail, 0 < alpha < 1.
    tail : str
        ``positive``, ``negative`` or ``two-sided``; no meaning for F.
    cluster_extent : int
        Clusters with fewer voxels are not shown.
    contrasts : tuple of str or None
        The contrasts it is for; None for all.
    name : str
        Appended to the label of its outputs.
    path : str
        Where it stands in the spec.
    cluster_forming : ClusterForming
        `ClusterThreshold`: of the extents that random field theory tests.
    """

    correction: str
    alpha: float
    tail: Tail
    cluster_extent: int = 0
    contrasts: tuple[str, ...] | None = None
    name: str = ""
    path: str = "Inference"
    cluster_forming: ClusterForming = ("p", LARGEST_CLUSTER_FORMING_P)


DEFAULT_INFERENCE = (
    InferenceSpec("none", DEFAULT_UNCORRECTED_ALPHA, "two-sided"),
    InferenceSpec("fdr", DEFAULT_ALPHA, "two-sided"),
    InferenceSpec("bonferroni", DEFAULT_ALPHA, "two-sided"),
)


@dataclass(frozen=True)
class Settings:
    """This app's own settings of one model.

    Attributes
    ----------
    error_term : str
        ``partitioned`` or ``pooled``; of repeated measures only.
    sphericity : str
        How F tests of several within-subject directions are corrected; of partitioned error terms only.
    variance_groups : str or None
        The factor whose levels have variances of their own.
    missing : str
        What is done with subjects that lack a cell of repeated measures: ``error`` or ``drop-subject``.
    smoothing_fwhm : float
        Of the maps before anything else, in mm; 0 for none.
    mask : str, dict of str to tuple of str, or None
        A path relative to the spec, or the entities of mask files.
    connectivity : int
        The neighbourhood of voxels: 6, 18 or 26.
    inference : tuple of InferenceSpec
    inference_is_default : bool
        Whether `Inference` was left out of the spec.
    path : str
        Where the settings stand, or would stand, in the spec.
    """

    error_term: ErrorTerm = "partitioned"
    sphericity: Sphericity = "greenhouse-geisser"
    variance_groups: str | None = None
    missing: str = "error"
    smoothing_fwhm: float = 0.0
    mask: str | dict[str, tuple[str, ...]] | None = None
    connectivity: Connectivity = DEFAULT_CONNECTIVITY
    inference: tuple[InferenceSpec, ...] = DEFAULT_INFERENCE
    inference_is_default: bool = True
    path: str = "Software.bids_group"


def read_settings(place: Place) -> Settings:
    """Read the object under `Software.bids_group`."""
    fields = place.fields((*KEYS, *_LATER_SETTINGS))
    for key, (harmless, what) in _LATER_SETTINGS.items():
        if key in fields and (isinstance(fields[key].value, bool | None) or fields[key].value != harmless):
            fields[key].fail(f"{what}: not available in this version; leave the key out")
    return Settings(
        error_term=fields["ErrorTerm"].choice(get_args(ErrorTerm)) if "ErrorTerm" in fields else "partitioned",
        sphericity=fields["Sphericity"].choice(get_args(Sphericity))
        if "Sphericity" in fields
        else "greenhouse-geisser",
        variance_groups=fields["VarianceGroups"].text() if "VarianceGroups" in fields else None,
        missing=fields["Missing"].choice(("error", "drop-subject")) if "Missing" in fields else "error",
        smoothing_fwhm=_read_fwhm(fields["SmoothingFWHM"]) if "SmoothingFWHM" in fields else 0.0,
        mask=_read_mask(fields["Mask"]) if "Mask" in fields else None,
        connectivity=fields["Connectivity"].choice(get_args(Connectivity))
        if "Connectivity" in fields
        else DEFAULT_CONNECTIVITY,
        inference=_read_inferences(fields["Inference"]) if "Inference" in fields else DEFAULT_INFERENCE,
        inference_is_default="Inference" not in fields,
        path=place.path,
    )


def _read_fwhm(place: Place) -> float:
    fwhm = place.number()
    if not 0 <= fwhm <= LARGEST_FWHM_MM:
        place.fail(f"the smoothing must be from 0 to {LARGEST_FWHM_MM} mm, found {fwhm:g}")
    return fwhm


def _read_mask(place: Place) -> str | dict[str, tuple[str, ...]]:
    if isinstance(place.value, dict):
        return read_entity_filter(place)
    return place.text()


def read_entity_filter(place: Place) -> dict[str, tuple[str, ...]]:
    """Read an object of entities, each with one value or a list of values.

    Returns
    -------
    dict of str to tuple of str
        Whole numbers, such as runs, as text.
    """
    found = {}
    for key, values in place.fields(QUERY_KEYS).items():
        listed = tuple(_read_entity_value(value) for value in values.one_or_more())
        if len(set(listed)) < len(listed):
            values.fail("a value stands in the list more than once")
        found[key] = listed
    return found


def _read_entity_value(place: Place) -> str:
    return str(place.whole_number()) if isinstance(place.value, int) else place.text()


def _read_inferences(place: Place) -> tuple[InferenceSpec, ...]:
    items = place.items()
    if not items:
        place.fail("the list is empty; leave the key out for the defaults")
    return tuple(_read_inference(item) for item in items)


def _read_inference(place: Place) -> InferenceSpec:
    known = ("Correction", "Alpha", "Tail", "ClusterExtent", "Contrasts", "Name", "ClusterThreshold", *PERMUTATION_KEYS)
    fields = place.fields(known, required=("Correction",))
    correction = fields["Correction"].choice(CORRECTIONS)
    if correction not in AVAILABLE_CORRECTIONS:
        fields["Correction"].fail(
            f"{correction!r} is not available in this version; use one of {', '.join(AVAILABLE_CORRECTIONS)}"
        )
    for key in PERMUTATION_KEYS if correction == "rft" else (*PERMUTATION_KEYS, "ClusterThreshold"):
        if key in fields:
            fields[key].fail(f"{key} has no meaning for the correction {correction!r}; leave it out")
    return InferenceSpec(
        correction=correction,
        alpha=_read_alpha(fields["Alpha"]) if "Alpha" in fields else _default_alpha(correction),
        tail=fields["Tail"].choice(TAILS) if "Tail" in fields else "two-sided",
        cluster_extent=fields["ClusterExtent"].whole_number() if "ClusterExtent" in fields else 0,
        contrasts=_read_names(fields["Contrasts"]) if "Contrasts" in fields else None,
        name=fields["Name"].text() if "Name" in fields else "",
        path=place.path,
        cluster_forming=_read_cluster_forming(fields["ClusterThreshold"])
        if "ClusterThreshold" in fields
        else ("p", LARGEST_CLUSTER_FORMING_P),
    )


def _read_cluster_forming(place: Place) -> ClusterForming:
    fields = place.fields(CLUSTER_FORMING_UNITS)
    if len(fields) != 1:
        place.fail('give one threshold, such as {"p": 0.001}')
    ((unit, item),) = fields.items()
    value = item.number()
    if value <= 0:
        item.fail(f"the threshold must be above 0, found {value:g}")
    if (unit == "p" and value < SMALLEST_ALPHA) or (unit == "z" and value > LARGEST_Z):
        item.fail(f"no statistic reaches a threshold of {unit} = {value:g}")
    if unit == "p" and value > LARGEST_CLUSTER_FORMING_P:
        item.fail(
            f"random field theory needs a cluster-forming p of at most {LARGEST_CLUSTER_FORMING_P}, found {value:g}"
        )
    forming: dict[str, ClusterForming] = {"p": ("p", value), "t": ("t", value), "z": ("z", value), "F": ("F", value)}
    return forming[unit]


def _default_alpha(correction: str) -> float:
    return DEFAULT_UNCORRECTED_ALPHA if correction == "none" else DEFAULT_ALPHA


def _read_alpha(place: Place) -> float:
    alpha = place.number()
    if not 0 < alpha < 1:
        place.fail(f"Alpha must lie between 0 and 1, found {alpha:g}")
    if alpha < SMALLEST_ALPHA:
        place.fail(f"Alpha {alpha:g} is below {SMALLEST_ALPHA:g}, where thresholds can no longer be computed")
    return alpha


def _read_names(place: Place) -> tuple[str, ...]:
    items = place.items()
    if not items:
        place.fail("the list is empty; leave the key out for all contrasts")
    return tuple(item.text() for item in items)
