"""`ExchangeabilityBlocks`: columns to blocks, and what they must not divide or join."""

import pandas as pd
import pytest

from bids_group.errors import SpecError
from bids_group.inputs.plan import plan_node
from bids_group.inputs.query import InputTable
from bids_group.inputs.spec import parse_spec
from tests.builders import make_participants, make_rows, make_spec

SUBJECTS = ("01", "02", "03", "04")
PATH = "Nodes[0].Model.Software.bids_group.ExchangeabilityBlocks"


def plan(blocks, *, design="one-sample", error_term="partitioned", contrasts=("A",), **columns):
    settings = {"ExchangeabilityBlocks": blocks, **({"ErrorTerm": error_term} if design == "anova" else {})}
    node = parse_spec(make_spec(design, conditions=contrasts, settings=settings), "x").nodes[0]
    rows = make_rows(SUBJECTS, contrasts)
    inputs = InputTable(rows, rows.iloc[:0])
    return plan_node(node, inputs, make_participants(SUBJECTS, **columns)).models[0]


def test_words_are_numbered_and_numbers_keep_their_signs():
    assert plan("site", site=("b", "a", "a", "b")).blocks["site"].tolist() == [2, 1, 1, 2]
    model = plan(["root", "family"], root=(1, 1, 1, 1), family=(-7, -7, -3, -3))
    assert model.blocks["root"].tolist() == [1, 1, 1, 1]
    assert model.blocks["family"].tolist() == [-7, -7, -3, -3]


def test_auto_leaves_the_blocks_to_the_design():
    assert plan("auto").blocks is None


@pytest.mark.parametrize(
    ("values", "told"), [((1, 1, 0, 2), "has the value 0"), ((1, 1.5, 2, 2), "1.5"), (("a", "n/a", "a", "a"), "sub-02")]
)
def test_values_that_name_no_block_are_refused(values, told):
    with pytest.raises(SpecError, match=told) as caught:
        plan("site", site=values)
    assert caught.value.path == PATH


def test_maps_of_different_subjects_are_not_exchanged_under_a_pooled_error():
    model = plan("subject", design="anova", error_term="pooled", contrasts=("A", "B", "C"))
    assert pd.Series(model.blocks["subject"]).nunique() == 4
    with pytest.raises(SpecError, match="only maps within a subject may be exchanged"):
        plan("site", design="anova", error_term="pooled", contrasts=("A", "B", "C"), site=("a", "a", "b", "b"))


def test_a_subject_is_in_one_block_under_partitioned_errors():
    assert plan("site", design="anova", contrasts=("A", "B"), site=("a", "a", "b", "b")).blocks is not None
    with pytest.raises(SpecError, match="sub-01 is in several blocks"):
        plan("contrast", design="anova", contrasts=("A", "B"))
