"""What stands under `Model.Software.bids_group`: this app's own settings of a model and of its inference."""

from dataclasses import dataclass
from typing import get_args

from bids_group.entities import QUERY_KEYS
from bids_group.inputs.conjunction_spec import ConjunctionSpec, read_conjunctions
from bids_group.inputs.inference_spec import DEFAULT_INFERENCE, InferenceSpec, read_inferences
from bids_group.inputs.roi_spec import RoiSpec, read_rois
from bids_group.inputs.strict import Place
from bids_group.vocabulary import (
    ATLAS_NAMES,
    DEFAULT_ATLASES,
    Connectivity,
    ErrorTerm,
    Heterogeneity,
    Sphericity,
)

KEYS = (
    *("ErrorTerm", "Sphericity", "VarianceGroups", "Heterogeneity", "ExchangeabilityBlocks"),
    *("Mask", "MinCoverage", "Missing", "SmoothingFWHM", "Connectivity", "Atlases"),
    *("Inference", "Conjunctions", "ROIs", "SubjectMaps"),
)
LARGEST_FWHM_MM = 50
DEFAULT_CONNECTIVITY: Connectivity = 6  # faces, as nilearn and atlasreader have it


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
    exchangeability_blocks : tuple of str
        Columns from the outer to the inner blocks; empty to take them from the design.
    heterogeneity : str
        How a meta-analysis estimates the variance between subjects.
    min_coverage : float
        The fraction of the maps that a voxel needs, above 0 and at most 1.
    missing : str
        What is done with subjects that lack a cell of repeated measures: ``error`` or ``drop-subject``.
    smoothing_fwhm : float
        Of the maps before anything else, in mm; 0 for none.
    mask : str, dict of str to tuple of str, or None
        A path relative to the spec, or the entities of mask files.
    connectivity : int
        The neighbourhood of voxels: 6, 18 or 26.
    atlases : tuple of str
        Which label peaks and clusters.
    inference : tuple of InferenceSpec
    inference_is_default : bool
        Whether `Inference` was left out of the spec.
    conjunctions : tuple of ConjunctionSpec
    rois : RoiSpec or None
        Regions whose means are tested as well.
    subject_maps : dict of str to tuple of str, or None
        The entities of a map of each subject that is shown; None where nothing was asked for.
    path : str
        Where the settings stand, or would stand, in the spec.
    """

    error_term: ErrorTerm = "partitioned"
    sphericity: Sphericity = "greenhouse-geisser"
    variance_groups: str | None = None
    exchangeability_blocks: tuple[str, ...] = ()
    heterogeneity: Heterogeneity = "reml"
    min_coverage: float = 1.0
    missing: str = "error"
    smoothing_fwhm: float = 0.0
    mask: str | dict[str, tuple[str, ...]] | None = None
    connectivity: Connectivity = DEFAULT_CONNECTIVITY
    atlases: tuple[str, ...] = DEFAULT_ATLASES
    inference: tuple[InferenceSpec, ...] = DEFAULT_INFERENCE
    inference_is_default: bool = True
    conjunctions: tuple[ConjunctionSpec, ...] = ()
    rois: RoiSpec | None = None
    subject_maps: dict[str, tuple[str, ...]] | None = None
    path: str = "Software.bids_group"


def read_settings(place: Place) -> Settings:
    """Read the object under `Software.bids_group`."""
    fields = place.fields(KEYS)
    return Settings(
        error_term=fields["ErrorTerm"].choice(get_args(ErrorTerm)) if "ErrorTerm" in fields else "partitioned",
        sphericity=fields["Sphericity"].choice(get_args(Sphericity))
        if "Sphericity" in fields
        else "greenhouse-geisser",
        variance_groups=fields["VarianceGroups"].text() if "VarianceGroups" in fields else None,
        min_coverage=_read_coverage(fields["MinCoverage"]) if "MinCoverage" in fields else 1.0,
        exchangeability_blocks=_read_blocks(fields["ExchangeabilityBlocks"])
        if "ExchangeabilityBlocks" in fields
        else (),
        heterogeneity=fields["Heterogeneity"].choice(get_args(Heterogeneity)) if "Heterogeneity" in fields else "reml",
        missing=fields["Missing"].choice(("error", "drop-subject")) if "Missing" in fields else "error",
        smoothing_fwhm=_read_fwhm(fields["SmoothingFWHM"]) if "SmoothingFWHM" in fields else 0.0,
        mask=_read_mask(fields["Mask"]) if "Mask" in fields else None,
        connectivity=fields["Connectivity"].choice(get_args(Connectivity))
        if "Connectivity" in fields
        else DEFAULT_CONNECTIVITY,
        atlases=_read_atlases(fields["Atlases"]) if "Atlases" in fields else DEFAULT_ATLASES,
        inference=read_inferences(fields["Inference"]) if "Inference" in fields else DEFAULT_INFERENCE,
        inference_is_default="Inference" not in fields,
        conjunctions=read_conjunctions(fields["Conjunctions"]) if "Conjunctions" in fields else (),
        rois=read_rois(fields["ROIs"]) if "ROIs" in fields else None,
        subject_maps=_read_subject_maps(fields["SubjectMaps"]) if "SubjectMaps" in fields else None,
        path=place.path,
    )


def _read_subject_maps(place: Place) -> dict[str, tuple[str, ...]]:
    entities = read_entity_filter(place)
    if not entities:
        place.fail('name at least one entity of the maps, such as {"desc": "EffectsOfInterest"}, or leave the key out')
    return entities


def _read_blocks(place: Place) -> tuple[str, ...]:
    names = tuple(item.text() for item in place.one_or_more())
    if names == ("auto",):
        return ()
    if len(set(names)) < len(names):
        place.fail("a column stands there more than once")
    return names


def _read_atlases(place: Place) -> tuple[str, ...]:
    """Read the atlases; an empty list for none."""
    names = tuple(item.choice(ATLAS_NAMES) for item in place.items())
    if len(set(names)) < len(names):
        place.fail("an atlas stands there more than once")
    return names


def _read_coverage(place: Place) -> float:
    coverage = place.number()
    if not 0 < coverage <= 1:
        place.fail(f"the fraction of the maps that a voxel needs lies above 0 and is at most 1, found {coverage:g}")
    return coverage


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
