"""Transformations of variables, by the names of pybids-transforms-v1, over the rows of one model.

They are done in the order in which they stand. `Filter` and `DropNA` exclude rows; whatever is computed from several
rows (the mean and the SD of `Scale` and `Demean`) is computed again over the rows that remain, so that what enters the
design describes the design's own rows.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, TypeVar

from bids_group.errors import DataError, SpecError
from bids_group.inputs import transformation_rules as rules
from bids_group.inputs.row_query import RowQueryError, select_rows
from bids_group.inputs.strict import Place
from bids_group.inputs.variables import Variable, VariableTable

T = TypeVar("T")

TRANSFORMER = "pybids-transforms-v1"


@dataclass(frozen=True)
class Instruction:
    """One transformation of the spec.

    Attributes
    ----------
    name : str
    inputs : tuple of str
    outputs : tuple of str
        As many as `inputs`, or one where one variable is made of several; the inputs where the spec gives none.
    options : dict
        Everything else, by the spec's keys.
    path : str
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    path: str = "Transformations"


CarryOut = Callable[[Instruction, VariableTable], VariableTable]


def read_instructions(place: Place) -> tuple[Instruction, ...]:
    """Read the object `Transformations`."""
    fields = place.fields(("Transformer", "Instructions"), required=("Transformer", "Instructions"))
    fields["Transformer"].choice((TRANSFORMER,))
    return tuple(_read_instruction(item) for item in fields["Instructions"].items())


def _read_instruction(place: Place) -> Instruction:
    name = _read_name(place.fields(place.value if isinstance(place.value, dict) else (), required=("Name",))["Name"])
    known = _KNOWN[name]
    options = {"Name": Place.text, "Input": _read_names, **known.options}
    if known.output != "none":
        options["Output"] = _read_names
    fields = place.fields(options, required=("Name", "Input", *known.required))
    values = {key: options[key](item) for key, item in fields.items()}
    inputs = values.pop("Input")
    outputs = values.pop("Output", inputs)
    _check_counts(known, fields, len(inputs), len(outputs), values.get("Weights"))
    del values["Name"]
    return Instruction(name, inputs, outputs, values, place.path)


def _read_name(place: Place) -> str:
    if isinstance(place.value, str) and place.value in _REFUSED:
        place.fail(f"{place.value!r} is not possible for the variables of a group analysis: {_REFUSED[place.value]}")
    name: str = place.choice(_KNOWN)
    return name


def _check_counts(
    known: "_Transformation",
    fields: dict[str, Place],
    n_inputs: int,
    n_outputs: int,
    weights: tuple[float, ...] | None,
) -> None:
    if known.output == "one" and n_outputs != 1:
        fields["Output"].fail(f"{n_outputs} names, where one variable is made")
    if known.output == "each" and n_outputs != n_inputs:
        fields["Output"].fail(f"{n_outputs} names for {n_inputs} members of Input")
    if "Output" in fields and len(set(_read_names(fields["Output"]))) != n_outputs:
        fields["Output"].fail("a name stands there more than once")
    if weights is not None and len(weights) != n_inputs:
        fields["Weights"].fail(f"{len(weights)} weights for {n_inputs} members of Input")


def _read_names(place: Place) -> tuple[str, ...]:
    return tuple(item.text() for item in place.one_or_more())


def _read_weights(place: Place) -> tuple[float, ...]:
    return tuple(item.number() for item in place.one_or_more())


def _read_replacements(place: Place) -> dict[str, float | str]:
    members = place.fields(place.value if isinstance(place.value, dict) else ())
    if not members:
        place.fail("nothing to replace; write {old: new}")
    return {old: new.text() if isinstance(new.value, str) else new.number() for old, new in members.items()}


def _read_attribute(place: Place) -> str:
    if place.value in ("onset", "duration"):
        place.fail("variables of a group analysis have no onset or duration; 'value' is possible")
    value: str = place.choice(("value",))
    return value


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
        if instruction.name in _EXCLUDING:
            reasons = _EXCLUDING[instruction.name](instruction, first_pass)
            excluded.update(reasons)
            first_pass = first_pass.restrict(first_pass.rows.index.drop(list(reasons)))
        else:
            first_pass = _KNOWN[instruction.name].carry_out(instruction, first_pass)
    if not excluded:
        return first_pass, {}
    final = table.restrict(first_pass.rows.index)
    for instruction in instructions:
        if instruction.name not in _EXCLUDING:
            final = _KNOWN[instruction.name].carry_out(instruction, final)
    return final, excluded


def _find_unfiltered(instruction: Instruction, table: VariableTable) -> dict[Any, str]:
    """Return the rows that do not fulfil a query."""
    path = f"{instruction.path}.Query"
    try:
        for name in (*instruction.inputs, *instruction.options.get("By", ())):
            table.resolve(name)
        kept = select_rows(instruction.options["Query"], table.resolve)
    except (DataError, RowQueryError) as error:
        raise SpecError(path, str(error)) from error
    if not kept.any():
        raise SpecError(path, f"no row of the model fulfils {instruction.options['Query']!r}")
    return dict.fromkeys(kept.index[~kept], f"Filter: {instruction.options['Query']}")


def _find_incomplete(instruction: Instruction, table: VariableTable) -> dict[Any, str]:
    """Return the rows in which an input has no value."""
    reasons: dict[Any, str] = {}
    for name in instruction.inputs:
        is_missing = _resolve(instruction, name, table).is_missing
        for row in is_missing.index[is_missing]:
            reasons[row] = f"{reasons[row]}, {name}" if row in reasons else f"DropNA: no value of {name}"
    if len(reasons) == len(table.rows):
        raise SpecError(f"{instruction.path}.Input", "every row of the model lacks one of these values")
    return reasons


_EXCLUDING = {"Filter": _find_unfiltered, "DropNA": _find_incomplete}


def _resolve(instruction: Instruction, name: str, table: VariableTable, *, as_factor: bool = False) -> Variable:
    return _locate(instruction, name, lambda: table.resolve(name, as_factor=as_factor))


def _locate(instruction: Instruction, name: str, compute: Callable[[], T], *, key: str = "Input") -> T:
    """Give the fault of a variable its place in the spec."""
    try:
        return compute()
    except DataError as error:
        told = str(error) if repr(name) in str(error) else f"{name!r}: {error}"
        raise SpecError(f"{instruction.path}.{key}", told) from error


def _each(rule: Callable[[Variable, dict[str, Any]], Variable], *, as_factor: bool = False) -> CarryOut:
    """Make a transformation of a computation that makes one variable of one."""

    def carry_out(instruction: Instruction, table: VariableTable) -> VariableTable:
        made = {}
        for name, output in zip(instruction.inputs, instruction.outputs, strict=True):
            variable = _resolve(instruction, name, table, as_factor=as_factor)
            made[output] = _locate(instruction, name, partial(rule, variable, instruction.options))
        return table.with_variables(made)

    return carry_out


def _together(rule: Callable[[list[Variable], dict[str, Any]], Variable]) -> CarryOut:
    """Make a transformation of a computation that makes one variable of several."""

    def carry_out(instruction: Instruction, table: VariableTable) -> VariableTable:
        variables = [_resolve(instruction, name, table) for name in instruction.inputs]
        for name, variable in zip(instruction.inputs, variables, strict=True):
            _locate(instruction, name, partial(rules.get_numbers, variable))
        made = _locate(instruction, instruction.outputs[0], partial(rule, variables, instruction.options))
        return table.with_variables({instruction.outputs[0]: made})

    return carry_out


def _rename(instruction: Instruction, table: VariableTable) -> VariableTable:
    made = {
        output: _resolve(instruction, name, table)
        for name, output in zip(instruction.inputs, instruction.outputs, strict=True)
    }
    return table.without_variables(instruction.inputs).with_variables(made)


def _delete(instruction: Instruction, table: VariableTable) -> VariableTable:
    for name in instruction.inputs:
        _check_known(instruction, name, table)
    return table.without_variables(instruction.inputs)


def _select(instruction: Instruction, table: VariableTable) -> VariableTable:
    """Keep some columns and computed variables; the maps keep their contrasts and entities."""
    for name in instruction.inputs:
        _check_known(instruction, name, table)
    return table.without_variables({*table.computed, *table.find_columns()} - set(instruction.inputs))


def _check_known(instruction: Instruction, name: str, table: VariableTable) -> None:
    if name not in table.find_names():
        _resolve(instruction, name, table)  # to say what is wrong


def _orthogonalize(instruction: Instruction, table: VariableTable) -> VariableTable:
    others = []
    for name in instruction.options["Other"]:
        find = partial(table.resolve, name)
        others.append(_locate(instruction, name, find, key="Other"))
        _locate(instruction, name, partial(rules.get_numbers, others[-1]), key="Other")
    return _each(lambda variable, _: rules.orthogonalize(variable, others))(instruction, table)


def _replace(instruction: Instruction, table: VariableTable) -> VariableTable:
    """Replace values; that may make numbers of a column in which words stand among them."""
    texts = [_resolve(instruction, name, table, as_factor=True) for name in instruction.inputs]
    replacements = instruction.options["Replace"]
    first = instruction.inputs[0]
    _locate(instruction, first, lambda: rules.check_replaced(texts, list(replacements)), key="Replace")
    made = {}
    for name, text, output in zip(instruction.inputs, texts, instruction.outputs, strict=True):
        variable, is_mixed = _resolve_or_text(name, text, table)
        compute = partial(rules.replace_values, variable, replacements, reread=is_mixed)
        made[output] = _locate(instruction, name, compute)
    return table.with_variables(made)


def _resolve_or_text(name: str, text: Variable, table: VariableTable) -> tuple[Variable, bool]:
    try:
        return table.resolve(name), False
    except DataError:  # words among numbers: the one fault that taking the values as text avoids
        return text, True


@dataclass(frozen=True)
class _Transformation:
    """How a transformation's options are read and what it does; `output` says how many variables it makes."""

    carry_out: CarryOut
    options: dict[str, Callable[[Place], Any]] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    output: Literal["each", "one", "none"] = "each"


def _leave(instruction: Instruction, table: VariableTable) -> VariableTable:
    """Change no variable: what excludes rows is carried out apart."""
    return table


_KNOWN = {
    "And": _Transformation(_together(lambda v, _: rules.conjoin(v)), required=("Output",), output="one"),
    "Copy": _Transformation(_each(lambda v, _: v), required=("Output",)),
    "Delete": _Transformation(_delete, output="none"),
    "Demean": _Transformation(_each(lambda v, _: rules.demean(v))),
    "DropNA": _Transformation(_leave, output="none"),
    "Factor": _Transformation(_each(lambda v, _: replace(v, numbers=None), as_factor=True), output="none"),
    "Filter": _Transformation(_leave, {"Query": Place.text, "By": _read_names}, required=("Query",), output="none"),
    "Not": _Transformation(_each(lambda v, _: rules.negate(v))),
    "Or": _Transformation(_together(lambda v, _: rules.disjoin(v)), required=("Output",), output="one"),
    "Orthogonalize": _Transformation(_orthogonalize, {"Other": _read_names}, required=("Other",)),
    "Power": _Transformation(
        _each(lambda v, o: rules.raise_to_power(v, exponent=o["Value"])), {"Value": Place.number}, required=("Value",)
    ),
    "Product": _Transformation(_together(lambda v, _: rules.multiply(v)), required=("Output",), output="one"),
    "Rename": _Transformation(_rename, required=("Output",)),
    "Replace": _Transformation(
        _replace, {"Replace": _read_replacements, "Attribute": _read_attribute}, required=("Replace",)
    ),
    "Scale": _Transformation(
        _each(lambda v, o: rules.scale(v, centre=o.get("Demean", True), rescale=o.get("Rescale", True))),
        {"Demean": Place.boolean, "Rescale": Place.boolean},
    ),
    "Select": _Transformation(_select, output="none"),
    "Sum": _Transformation(
        _together(lambda v, o: rules.add(v, weights=o.get("Weights"))),
        {"Weights": _read_weights},
        required=("Output",),
        output="one",
    ),
    "Threshold": _Transformation(
        _each(
            lambda v, o: rules.threshold(
                v,
                limit=o.get("Threshold", 0.0),
                above=o.get("Above", True),
                signed=o.get("Signed", True),
                binarize=o.get("Binarize", False),
            )
        ),
        {
            "Threshold": Place.number,
            "Binarize": Place.boolean,
            "Above": Place.boolean,
            "Signed": Place.boolean,
        },
    ),
}
_TIME = "it works along the time of a run, and these variables have one value per map; it belongs to the first level"
_REFUSED = {
    **dict.fromkeys(("Convolve", "Lag", "Resample", "ToDense"), _TIME),
    "Assign": "it moves onsets, durations and amplitudes of events; to copy values use Copy",
    "Concatenate": "combinations of factors are interactions: write group:site in X",
    "Drop": "it is called Delete (variables) or DropNA (rows)",
    "Group": "a model spec has no key for the group's name; list the variables where they are needed",
    "Split": "a variable by the levels of another is an interaction: write group:age in X",
}
