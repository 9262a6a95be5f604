"""The app's own settings: documented defaults, and refusal of what this version cannot do."""

from dataclasses import asdict

import pytest

from bids_group.errors import SpecError
from bids_group.inputs.inference_spec import PermutationSpec
from bids_group.inputs.settings import KEYS, read_settings
from bids_group.inputs.strict import Place

PATH = "Nodes[0].Model.Software.bids_group"


def read(**keys):
    return read_settings(Place(keys, PATH))


def test_what_is_left_out_has_the_documented_defaults():
    settings = read()
    assert (settings.error_term, settings.mask, settings.connectivity) == ("partitioned", None, 6)
    assert settings.min_coverage == 1
    assert settings.inference_is_default
    entries = [(entry.correction, entry.alpha, entry.tail, entry.cluster_extent) for entry in settings.inference]
    assert entries == [
        ("none", 0.001, "two-sided", 0),
        ("fdr", 0.05, "two-sided", 0),
        ("bonferroni", 0.05, "two-sided", 0),
        ("permutation", 0.05, "two-sided", 0),
    ]
    test = settings.inference[-1].permutation
    assert test == PermutationSpec(10000, ("voxel", "cluster-size", "cluster-mass", "tfce"), 0, 0.5, 2.0, False)
    assert settings.inference[-1].cluster_forming == ("p", 0.001)


# Of each key a value other than what it is taken for where it is left out, and the settings that it changes.
OTHER_THAN_LEFT_OUT = {
    "ErrorTerm": ("pooled", {"error_term": "pooled"}),
    "Sphericity": ("none", {"sphericity": "none"}),
    "VarianceGroups": ("group", {"variance_groups": "group"}),
    "Heterogeneity": ("dersimonian-laird", {"heterogeneity": "dersimonian-laird"}),
    "ExchangeabilityBlocks": (["site", "family"], {"exchangeability_blocks": ("site", "family")}),
    "Mask": ("brain.nii", {"mask": "brain.nii"}),
    "MinCoverage": (0.5, {"min_coverage": 0.5}),
    "Missing": ("drop-subject", {"missing": "drop-subject"}),
    "SmoothingFWHM": (6, {"smoothing_fwhm": 6.0}),
    "Connectivity": (26, {"connectivity": 26}),
    "Atlases": ([], {"atlases": ()}),
    "SubjectMaps": ({"desc": "A"}, {"subject_maps": {"desc": ("A",)}}),
}


@pytest.mark.parametrize("key", OTHER_THAN_LEFT_OUT)
def test_a_key_changes_what_it_names_and_nothing_else(key):
    value, changed = OTHER_THAN_LEFT_OUT[key]
    assert asdict(read(**{key: value})) == asdict(read()) | changed


def test_every_key_is_read():
    lists = {
        "Inference": [{"Correction": "fdr"}],
        "Conjunctions": [{"Name": "both", "Contrasts": ["a", "b"]}],
        "ROIs": [{"Atlas": "aal"}],
    }
    assert {*OTHER_THAN_LEFT_OUT, *lists} == set(KEYS)
    settings = read(**lists)
    assert [entry.correction for entry in settings.inference] == ["fdr"]
    assert not settings.inference_is_default
    assert [entry.name for entry in settings.conjunctions] == ["both"]
    assert [source.atlas for source in settings.rois.sources] == ["aal"]


@pytest.mark.parametrize(("correction", "alpha"), [("none", 0.001), ("fdr", 0.05), ("bonferroni", 0.05)])
def test_an_entry_has_the_alpha_of_its_correction(correction, alpha):
    (entry,) = read(Inference=[{"Correction": correction}]).inference
    assert (entry.alpha, entry.tail, entry.cluster_extent, entry.contrasts) == (alpha, "two-sided", 0, None)
    assert entry.path == f"{PATH}.Inference[0]"


@pytest.mark.parametrize(
    ("entry", "path", "told"),
    [
        ({"Correction": "none", "Alpha": 0}, ".Alpha", "between 0 and 1"),
        ({"Correction": "none", "Alpha": 1}, ".Alpha", "between 0 and 1"),
        ({"Correction": "none", "Alpha": "5%"}, ".Alpha", "5%"),
        ({"Correction": "none", "Tail": "both"}, ".Tail", "two-sided"),
        ({"Correction": "none", "Tail": "Positive"}, ".Tail", "did you mean 'positive'"),
        ({"Correction": "none", "ClusterExtent": -1}, ".ClusterExtent", "at least 0"),
        ({"Correction": "none", "ClusterExtent": 1.5}, ".ClusterExtent", "whole number"),
        ({"Correction": "none", "ClusterExtent": True}, ".ClusterExtent", "whole number"),
        ({"Correction": "none", "Contrasts": []}, ".Contrasts", "empty"),
        ({"Correction": "none", "Seed": 0}, ".Seed", "no meaning"),
        ({"Correction": "permutation", "Permutations": 1}, ".Permutations", "at least 2"),
        ({"Correction": "permutation", "Levels": ["peak"]}, ".Levels[0]", "'voxel'"),
        ({"Correction": "permutation", "Levels": ["tfce", "tfce"]}, ".Levels", "more than once"),
        ({"Correction": "permutation", "TFCE": {"E": -1}}, ".TFCE.E", "from 0"),
        ({"Correction": "permutation", "Seed": -1}, ".Seed", "at least 0"),
        ({"Correction": "permutation", "ClusterThreshold": {"p": 1}}, ".ClusterThreshold.p", "between 0 and 1"),
        ({"Correction": "rft", "ClusterThreshold": {"p": 0.01}}, ".ClusterThreshold.p", "at most 0.001"),
        ({"Correction": "rft", "ClusterThreshold": {"p": 0.001, "t": 3}}, ".ClusterThreshold", "one threshold"),
        ({"Correction": "rft", "ClusterThreshold": {"t": -3}}, ".ClusterThreshold.t", "above 0"),
        ({"Correction": "fdr", "ClusterThreshold": {"p": 0.001}}, ".ClusterThreshold", "no meaning"),
        ({"Correction": "fdr", "Permutations": 100}, ".Permutations", "no meaning"),
        ({"Correction": "fwe"}, ".Correction", "not possible"),
        ({"Alpha": 0.05}, "", "'Correction' is missing"),
    ],
)
def test_faults_of_an_entry_are_told_with_their_place(entry, path, told):
    with pytest.raises(SpecError) as caught:
        read(Inference=[{"Correction": "fdr"}, entry])
    assert caught.value.path == f"{PATH}.Inference[1]{path}"
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MinCoverage", 0),
        ("MinCoverage", 1.01),
        ("MinCoverage", "80%"),
        ("MinCoverage", True),
        ("Missing", "drop"),
        ("SmoothingFWHM", -1),
        ("SmoothingFWHM", False),
        ("Sphericity", "box"),
        ("Sphericity", None),
        ("ExchangeabilityBlocks", ["site", "site"]),
        ("ExchangeabilityBlocks", []),
        ("VarianceGroups", ["group"]),
        ("Atlases", ["aal", "aal"]),
        ("Atlases", ["aall"]),
        ("Atlases", "aal"),
        ("ErrorTerm", "within"),
        ("Connectivity", 8),
        ("Connectivity", "6"),
        ("Mask", {"dsc": "brain"}),
        ("Mask", ""),
        ("Inference", []),
        ("Inference", {}),
        ("Inferences", []),
    ],
)
def test_what_cannot_be_done_is_refused_at_its_place(key, value):
    with pytest.raises(SpecError) as caught:
        read(**{key: value})
    assert caught.value.path.startswith(f"{PATH}.{key}")


def test_later_settings_may_ask_for_nothing():
    harmless = {"MinCoverage": 1, "Missing": "error", "SmoothingFWHM": 0, "ExchangeabilityBlocks": "auto"}
    assert read(**harmless) == read()


def test_atlases_may_be_chosen_and_left_out():
    assert read().atlases == ("aal", "desikan_killiany", "harvard_oxford")
    assert read(Atlases=["juelich", "aal"]).atlases == ("juelich", "aal")
    assert read(Atlases=[]).atlases == ()


def test_a_coverage_is_a_fraction_of_the_maps():
    assert read(MinCoverage="4/5").min_coverage == read(MinCoverage=0.8).min_coverage == 0.8


def test_a_whole_number_stays_one_however_json_writes_it():
    assert type(read(Connectivity=18.0).connectivity) is int


def test_a_number_in_quotes_is_told_to_lose_them():
    with pytest.raises(SpecError, match='"6" is text; write the number'):
        read(Connectivity="6")
