"""The designs of simulated datasets: a spec as a user writes it, and the plan that the app makes of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bids_group.inputs.map_sources import MapFile
from bids_group.inputs.plan import NodePlan, plan_node
from bids_group.inputs.query import InputTable
from bids_group.inputs.spec import parse_spec
from tests.builders import make_participants, make_rows

SHARED = 0.6  # correlation of the covariate that is tested with one that is not
GROUPS = "abc"
NINE = tuple("ABCDEFGHI")
THREE = tuple("ABC")


@dataclass(frozen=True)
class Design:
    """A design and the contrast that is tested of it.

    Attributes
    ----------
    title : str
    X : tuple of str or int
    conditions : tuple of str
        `ConditionList` of the contrast.
    weights : tuple
        Numbers, or tuples of numbers: the rows of an F.
    cells : tuple of str
        The maps that each subject has.
    settings : Mapping
        Keys of ``Software.bids_group`` besides `Inference`.
    model_type : str
    """

    title: str
    X: tuple[str | int, ...]
    conditions: tuple[str | int, ...]
    weights: tuple[Any, ...]
    cells: tuple[str, ...] = ("A",)
    settings: Mapping[str, Any] = field(default_factory=dict)
    model_type: str = "glm"

    @property
    def test(self) -> str:
        """Return t, or F where there are several rows of weights."""
        return "F" if isinstance(self.weights[0], tuple) else "t"


def _compare_with_first(n: int) -> tuple[tuple[int, ...], ...]:
    return tuple((1, *(-int(other == row) for other in range(1, n))) for row in range(1, n))


def _name_mixed(groups: str = "ab") -> tuple[str, ...]:
    return tuple(f"contrast[{cell}]:group[{group}]" for group in groups for cell in THREE)


_POOLED, _NO_EPSILON = {"ErrorTerm": "pooled"}, {"Sphericity": "none"}
_DIFFERENCE = ("group[a]", "group[b]")
_OMNIBUS = _compare_with_first(len(NINE))

DESIGNS: dict[str, Design] = {
    "mean": Design("one sample", (1,), (1,), (1,)),
    "mean-age": Design("one sample, covariate", (1, "age"), (1,), (1,)),
    "groups": Design("two samples", ("group",), _DIFFERENCE, (1, -1)),
    "welch": Design(
        "two samples, `VarianceGroups`", ("group",), _DIFFERENCE, (1, -1), settings={"VarianceGroups": "group"}
    ),
    "three-groups": Design("three groups, F", ("group",), ("group[a]", "group[b]", "group[c]"), _compare_with_first(3)),
    "slope": Design("slope, two nuisance covariates", (1, "age", "score", "weight"), ("age",), (1,)),
    "paired": Design("paired", ("A", "B"), ("A", "B"), (1, -1), ("A", "B")),
    "pooled-t": Design("3 x 3 pooled, A - B", (*NINE, "subject"), ("A", "B"), (1, -1), NINE, _POOLED),
    "pooled-distant": Design("3 x 3 pooled, A - I", (*NINE, "subject"), ("A", "I"), (1, -1), NINE, _POOLED),
    "pooled-F": Design("3 x 3 pooled, omnibus F", (*NINE, "subject"), NINE, _OMNIBUS, NINE, _POOLED),
    "partitioned-t": Design("3 x 3 partitioned, A - B", NINE, ("A", "B"), (1, -1), NINE),
    "partitioned-distant": Design("3 x 3 partitioned, A - I", NINE, ("A", "I"), (1, -1), NINE),
    "partitioned-F": Design("3 x 3 partitioned, omnibus F", NINE, NINE, _OMNIBUS, NINE),
    "uncorrected-F": Design("3 x 3 partitioned, omnibus F, no epsilon", NINE, NINE, _OMNIBUS, NINE, _NO_EPSILON),
    "mixed-F": Design(
        "2 groups x 3 conditions, interaction F",
        ("contrast:group",),
        _name_mixed(),
        ((1, -1, 0, -1, 1, 0), (0, 1, -1, 0, -1, 1)),
        THREE,
    ),
    "mixed-t": Design(
        "2 groups x 3 conditions, interaction t", ("contrast:group",), _name_mixed(), (1, -1, 0, -1, 1, 0), THREE
    ),
    "mixed-group": Design(
        "2 groups x 3 conditions, groups", ("contrast:group",), _name_mixed(), (1, 1, 1, -1, -1, -1), THREE
    ),
    "meta": Design("meta-analysis, REML", (1,), (1,), (1,), model_type="meta"),
    "meta-moments": Design(
        "meta-analysis, moments", (1,), (1,), (1,), settings={"Heterogeneity": "dersimonian-laird"}, model_type="meta"
    ),
}


def plan_design(
    name: str,
    group_sizes: tuple[int, ...],
    rng: np.random.Generator,
    *,
    inference: list[dict[str, Any]],
    settings: Mapping[str, Any],
) -> NodePlan:
    """Plan a design as the app does, for subjects whose covariates are drawn.

    Parameters
    ----------
    name : str
        A key of `DESIGNS`.
    group_sizes : tuple of int
    rng : Generator
    inference : list of dict
        `Inference` of the spec.
    settings : Mapping
        Further keys of ``Software.bids_group``.
    """
    design = DESIGNS[name]
    n = sum(group_sizes)
    subjects = tuple(f"{number:02d}" for number in range(1, n + 1))
    rows = make_rows(subjects, design.cells)
    rows["source"] = [MapFile(Path(path), path, variance=MapFile(Path(path), path)) for path in rows["path"]]
    age = rng.standard_normal(n)
    score = SHARED * age + np.sqrt(1 - SHARED**2) * rng.standard_normal(n)
    participants = make_participants(
        subjects,
        group=[group for group, size in zip(GROUPS, group_sizes, strict=False) for _ in range(size)],
        age=age - age.mean(),
        score=score,
        weight=rng.standard_normal(n),
    )
    document = _write_spec(design, {**design.settings, **settings, "Inference": inference})
    return plan_node(parse_spec(document, Path(name)).nodes[0], InputTable(rows, rows.iloc[:0]), participants)


def _write_spec(design: Design, own: Mapping[str, Any]) -> dict[str, Any]:
    weights = [list(row) for row in design.weights] if design.test == "F" else list(design.weights)
    contrast = {"Name": "tested", "Test": design.test, "ConditionList": list(design.conditions), "Weights": weights}
    model = {"Type": design.model_type, "X": list(design.X), "Software": {"bids_group": dict(own)}}
    node = {"Level": "Dataset", "Name": "node", "GroupBy": [], "Model": model, "Contrasts": [contrast]}
    return {"Name": "simulated", "BIDSModelVersion": "1.0.0", "Nodes": [node]}
