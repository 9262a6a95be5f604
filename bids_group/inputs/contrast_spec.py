"""The contrasts of a node, as the spec states them."""

from dataclasses import dataclass

from bids_group.inputs.strict import Place
from bids_group.vocabulary import Level, Test

INTERCEPT = "intercept"
# Weights beyond these would leave the range of the float32 maps.
SMALLEST_WEIGHT, LARGEST_WEIGHT = 1e-15, 1e15
LONGEST_LABEL = 100  # file systems allow 255 characters for a name that has several labels in it


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


def read_label(place: Place) -> str:
    """Read a name of which at least one character may stand in a file name."""
    name = place.text()
    if not any(c.isascii() and c.isalnum() for c in name):
        place.fail(f"{name!r} has no letter or digit that could stand in a file name")
    if len(name) > LONGEST_LABEL:
        place.fail(f"the name has {len(name)} characters and would stand in file names; use at most {LONGEST_LABEL}")
    return name


def read_condition(place: Place) -> str:
    """Read the name of a column, or 1 for the intercept."""
    if place.value == 1 and not isinstance(place.value, bool):
        return INTERCEPT
    if not isinstance(place.value, str):
        place.fail("expected the name of a variable, or 1 for the intercept")
    text = place.text()
    return INTERCEPT if text in ("1", "Intercept") else text


def read_contrasts(place: Place, level: Level) -> tuple[ContrastSpec, ...]:
    """Read the list `Contrasts` of a node."""
    contrasts = tuple(_read_contrast(item, level) for item in place.items())
    if not contrasts:
        place.fail("the list is empty; leave the key out")
    return contrasts


def _read_contrast(place: Place, level: Level) -> ContrastSpec:
    keys = ("Name", "Test", "ConditionList", "Weights")
    fields = place.fields(keys, required=keys)
    conditions = tuple(read_condition(item) for item in fields["ConditionList"].items())
    for item, condition in zip(fields["ConditionList"].items(), conditions, strict=True):
        if conditions.count(condition) > 1:
            item.fail(f"{condition!r} stands in ConditionList more than once")
    test = _read_test(fields["Test"], level)
    return ContrastSpec(
        name=read_label(fields["Name"]),
        test=test,
        conditions=conditions,
        weights=_read_weights(fields["Weights"], test, len(conditions)),
        path=place.path,
    )


def _read_test(place: Place, level: Level) -> Test:
    test = place.choice(("t", "F", "pass", "skip"))
    if level == "Subject":
        if test not in ("t", "pass"):
            place.fail(f"{test!r} cannot be passed on; a Subject-level contrast is one map: 't' or 'pass'")
        return "t"
    if test not in ("t", "F"):
        place.fail(f"{test!r} tests nothing; a Dataset-level contrast is tested with 't' or 'F'")
    found: Test = test
    return found


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


def read_dummy_contrasts(place: Place, level: Level) -> DummyContrastsSpec:
    """Read `DummyContrasts` of a node."""
    fields = place.fields(("Test", "Contrasts"), required=("Test",))
    test = _read_test(fields["Test"], level)
    if test != "t":
        fields["Test"].fail("dummy contrasts are t tests; write an F test under Contrasts")
    columns = tuple(read_condition(item) for item in fields["Contrasts"].items()) if "Contrasts" in fields else None
    if columns == ():
        fields["Contrasts"].fail("the list is empty; leave it out for all columns")
    return DummyContrastsSpec(test, columns, place.path)
