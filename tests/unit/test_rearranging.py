"""What is exchanged follows from the design: flips or permutations, of maps or subjects, within or as wholes."""

from math import factorial

import numpy as np
import pytest

from bids_group.analysis.rearranging import (
    check_permutations,
    choose_scheme,
    describe_schemes,
)
from bids_group.errors import SpecError
from bids_group.inputs.plan import plan_node
from bids_group.inputs.query import InputTable
from bids_group.inputs.spec import parse_spec
from bids_group.outputs.permutation_sidecars import write_count
from tests.builders import make_participants, make_rows, make_spec

SUBJECTS = tuple(f"{i:02d}" for i in range(1, 9))
GROUPS = ("p", "c") * 4
AGES = (31.5, 20.0, 44.0, 27.0, 52.5, 36.0, 23.0, 61.0)
PERMUTATION = {"Correction": "permutation", "Permutations": 500}


def contrast_of(name, test="t", **weights):
    values = list(weights.values())
    return {"Name": name, "Test": test, "ConditionList": list(weights), "Weights": [values] if test == "F" else values}


def plan(X, contrast, *, subjects=SUBJECTS, contrasts=("A",), entry=None, **settings):
    own = {"Inference": [{**PERMUTATION, **(entry or {})}], **settings}
    node = {"GroupBy": [], "Contrasts": [contrast]}
    document = make_spec(model={"X": X, "Software": {"bids_group": own}}, node=node)
    del document["Nodes"][0]["DummyContrasts"]
    rows = make_rows(subjects, contrasts)
    table = make_participants(SUBJECTS, group=GROUPS, age=AGES, site=tuple("aabbccdd"), score=AGES[::-1])
    found = plan_node(parse_spec(document, "x").nodes[0], InputTable(rows, rows.iloc[:0]), table)
    return found, found.models[0]


def choose(*arguments, **options):
    return choose_scheme(*plan(*arguments, **options), 0)


@pytest.mark.parametrize(
    ("X", "contrast", "kind", "leaves_nuisance"),
    [
        ([1], contrast_of("mean", **{"1": 1}), "flips", True),
        ([1, "age"], contrast_of("mean", **{"1": 1}), "flips", False),
        ([1, "age"], contrast_of("slope", age=1), "permutations", True),
        ([1, "age", "score"], contrast_of("slope", age=1), "permutations", False),
        (["group"], contrast_of("difference", **{"group[p]": 1, "group[c]": -1}), "permutations", True),
        (["group"], contrast_of("patients", **{"group[p]": 1}), "flips", False),
        (["group"], contrast_of("either", "F", **{"group[p]": 1, "group[c]": -1}), "permutations", True),
        (["age"], contrast_of("slope", age=1), "flips", True),
    ],
)
def test_signs_are_flipped_exactly_where_the_nuisance_does_not_span_the_constant(X, contrast, kind, leaves_nuisance):
    scheme = choose(X, contrast)
    assert (scheme.exchangeability.kind, scheme.leaves_nuisance) == (kind, leaves_nuisance)
    assert len(scheme.interest) == len(SUBJECTS)


def test_a_design_without_a_constant_is_warned_of():
    found, model = plan(["age"], contrast_of("slope", age=1))
    (warning,) = check_permutations(found, model)
    assert "the design has no constant" in warning


def test_interest_and_nuisance_are_orthonormal_and_span_the_design():
    found, model = plan([1, "age", "group[p]"], contrast_of("slope", age=1))
    scheme = choose_scheme(found, model, 0)
    together = np.hstack([scheme.interest, scheme.nuisance])
    np.testing.assert_allclose(together.T @ together, np.eye(3), atol=1e-12)
    basis = model.design.space.basis
    np.testing.assert_allclose(together @ together.T, basis @ basis.T, atol=1e-12)


def test_partitioned_errors_rearrange_subjects():
    scheme = choose(["A", "B", "C"], contrast_of("AB", A=1, B=-1), contrasts=("A", "B", "C"))
    assert scheme.exchangeability.kind == "flips"
    assert scheme.interest.shape == (8, 1)
    assert scheme.words == "sign flips of subjects, all conditions of a subject together"
    assert scheme.leaves_nuisance


def test_pooled_errors_rearrange_maps_within_subjects():
    options = {"contrasts": ("A", "B", "C"), "ErrorTerm": "pooled"}
    scheme = choose(["A", "B", "C", "subject"], contrast_of("AB", A=1, B=-1), **options)
    blocks = scheme.exchangeability.blocks
    assert scheme.exchangeability.kind == "permutations"
    assert scheme.interest.shape == (24, 1)
    assert (blocks[:, 0] < 0).all()  # subjects stay
    assert np.unique(blocks[:, 1]).size == 8
    assert (blocks[:, 1] > 0).all()
    assert scheme.words == "permutations of maps within each subject"


def test_blocks_of_the_spec_hold():
    difference = contrast_of("slope", age=1)
    scheme = choose([1, "age"], difference, ExchangeabilityBlocks="site")
    assert scheme.words == "permutations of subjects, in blocks by site"
    found, model = plan([1, "age"], difference, ExchangeabilityBlocks="site")
    assert describe_schemes(found, model) == ["slope: all 16 permutations of subjects, in blocks by site"]


def test_within_blocks_a_nuisance_of_the_blocks_is_left_as_it_is():
    slope = contrast_of("slope", age=1)
    assert choose(["site", "age"], slope, ExchangeabilityBlocks="site").leaves_nuisance
    assert not choose(["site", "age"], slope).leaves_nuisance


def test_a_level_that_cannot_be_reached_is_warned_of():
    found, model = plan([1], contrast_of("mean", **{"1": 1}), subjects=SUBJECTS[:5])
    (warning,) = check_permutations(found, model)
    assert "with 32 rearrangements (sign flips of subjects) no p can be below 0.0625" in warning
    assert (
        check_permutations(
            *plan([1], contrast_of("mean", **{"1": 1}), subjects=SUBJECTS[:5], entry={"Tail": "positive"})
        )
        == []
    )


def test_blocks_that_allow_nothing_are_refused():
    found, model = plan(["group"], contrast_of("d", **{"group[p]": 1, "group[c]": -1}), ExchangeabilityBlocks="group")
    with pytest.raises(SpecError, match="nothing can be rearranged"):
        check_permutations(found, model)


@pytest.mark.parametrize(
    ("threshold", "X", "contrast", "told"),
    [
        ({"F": 2}, [1], contrast_of("mean", **{"1": 1}), "cannot be laid on t"),
        ({"t": 2}, ["group"], contrast_of("either", "F", **{"group[p]": 1, "group[c]": -1}), "cannot be laid on F"),
        (
            {"p": 1e-90},
            ["group"],
            contrast_of("either", "F", **{"group[p]": 1, "group[c]": -1}),
            "no statistic is as large",
        ),
    ],
)
def test_a_threshold_that_does_not_fit_is_refused_before_a_map_is_read(threshold, X, contrast, told):
    found, model = plan(X, contrast, entry={"ClusterThreshold": threshold})
    with pytest.raises(SpecError, match=told) as caught:
        check_permutations(found, model)
    assert caught.value.path.endswith("Inference[0].ClusterThreshold")


@pytest.mark.parametrize(
    ("tail", "lowest"),  # scipy.stats.t.isf(0.001, 7), and of half of it
    [("positive", 4.785290), ("negative", 4.785290), ("two-sided", 5.407883)],
)
def test_a_height_too_low_for_random_field_theory_is_refused_before_the_maps_are_read(tail, lowest):
    entry = {"Correction": "rft", "Tail": tail}
    settings = {"Inference": [{**entry, "ClusterThreshold": {"t": lowest - 1e-4}}]}
    with pytest.raises(SpecError, match=r"cluster-forming p of at most 0\.001, not 0\.001") as caught:
        check_permutations(*plan([1], contrast_of("mean", **{"1": 1}), **settings))
    assert caught.value.path.endswith("Inference[0].ClusterThreshold")
    settings["Inference"][0]["ClusterThreshold"] = {"t": lowest + 1e-4}
    assert check_permutations(*plan([1], contrast_of("mean", **{"1": 1}), **settings)) == []


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (2**63 - 1, 2**63 - 1),
        (2**63, "9.223e+18"),
        (2**2000, "1.148e+602"),  # beyond floats
        (factorial(2000), "3.316e+5735"),  # beyond the digits that Python writes of an integer
    ],
    ids=["fits", "does not fit", "no float", "no text"],
)
def test_any_number_of_rearrangements_can_be_written(number, written):
    assert write_count(number) == written


@pytest.mark.parametrize(("n_subjects", "told"), [(2000, "10^602"), (15_000, "10^4515")])
def test_sign_flips_of_thousands_of_subjects_are_counted(n_subjects, told):
    found, model = plan([1], contrast_of("mean", **{"1": 1}), subjects=[f"{i:05d}" for i in range(n_subjects)])
    assert describe_schemes(found, model) == [f"mean: 500 of some {told} sign flips of subjects"]
