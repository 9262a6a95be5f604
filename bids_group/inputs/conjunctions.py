"""The entries of `Conjunctions` held against the contrasts of a model and the entries of `Inference`."""

from collections.abc import Sequence
from dataclasses import dataclass

from bids_group.entities import to_label
from bids_group.errors import SpecError
from bids_group.inputs.conjunction_spec import ConjunctionSpec
from bids_group.inputs.contrasts import Contrast
from bids_group.inputs.entries import selects
from bids_group.inputs.inference_spec import InferenceSpec
from bids_group.inputs.spec import NodeSpec
from bids_group.inputs.strict import suggest
from bids_group.vocabulary import CLUSTER_LEVELS


@dataclass(frozen=True)
class Conjunction:
    """Contrasts of a model that must all be significant.

    Attributes
    ----------
    name : str
        As in the spec.
    label : str
        As in file names and results.tsv.
    members : tuple of int
        Which contrasts of the model they are.
    entries : tuple of InferenceSpec
        Those of `Inference` that it is made under, each of them for all of its contrasts.
    path : str
        Where it stands in the spec.
    """

    name: str
    label: str
    members: tuple[int, ...]
    entries: tuple[InferenceSpec, ...]
    path: str = "Conjunctions"


def plan_conjunctions(
    node: NodeSpec, contrasts: Sequence[Contrast], input_contrast: str | None
) -> tuple[Conjunction, ...]:
    """Find the contrasts and the entries of `Inference` of each conjunction of a model.

    Parameters
    ----------
    node : NodeSpec
    contrasts : sequence of Contrast
        Of the model.
    input_contrast : str or None
        The contrast of the maps under ``GroupBy: ["contrast"]``.

    Raises
    ------
    SpecError
        If there is no such contrast, t and F are mixed, or no entry of `Inference` is for all of the contrasts.
    """
    return tuple(_plan_conjunction(spec, node, contrasts, input_contrast) for spec in node.settings.conjunctions)


def find_notes_on_conjunctions(node: NodeSpec) -> list[str]:
    """Say which results a conjunction does not have."""
    levels = {level for entry in node.settings.inference if entry.permutation for level in entry.permutation.levels}
    left_out = [level for level in CLUSTER_LEVELS if level in levels]
    if not left_out or not node.settings.conjunctions:
        return []
    return [
        f"conjunctions are not made at the permutation levels {' and '.join(left_out)}: the p of a cluster says that "
        "there is an effect somewhere in it, so that two clusters may overlap where neither has one"
    ]


def _plan_conjunction(
    spec: ConjunctionSpec, node: NodeSpec, contrasts: Sequence[Contrast], input_contrast: str | None
) -> Conjunction:
    members = tuple(
        _find_contrast(name, f"{spec.path}.Contrasts[{i}]", contrasts, input_contrast)
        for i, name in enumerate(spec.contrasts)
    )
    if len(set(members)) < len(members):
        raise SpecError(f"{spec.path}.Contrasts", "two of the names are those of one contrast")
    conjoined = [contrasts[member] for member in members]
    if len({contrast.test for contrast in conjoined}) > 1:
        raise SpecError(
            f"{spec.path}.Contrasts",
            "t and F contrasts are mixed, and an F has no sign that could agree with that of a t; "
            "test all of them by t, or all by F",
        )
    name = spec.name if input_contrast is None else input_contrast + spec.name
    return Conjunction(spec.name, to_label(name), members, _find_entries(spec, node, conjoined), spec.path)


def _find_contrast(name: str, path: str, contrasts: Sequence[Contrast], input_contrast: str | None) -> int:
    for index, contrast in enumerate(contrasts):
        if name in (contrast.name, contrast.label):
            return index
    known = {known for contrast in contrasts for known in (contrast.name, contrast.label)}
    where = "" if input_contrast is None else f" of the maps of {input_contrast}"
    grouped = (
        ""
        if input_contrast is None
        else "; under GroupBy a conjunction is of contrasts of one model: for one of several input contrasts, test "
        'them in a node with "GroupBy": [] and partitioned error terms, which gives the same t'
    )
    raise SpecError(path, f"there is no contrast {name!r}{where}; {suggest(name, known)}{grouped}")


def _find_entries(spec: ConjunctionSpec, node: NodeSpec, conjoined: Sequence[Contrast]) -> tuple[InferenceSpec, ...]:
    entries = node.settings.inference
    known = {name for entry in entries for name in _name_entry(entry)}
    for i, name in enumerate(spec.inference or ()):
        if name not in known:
            raise SpecError(
                f"{spec.path}.Inference[{i}]",
                f"no entry of Inference has the Name or the Correction {name!r}; {suggest(name, known)}",
            )
    asked = [entry for entry in entries if spec.inference is None or set(_name_entry(entry)) & set(spec.inference)]
    shared = tuple(entry for entry in asked if all(selects(entry, contrast) for contrast in conjoined))
    if not shared:
        listed = ", ".join(contrast.name for contrast in conjoined)
        raise SpecError(
            spec.path,
            f"no {'such ' if spec.inference else ''}entry of Inference is for all of {listed}; a conjunction needs "
            "one, so add these contrasts to the Contrasts of an entry, or leave its Contrasts out",
        )
    return shared


def _name_entry(entry: InferenceSpec) -> tuple[str, ...]:
    return (entry.correction, entry.name) if entry.name else (entry.correction,)
