"""The spec's contrasts as weights on a design's columns, each of them estimable."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bids_group.entities import to_label
from bids_group.errors import SpecError
from bids_group.inputs.contrast_spec import INTERCEPT, ContrastSpec
from bids_group.inputs.design import DesignMatrix
from bids_group.inputs.spec import NodeSpec
from bids_group.inputs.strict import suggest
from bids_group.vocabulary import Test

MOST_COLUMNS_LISTED = 12


@dataclass(frozen=True)
class Contrast:
    """A tested linear combination of coefficients.

    Attributes
    ----------
    name : str
        As in the spec.
    label : str
        As in file names and results.tsv.
    test : str
        ``t`` or ``F``.
    weights : ndarray of float64, shape (n_contrast_rows, n_columns)
    path : str
        Where it stands in the spec.
    """

    name: str
    label: str
    test: Test
    weights: NDArray[np.float64]
    path: str = "Contrasts"


def build_contrasts(node: NodeSpec, design: DesignMatrix, input_contrast: str | None) -> list[Contrast]:
    """Turn the spec's contrasts into weights on the design's columns.

    Parameters
    ----------
    node : NodeSpec
    design : DesignMatrix
    input_contrast : str or None
        The contrast of the maps under ``GroupBy: ["contrast"]``.

    Raises
    ------
    SpecError
        If a column is unknown, or a contrast is not estimable.
    """
    contrasts = [_weigh_columns(spec, design, input_contrast) for spec in node.contrasts]
    if node.dummy_contrasts is not None:
        columns = node.dummy_contrasts.columns or tuple(design.columns)
        for name in columns:
            path = (
                f"{node.dummy_contrasts.path}.Contrasts" if node.dummy_contrasts.columns else node.dummy_contrasts.path
            )
            spec = ContrastSpec(name, node.dummy_contrasts.test, (name,), ((1.0,),), path, is_dummy=True)
            contrasts.append(_weigh_columns(spec, design, input_contrast))
    return contrasts


def _weigh_columns(spec: ContrastSpec, design: DesignMatrix, input_contrast: str | None) -> Contrast:
    weights = np.zeros((len(spec.weights), len(design.columns)))
    for i, condition in enumerate(spec.conditions):
        if condition not in design.columns:
            raise SpecError(
                f"{spec.path}.ConditionList[{i}]" if spec.path.endswith("]") else spec.path,
                f"the design has no column {condition!r}; {suggest(condition, design.columns)}",
            )
        weights[:, design.columns.index(condition)] = [row[i] for row in spec.weights]
    _check_estimable(spec, weights, design)
    return Contrast(spec.name, _label_contrast(spec, input_contrast), spec.test, weights, spec.path)


def _label_contrast(spec: ContrastSpec, input_contrast: str | None) -> str:
    if input_contrast is None:
        return to_label(spec.name)
    is_intercept = spec.is_dummy and spec.conditions == (INTERCEPT,)
    return to_label(input_contrast) if is_intercept else to_label(input_contrast + spec.name)


def _check_estimable(spec: ContrastSpec, weights: NDArray[np.float64], design: DesignMatrix) -> None:
    inestimable = design.space.find_inestimable(weights)
    if not inestimable.any():
        return
    row = int(np.argmax(inestimable.any(axis=1)))
    concerned = [c for c, is_out in zip(design.columns, inestimable[row], strict=True) if is_out]
    listed = ", ".join(concerned[:MOST_COLUMNS_LISTED]) + (
        f" and {len(concerned) - MOST_COLUMNS_LISTED} more" if len(concerned) > MOST_COLUMNS_LISTED else ""
    )
    which = f"row {row} of the contrast" if len(weights) > 1 else "the contrast"
    raise SpecError(
        spec.path,
        f"{which} {spec.name!r} is not estimable: the columns {listed} are linearly dependent, so that the maps cannot "
        'tell them apart; test a difference between them (weights that sum to 0 exactly, thirds as "1/3"), or take a '
        "redundant column out of the model",
    )


def check_labels_differ(node: NodeSpec, labels: Sequence[str]) -> None:
    """Refuse contrasts whose outputs would have the same name.

    Raises
    ------
    SpecError
    """
    seen: set[str] = set()
    for label in labels:
        if label.casefold() in seen:
            raise SpecError(
                f"{node.path}.Contrasts",
                f"two contrasts or conjunctions would be written as contrast-{label}; rename one of them",
            )
        seen.add(label.casefold())
