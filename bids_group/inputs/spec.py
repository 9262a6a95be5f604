"""The model spec: BIDS Stats Models 1.0, Subject- and Dataset-level nodes, read strictly.

What cannot be right is refused here with its JSON path, before any file is looked for. What needs the maps or the
tables to be judged (names of variables, estimability) is judged in `design`, with the paths kept here.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from bids_group.entities import ENTITY_SHORT_NAMES
from bids_group.errors import SpecError
from bids_group.inputs.contrast_spec import (
    ContrastSpec,
    DummyContrastsSpec,
    read_condition,
    read_contrasts,
    read_dummy_contrasts,
    read_label,
)
from bids_group.inputs.edges import Edge, link_in_order, read_edges
from bids_group.inputs.formula import Formula, FormulaError, parse_formula
from bids_group.inputs.settings import Settings, read_entity_filter, read_settings
from bids_group.inputs.strict import Place, read_json
from bids_group.inputs.transformations import Instruction, read_instructions
from bids_group.vocabulary import Level, ModelType

LEVELS = ("Run", "Session", "Subject", "Dataset")
SUBJECT_KEYS = ("Missing",)  # of this app's settings, those that a Subject-level node has


@dataclass(frozen=True)
class NodeSpec:
    """One node: a model of the group, or how a subject's maps are combined.

    Attributes
    ----------
    name : str
    level : str
        ``Dataset`` or ``Subject``.
    model_type : str
        ``glm``, or ``meta`` where maps are weighted by the inverse of their variances.
    group_by : tuple of str
        Of a Dataset-level node empty, or ``("contrast",)``; of a Subject-level node entities, the subject among them.
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
    level: Level
    model_type: ModelType
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
    edges : tuple of Edge
        Which nodes' maps each node takes; a node without an edge that leads to it takes the maps on disk.
    path : Path
        The file it was read from; of the model that this app makes itself, the word ``auto``.
    document : dict
        The JSON document itself.
    """

    name: str
    description: str | None
    selection: dict[str, tuple[str, ...]]
    nodes: tuple[NodeSpec, ...]
    edges: tuple[Edge, ...]
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
    if all(node.level == "Subject" for node in nodes):
        fields["Nodes"].fail("no node is of the Dataset level, so that nothing is tested; add one")
    levels = {node.name: node.level for node in nodes}
    edges = read_edges(fields["Edges"], levels) if "Edges" in fields else link_in_order(levels)
    _check_all_used(nodes, edges)
    return ModelSpec(
        name=read_label(fields["Name"]),
        description=fields["Description"].text() if "Description" in fields else None,
        selection=read_entity_filter(fields["Input"]) if "Input" in fields else {},
        nodes=nodes,
        edges=edges,
        path=path,
        document=root.value,
    )


def _check_version(place: Place) -> None:
    if not place.text().startswith("1."):
        place.fail(f"BIDS Stats Models {place.value!r} is not known to this app; it reads 1.0.0")


def _check_labels_differ(nodes: tuple[NodeSpec, ...]) -> None:
    seen: dict[str, str] = {}
    for node in nodes:
        label = "".join(c for c in node.name if c.isascii() and c.isalnum()).casefold()
        if label in seen:
            raise SpecError(f"{node.path}.Name", f"{node.name!r} gives the same folder as {seen[label]!r}; rename one")
        seen[label] = node.name


def _check_all_used(nodes: tuple[NodeSpec, ...], edges: tuple[Edge, ...]) -> None:
    """Refuse Subject-level nodes whose maps go nowhere."""
    for node in nodes:
        if node.level == "Subject" and all(edge.source != node.name for edge in edges):
            raise SpecError(
                node.path, f"no node takes the maps of the Subject-level node {node.name!r}; add one, or an edge to one"
            )


def _read_node(place: Place) -> NodeSpec:
    fields = place.fields(
        ("Level", "Name", "GroupBy", "Transformations", "Model", "Contrasts", "DummyContrasts"),
        required=("Level", "Name", "Model"),
    )
    level = _read_level(fields["Level"])
    model_type, terms, formula, settings = _read_model(fields["Model"], level)
    node = NodeSpec(
        name=read_label(fields["Name"]),
        level=level,
        model_type=model_type,
        group_by=_read_subject_groups(fields.get("GroupBy"), place)
        if level == "Subject"
        else _read_group_by(fields.get("GroupBy")),
        terms=terms,
        formula=formula,
        instructions=read_instructions(fields["Transformations"]) if "Transformations" in fields else (),
        contrasts=read_contrasts(fields["Contrasts"], level) if "Contrasts" in fields else (),
        dummy_contrasts=read_dummy_contrasts(fields["DummyContrasts"], level) if "DummyContrasts" in fields else None,
        settings=settings,
        path=place.path,
    )
    if not node.contrasts and node.dummy_contrasts is None:
        place.fail("the node has no contrast; add Contrasts or DummyContrasts")
    return node


def _read_level(place: Place) -> Level:
    level = place.choice(LEVELS)
    if level not in get_args(Level):
        place.fail(f"{level}-level nodes are first-level analysis, which this app does not do; start from its maps")
    found: Level = level
    return found


def _read_group_by(place: Place | None) -> tuple[str, ...]:
    if place is None:
        return ()
    names = tuple(item.text() for item in place.items())
    if names not in ((), ("contrast",)):
        place.fail('a Dataset-level node is grouped by [] or by ["contrast"]')
    return names


def _read_subject_groups(place: Place | None, node: Place) -> tuple[str, ...]:
    """Read the entities that stay apart when a subject's maps are combined."""
    if place is None:
        node.fail('a Subject-level node needs GroupBy, such as ["subject"], or ["subject", "contrast"] for averages')
    names = tuple(item.choice(ENTITY_SHORT_NAMES) for item in place.items())
    if "subject" not in names:
        place.fail('a Subject-level node is grouped by "subject", and by what else stays apart')
    if len(set(names)) < len(names):
        place.fail("a name stands there more than once")
    return names


def _read_model(place: Place, level: Level) -> tuple[ModelType, tuple[str, ...], Formula | None, Settings]:
    fields = place.fields(("Type", "X", "Formula", "Software"), required=("Type",))
    model_type: ModelType = fields["Type"].choice(get_args(ModelType))
    if ("X" in fields) == ("Formula" in fields):
        place.fail("give the columns of the design either as X or as Formula")
    terms = _read_terms(fields["X"]) if "X" in fields else ()
    formula = _read_formula(fields["Formula"]) if "Formula" in fields else None
    settings = _read_software(fields.get("Software"), place.path)
    if level == "Subject":
        _check_subject_settings(fields.get("Software"))
    if model_type == "meta" and settings.inference_is_default:
        # Each rearrangement would estimate the variance between subjects anew: hours, which only the user can want.
        kept = tuple(entry for entry in settings.inference if entry.correction != "permutation")
        settings = replace(settings, inference=kept)
    return model_type, terms, formula, settings


def _check_subject_settings(place: Place | None) -> None:
    """Refuse settings of a test where nothing is tested."""
    ours = place.value.get("bids_group") if place is not None else None
    if place is None or not isinstance(ours, dict):
        return
    for key in ours:
        if key not in SUBJECT_KEYS:
            Place(ours[key], f"{place.path}.bids_group.{key}").fail(
                f"{key} has no meaning at the Subject level, where nothing is tested; write it into the Dataset-level "
                "node"
            )


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
    terms = tuple(read_condition(item) for item in items)
    for item, term in zip(items, terms, strict=True):
        if terms.count(term) > 1:
            item.fail(f"{term!r} stands in X more than once")
    return terms


def _read_formula(place: Place) -> Formula:
    try:
        return parse_formula(place.text())
    except FormulaError as error:
        place.fail(str(error))
