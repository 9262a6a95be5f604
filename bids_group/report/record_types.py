"""Records that were read from files hold what they say they do: fields are held against their types."""

from collections.abc import Hashable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints


class Checked:
    """A dataclass whose fields are of their types; else making one is a `TypeError` that names the field."""

    def __post_init__(self) -> None:
        assert is_dataclass(self)
        hints = _read_hints(type(self))
        for field in fields(self):
            value = getattr(self, field.name)
            if not has_type(value, hints[field.name]):
                raise TypeError(f"{field.name} is {value!r:.60}")


@cache
def _read_hints(kind: Hashable) -> dict[str, Any]:
    return get_type_hints(kind)


def has_type(value: object, hint: Any) -> bool:
    """Tell whether a value has the type that an annotation says, all members of it looked at.

    Parameters
    ----------
    value : object
    hint : type
        A class, ``Any``, a union, a tuple of one type and any length, or a Mapping. Whole numbers are floats, and truth
        values are no numbers.

    Examples
    --------
    >>> has_type((1, 2.5), tuple[float, ...]), has_type({"a": None}, Mapping[str, int])
    (True, False)
    """
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(has_type(value, one) for one in inner)
    if origin is tuple:
        return isinstance(value, tuple) and all(has_type(one, inner[0]) for one in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(
            has_type(key, inner[0]) and has_type(one, inner[1]) for key, one in value.items()
        )
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    return isinstance(value, hint)
