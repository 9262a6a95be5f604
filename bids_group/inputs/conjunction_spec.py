"""The entries of `Conjunctions`: which contrasts must all be significant, under which entries of `Inference`."""

from dataclasses import dataclass

from bids_group.inputs.strict import Place

FEWEST_CONTRASTS = 2


@dataclass(frozen=True)
class ConjunctionSpec:
    """One entry of `Conjunctions`.

    Attributes
    ----------
    name : str
    contrasts : tuple of str
        Two or more, named as in the spec or by their labels.
    inference : tuple of str or None
        Which entries of `Inference` it is made under, by their `Name` or `Correction`; None for all that all of its
        contrasts have.
    path : str
        Where it stands in the spec.
    """

    name: str
    contrasts: tuple[str, ...]
    inference: tuple[str, ...] | None = None
    path: str = "Conjunctions"


def read_conjunctions(place: Place) -> tuple[ConjunctionSpec, ...]:
    """Read the list `Conjunctions`."""
    return tuple(_read_conjunction(item) for item in place.items())


def _read_conjunction(place: Place) -> ConjunctionSpec:
    fields = place.fields(("Name", "Contrasts", "Inference"), required=("Name", "Contrasts"))
    contrasts = _read_names(fields["Contrasts"])
    if len(contrasts) < FEWEST_CONTRASTS:
        fields["Contrasts"].fail("a conjunction is of two or more contrasts")
    return ConjunctionSpec(
        name=fields["Name"].text(),
        contrasts=contrasts,
        inference=_read_names(fields["Inference"]) if "Inference" in fields else None,
        path=place.path,
    )


def _read_names(place: Place) -> tuple[str, ...]:
    names = tuple(item.text() for item in place.items())
    if not names:
        place.fail("the list is empty")
    if len(set(names)) < len(names):
        place.fail("a name stands in the list more than once")
    return names
