"""The model spec: BIDS Stats Models 1.0, Dataset-level nodes, read strictly.

What cannot be right is refused here with its JSON path, before any file is looked for. What needs the maps or the
tables to be judged (names of variables, estimability) is judged in `design`, with the paths kept here.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bids_group.errors import SpecError
from bids_group.inputs.formula import Formula, FormulaError, parse_formula
from bids_group.inputs.settings import Settings, read_entity_filter, read_settings
from bids_group.inputs.strict import Place, read_json
from bids_group.inputs.transformations import Instruction, read_instructions
from bids_group.vocabulary import Test

INTERCEPT = "intercept"
# Weights beyond these would leave the range of the float32 maps.
SMALLEST_WEIGHT, LARGEST_WEIGHT = 1e-15, 1e15
LONGEST_LABEL = 100  # file systems allow 255 characters for a name that has several labels in it
LEVELS = ("Run", "Session", "Subject", "Dataset")


@dataclass(frozen=True)
class ContrastSpec:
    """One contrast as the spec states it.

    Attributes
    ----------
    name : str
    test : str
        ``t`` or ``F``.
    conditions : tuple of str
        Columns of the design.
    weights : tuple of tuple of float
        One row for t, one or more for F; each as long as `conditions`.
    path : str
    is_dummy : bool
        Whether it stands for one of `DummyContrasts`.
    """

    name: str
    test: Test
    conditions: tuple[str, ...]
    weights: tuple[tuple[float, ...], ...]
    path: str
    is_dummy: bool = False


@dataclass(frozen=True)
class DummyContrastsSpec:
    """One contrast for each of several columns.

    Attributes
    ----------
    test : str
    columns : tuple of str or None
        None for every column of the design.
    path : str
    """

    test: Test
    columns: tuple[str, ...] | None
    path: str


@dataclass(frozen=True)
class NodeSpec:
    """One Dataset-level node.

    Attributes
    ----------
    name : str
    group_by : tuple of str
        Empty, or ``("contrast",)``.
    terms : tuple of str
        The members of `X`, the intercept as ``intercept``; empty where `formula` stands.
    formula : Formula or None
    instructions : tuple of Instruction
        The transformations.
    contrasts : tuple of ContrastSpec
    dummy_contrasts : DummyContrastsSpec or None
    settings : Settings
    path : str
        ``Nodes[i]``.
    """

    name: str
    group_by: tuple[str, ...]
    terms: tuple[str, ...]
    formula: Formula | None
    instructions: tuple[Instruction, ...]
    contrasts: tuple[ContrastSpec, ...]
    dummy_contrasts: DummyContrastsSpec | None
    settings: Settings
    path: str

    @property
    def model_path(self) -> str:
        """Return the JSON path of what defines the design's columns."""
        return f"{self.path}.Model.{'Formula' if self.formula else 'X'}"


@dataclass(frozen=True)
class ModelSpec:
    """A model spec that has been read and found well-formed.

    Attributes
    ----------
    name : str
    description : str or None
    selection : dict of str to tuple of str
        `Input`: the values an entity may have.
    nodes : tuple of NodeSpec
    path : Path
        The file it was read from; of the model that this app makes itself, the word ``auto``.
    document : dict
        The JSON document itself.
    """

    name: str
    description: str | None
    selection: dict[str, tuple[str, ...]]
    nodes: tuple[NodeSpec, ...]
    path: Path
    document: dict[str, Any] = field(repr=False)


def read_spec(path: Path) -> ModelSpec:
    """Read a model spec.

    Parameters
    ----------
    path : Path

    Returns
    -------
    ModelSpec

    Raises
    ------
    MissingInputError
        If there is no such file.
    DataError
        If it is no JSON.
    SpecError
        If anything in it is unknown, of the wrong type or length, or not available in this version.
    """
    return parse_spec(read_json(path), path)


def parse_spec(document: Any, path: Path) -> ModelSpec:
    """Read a model spec that is a JSON document already.

    Parameters
    ----------
    document : object
        As JSON gives it.
    path : Path
        Where it comes from.

    Returns
    -------
    ModelSpec

    Raises
    ------
    SpecError
        If anything in it is unknown, of the wrong type or length, or not available in this version.
    """
    root = Place(document)
    fields = root.fields(
        ("Name", "BIDSModelVersion", "Description", "Input", "Nodes", "Edges"),
        required=("Name", "BIDSModelVersion", "Nodes"),
    )
    _check_version(fields["BIDSModelVersion"])
    nodes = tuple(_read_node(item) for item in fields["Nodes"].items())
    if not nodes:
        fields["Nodes"].fail("there is no node; write at least one with Level 'Dataset'")
    _check_labels_differ(nodes)
    if "Edges" in fields and fields["Edges"].items():
        fields["Edges"].fail("edges between nodes are not available in this version; leave the key out")
    return ModelSpec(
        name=_read_label(fields["Name"]),
        description=fields["Description"].text() if "Description" in fields else None,
        selection=read_entity_filter(fields["Input"]) if "Input" in fields else {},
        nodes=nodes,
        path=path,
        document=root.value,
    )


def _check_version(place: Place) -> None:
    if not place.text().startswith("1."):
        place.fail(f"BIDS Stats Models {place.value!r} is not known to this app; it reads 1.0.0")


def _read_label(place: Place) -> str:
    """Read a name of which at least one character may stand in a file name."""
    name = place.text()
    if not any(c.isascii() and c.isalnum() for c in name):
        place.fail(f"{name!r} has no letter or digit that could stand in a file name")
    if len(name) > LONGEST_LABEL:
        place.fail(f"the name has {len(name)} characters and would stand in file names; use at most {LONGEST_LABEL}")
    return name


def _check_labels_differ(nodes: tuple[NodeSpec, ...]) -> None:
    seen: dict[str, str] = {}
    for node in nodes:
        label = "".join(c for c in node.name if c.isascii() and c.isalnum()).casefold()
        if label in seen:
            raise SpecError(f"{node.path}.Name", f"{node.name!r} gives the same folder as {seen[label]!r}; rename one")
        seen[label] = node.name


def _read_node(place: Place) -> NodeSpec:
    fields = place.fields(
        ("Level", "Name", "GroupBy", "Transformations", "Model", "Contrasts", "DummyContrasts"),
        required=("Level", "Name", "Model"),
    )
    _check_level(fields["Level"])
    terms, formula, settings = _read_model(fields["Model"])
    node = NodeSpec(
        name=_read_label(fields["Name"]),
        group_by=_read_group_by(fields.get("GroupBy")),
        terms=terms,
        formula=formula,
        instructions=read_instructions(fields["Transformations"]) if "Transformations" in fields else (),
        contrasts=_read_contrasts(fields["Contrasts"]) if "Contrasts" in fields else (),
        dummy_contrasts=_read_dummy(fields["DummyContrasts"]) if "DummyContrasts" in fields else None,
        settings=settings,
        path=place.path,
    )
    if not node.contrasts and node.dummy_contrasts is None:
        place.fail("the node tests nothing; add Contrasts or DummyContrasts")
    return node


def _check_level(place: Place) -> None:
    level = place.choice(LEVELS)
    if level == "Subject":
        place.fail("Subject-level nodes are not available in this version; give one map per subject and contrast")
    if level != "Dataset":
        place.fail(f"{level}-level nodes are first-level analysis, which this app does not do; start from its maps")


def _read_group_by(place: Place | None) -> tuple[str, ...]:
    if place is None:
        return ()
    names = tuple(item.text() for item in place.items())
    if names not in ((), ("contrast",)):
        place.fail('a Dataset-level node is grouped by [] or by ["contrast"]')
    return names


def _read_model(place: Place) -> tuple[tuple[str, ...], Formula | None, Settings]:
    fields = place.fields(("Type", "X", "Formula", "Software"), required=("Type",))
    if fields["Type"].choice(("glm", "meta")) == "meta":
        fields["Type"].fail("'meta' is not available in this version; use 'glm'")
    if ("X" in fields) == ("Formula" in fields):
        place.fail("give the columns of the design either as X or as Formula")
    terms = _read_terms(fields["X"]) if "X" in fields else ()
    formula = _read_formula(fields["Formula"]) if "Formula" in fields else None
    return terms, formula, _read_software(fields.get("Software"), place.path)


def _read_software(place: Place | None, model_path: str) -> Settings:
    if place is None:
        return Settings(path=f"{model_path}.Software.bids_group")
    # Other programs' keys stand beside ours and are none of our business; a near miss of our own name is.
    for key in place.fields(place.value if isinstance(place.value, dict) else ()):
        if key != "bids_group" and key.casefold().replace("-", "_") in ("bids_group", "bidsgroup"):
            place.fail(f"unknown key {key!r}; did you mean 'bids_group'?")
    ours = place.value.get("bids_group", {})
    return read_settings(Place(ours, f"{place.path}.bids_group"))


def _read_terms(place: Place) -> tuple[str, ...]:
    items = place.items()
    if not items:
        place.fail("the design has no columns; X of a one-sample test is [1]")
    terms = tuple(_read_condition(item) for item in items)
    for item, term in zip(items, terms, strict=True):
        if terms.count(term) > 1:
            item.fail(f"{term!r} stands in X more than once")
    return terms


def _read_condition(place: Place) -> str:
    """Read the name of a column, or 1 for the intercept."""
    if place.value == 1 and not isinstance(place.value, bool):
        return INTERCEPT
    if not isinstance(place.value, str):
        place.fail("expected the name of a variable, or 1 for the intercept")
    text = place.text()
    return INTERCEPT if text in ("1", "Intercept") else text


def _read_formula(place: Place) -> Formula:
    try:
        return parse_formula(place.text())
    except FormulaError as error:
        place.fail(str(error))


def _read_contrasts(place: Place) -> tuple[ContrastSpec, ...]:
    contrasts = tuple(_read_contrast(item) for item in place.items())
    if not contrasts:
        place.fail("the list is empty; leave the key out")
    return contrasts


def _read_contrast(place: Place) -> ContrastSpec:
    keys = ("Name", "Test", "ConditionList", "Weights")
    fields = place.fields(keys, required=keys)
    conditions = tuple(_read_condition(item) for item in fields["ConditionList"].items())
    for item, condition in zip(fields["ConditionList"].items(), conditions, strict=True):
        if conditions.count(condition) > 1:
            item.fail(f"{condition!r} stands in ConditionList more than once")
    test = _read_test(fields["Test"])
    return ContrastSpec(
        name=_read_label(fields["Name"]),
        test=test,
        conditions=conditions,
        weights=_read_weights(fields["Weights"], test, len(conditions)),
        path=place.path,
    )


def _read_test(place: Place) -> Test:
    test: Test = place.choice(("t", "F", "pass", "skip"))
    if test not in ("t", "F"):
        place.fail(f"{test!r} tests nothing; a Dataset-level contrast is tested with 't' or 'F'")
    return test


def _read_weights(place: Place, test: str, length: int) -> tuple[tuple[float, ...], ...]:
    items = place.items()
    nested = bool(items) and isinstance(items[0].value, list)
    if test == "t" and nested:
        place.fail("a t contrast has one list of weights; several rows are an F contrast (Test 'F')")
    rows = tuple(_read_weight_row(row, length) for row in (items if nested else [place]))
    if not any(any(row) for row in rows):
        place.fail("all weights are 0")
    return rows


def _read_weight_row(place: Place, length: int) -> tuple[float, ...]:
    weights = tuple(_read_weight(item) for item in place.items())
    if len(weights) != length:
        place.fail(f"{len(weights)} weights for {length} members of ConditionList")
    return weights


def _read_weight(place: Place) -> float:
    weight = place.number()
    if weight and not SMALLEST_WEIGHT <= abs(weight) <= LARGEST_WEIGHT:
        place.fail(f"the weight {weight:g} is not between {SMALLEST_WEIGHT:g} and {LARGEST_WEIGHT:g}")
    return weight


def _read_dummy(place: Place) -> DummyContrastsSpec:
    fields = place.fields(("Test", "Contrasts"), required=("Test",))
    test = _read_test(fields["Test"])
    if test != "t":
        fields["Test"].fail("dummy contrasts are t tests; write an F test under Contrasts")
    columns = tuple(_read_condition(item) for item in fields["Contrasts"].items()) if "Contrasts" in fields else None
    if columns == ():
        fields["Contrasts"].fail("the list is empty; leave it out for all columns")
    return DummyContrastsSpec(test, columns, place.path)
