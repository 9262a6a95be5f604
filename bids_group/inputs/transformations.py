"""Transformations of variables, by the names of pybids-transforms-v1, over the rows of one model.

They are done in the order in which they stand. `Filter` excludes rows; whatever is computed from several rows (the mean
and the SD of `Scale` and `Demean`) is computed again over the rows that remain, so that what enters the design
describes the design's own rows.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from bids_group.errors import DataError, SpecError
from bids_group.inputs.row_query import RowQueryError, select_rows
from bids_group.inputs.strict import Place
from bids_group.inputs.variables import Variable, VariableTable, make_covariate

TRANSFORMER = "pybids-transforms-v1"


@dataclass(frozen=True)
class Instruction:
    """One transformation of the spec.

    Attributes
    ----------
    name : str
    inputs : tuple of str
    outputs : tuple of str
        As many as `inputs`; the same names where the spec gives none.
    options : dict
        Everything else, by the spec's keys.
    path : str
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    path: str = "Transformations"


def read_instructions(place: Place) -> tuple[Instruction, ...]:
    """Read the object `Transformations`."""
    fields = place.fields(("Transformer", "Instructions"), required=("Transformer", "Instructions"))
    fields["Transformer"].choice((TRANSFORMER,))
    return tuple(_read_instruction(item) for item in fields["Instructions"].items())


def _read_instruction(place: Place) -> Instruction:
    name = place.fields(place.value if isinstance(place.value, dict) else (), required=("Name",))["Name"].choice(_KNOWN)
    options = {"Name": Place.text, "Input": _read_names, **_KNOWN[name].options}
    fields = place.fields(options, required=("Name", "Input", *_KNOWN[name].required))
    values = {key: options[key](item) for key, item in fields.items()}
    inputs = values.pop("Input")
    outputs = values.pop("Output", inputs)
    if len(outputs) != len(inputs):
        fields["Output"].fail(f"{len(outputs)} names for {len(inputs)} members of Input")
    del values["Name"]
    return Instruction(name, inputs, outputs, values, place.path)


def _read_names(place: Place) -> tuple[str, ...]:
    return tuple(item.text() for item in place.one_or_more())


def apply_instructions(
    instructions: tuple[Instruction, ...], table: VariableTable
) -> tuple[VariableTable, dict[Any, str]]:
    """Carry out transformations.

    Parameters
    ----------
    instructions : tuple of Instruction
    table : VariableTable

    Returns
    -------
    VariableTable
        Of the rows that remain.
    dict
        The excluded rows, by their label in ``table.rows``, with the reason.

    Raises
    ------
    SpecError
        If a variable is missing or unfit for what is asked.
    """
    first_pass, excluded = table, {}
    for instruction in instructions:
        if instruction.name == "Filter":
            kept = _evaluate_filter(instruction, first_pass)
            excluded.update(dict.fromkeys(kept.index[~kept], f"Filter: {instruction.options['Query']}"))
            first_pass = first_pass.restrict(kept.index[kept])
        else:
            first_pass = _apply(instruction, first_pass)
    if not excluded:
        return first_pass, {}
    final = table.restrict(first_pass.rows.index)
    for instruction in instructions:
        if instruction.name != "Filter":
            final = _apply(instruction, final)
    return final, excluded


def _evaluate_filter(instruction: Instruction, table: VariableTable) -> pd.Series:
    path = f"{instruction.path}.Query"
    try:
        for name in (*instruction.inputs, *instruction.options.get("By", ())):
            table.resolve(name)
        kept = select_rows(instruction.options["Query"], table.resolve)
    except (DataError, RowQueryError) as error:
        raise SpecError(path, str(error)) from error
    if not kept.any():
        raise SpecError(path, f"no row of the model fulfils {instruction.options['Query']!r}")
    return kept


def _apply(instruction: Instruction, table: VariableTable) -> VariableTable:
    made = {}
    for name, output in zip(instruction.inputs, instruction.outputs, strict=True):
        try:
            variable = table.resolve(name, as_factor=instruction.name == "Factor")
            made[output] = _KNOWN[instruction.name].compute(variable, instruction.options)
        except DataError as error:
            raise SpecError(f"{instruction.path}.Input", f"{name!r}: {error}") from error
    return table.with_variables(made)


def _numbers(variable: Variable) -> pd.Series:
    if variable.numbers is None:
        raise DataError("it is a factor, not a number")
    return variable.numbers


def _make_factor(variable: Variable, options: dict[str, Any]) -> Variable:
    return replace(variable, numbers=None)


def _demean(variable: Variable, options: dict[str, Any]) -> Variable:
    numbers = _numbers(variable)
    return make_covariate(numbers - numbers.mean(), variable.source)


def _scale(variable: Variable, options: dict[str, Any]) -> Variable:
    numbers = _numbers(variable)
    centre = numbers.mean() if options.get("Demean", True) else 0.0
    rescale = options.get("Rescale", True)
    # Counted, because the SD of equal numbers can be rounding above 0.
    if rescale and numbers.nunique() < 2:
        raise DataError(f"it has one value only over the {len(numbers)} rows of the model and cannot be scaled")
    spread = numbers.std(ddof=1) if rescale else 1.0
    return make_covariate((numbers - centre) / spread, variable.source)


def _threshold(variable: Variable, options: dict[str, Any]) -> Variable:
    numbers = _numbers(variable)
    limit = options.get("Threshold", 0.0)
    compared = numbers if options.get("Signed", True) else numbers.abs()
    kept = compared >= limit if options.get("Above", True) else compared <= limit
    values = 1.0 if options.get("Binarize", False) else numbers
    return make_covariate(pd.Series(np.where(kept, values, 0.0), numbers.index).where(numbers.notna()), variable.source)


@dataclass(frozen=True)
class _Transformation:
    """How a transformation's options are read and what it computes."""

    compute: Callable[[Variable, dict[str, Any]], Variable]
    options: dict[str, Callable[[Place], Any]]
    required: tuple[str, ...] = ()


_KNOWN = {
    "Factor": _Transformation(_make_factor, {}),
    "Demean": _Transformation(_demean, {"Output": _read_names}),
    "Scale": _Transformation(_scale, {"Output": _read_names, "Demean": Place.boolean, "Rescale": Place.boolean}),
    "Threshold": _Transformation(
        _threshold,
        {
            "Output": _read_names,
            "Threshold": Place.number,
            "Binarize": Place.boolean,
            "Above": Place.boolean,
            "Signed": Place.boolean,
        },
    ),
    "Filter": _Transformation(_make_factor, {"Query": Place.text, "By": _read_names}, required=("Query",)),
}
