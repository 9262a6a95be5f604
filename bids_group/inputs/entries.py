"""The entries of `Inference` held against the contrasts that a node has."""

from collections.abc import Sequence

from bids_group.entities import to_label
from bids_group.errors import SpecError
from bids_group.inputs.contrasts import Contrast
from bids_group.inputs.inference_spec import InferenceSpec
from bids_group.inputs.settings import Settings
from bids_group.inputs.spec import NodeSpec
from bids_group.inputs.strict import suggest
from bids_group.vocabulary import TAIL_ENDING


def selects(inference: InferenceSpec, contrast: Contrast) -> bool:
    """Return whether an entry of `Inference` is for a contrast, named as in the spec or by its label."""
    return inference.contrasts is None or contrast.name in inference.contrasts or contrast.label in inference.contrasts


def list_entries(settings: Settings) -> tuple[InferenceSpec, ...]:
    """Return the entries of `Inference`, and that of regions of interest where there are any."""
    return settings.inference if settings.rois is None else (*settings.inference, settings.rois.test)


def check_inferences(node: NodeSpec, contrasts: Sequence[Contrast]) -> None:
    """Refuse entries of `Inference` that name no contrast, or whose outputs would have the same names.

    Raises
    ------
    SpecError
    """
    known = {name for contrast in contrasts for name in (contrast.name, contrast.label)}
    for entry in list_entries(node.settings):
        for i, name in enumerate(entry.contrasts or ()):
            if name not in known:
                raise SpecError(
                    f"{entry.path}.Contrasts[{i}]", f"there is no contrast {name!r}; {suggest(name, known)}"
                )
    for contrast in contrasts:
        _check_labels_of_entries([entry for entry in node.settings.inference if selects(entry, contrast)], contrast)


def find_notes_on_inference(node: NodeSpec, contrasts: Sequence[Contrast]) -> list[str]:
    """Say what the spec left to the defaults, and where two one-sided entries add up."""
    settings, notes = node.settings, []
    if settings.inference_is_default:
        listed = ", ".join(entry.correction for entry in settings.inference)
        notes.append(f"Inference is left out of the spec, so the defaults apply: {listed}")
    for correction in dict.fromkeys(entry.correction for entry in settings.inference):
        if all(contrast.test == "F" for contrast in contrasts):
            break  # F has one tail
        tails = {entry.tail for entry in settings.inference if entry.correction == correction}
        if {"positive", "negative"} <= tails:
            notes.append(
                f"the positive and the negative entry of the correction {correction!r} are two tests: "
                "together they have twice the alpha of one"
            )
    return notes


def _check_labels_of_entries(entries: Sequence[InferenceSpec], contrast: Contrast) -> None:
    seen: dict[tuple[str, str], InferenceSpec] = {}
    for entry in entries:
        for ending in _list_endings(entry):
            other = seen.setdefault((entry.correction, ending), entry)
            if other is not entry:
                raise SpecError(
                    entry.path,
                    f"its outputs for the contrast {contrast.name!r} would have the names of {other.path}; "
                    'give one of them a "Name", or another one',
                )


def _list_endings(entry: InferenceSpec) -> list[str]:
    """List what may follow the label of an entry's correction; whether a tail is fitted is known after the test."""
    name = to_label(entry.name).casefold()
    is_fitted = entry.permutation is not None and entry.permutation.approximates_tail
    return [name, TAIL_ENDING.casefold() + name] if is_fitted else [name]
