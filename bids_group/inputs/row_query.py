"""The query language of `Filter`: comparisons of variables with values, joined by and, or, not.

A query is data that people pass on, so it is not evaluated as Python: its syntax tree is walked, and whatever is not a
name, a number, a string, a list of those, a comparison or a logical word is refused.
"""

import ast
from collections.abc import Callable
from functools import reduce
from operator import and_, or_
from typing import Any

import pandas as pd

from bids_group.inputs.strict import suggest
from bids_group.inputs.variables import Variable

LONGEST_QUERY = 2000
_COMPARISONS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
}


class RowQueryError(ValueError):
    """A query that is not in the language, or compares what cannot be compared."""


def select_rows(query: str, resolve: Callable[[str], Variable]) -> pd.Series:
    """Evaluate a query over the rows of a model.

    Parameters
    ----------
    query : str
        Such as ``age >= 18 and group in ['patient', 'control']``.
    resolve : callable
        From a name to its `Variable`.

    Returns
    -------
    Series of bool
        True where the row fulfils the query. A comparison with a missing value is neither true nor false (Kleene
        logic), so that neither it nor its negation is fulfilled.

    Raises
    ------
    RowQueryError
        If the query is malformed.
    """
    if len(query) > LONGEST_QUERY:
        raise RowQueryError(f"the query is longer than {LONGEST_QUERY} characters")
    try:
        tree = ast.parse(query.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise RowQueryError(f"{query!r} is not a query such as \"age >= 18 and group == 'patient'\"") from error
    try:
        return _evaluate(tree, resolve).fillna(False).astype(bool)
    except RecursionError as error:
        raise RowQueryError(f"{query[:40]!r}... is nested too deeply") from error


def _evaluate(node: ast.expr, resolve: Callable[[str], Variable]) -> pd.Series:
    if isinstance(node, ast.BoolOp):
        parts = [_evaluate(value, resolve) for value in node.values]
        return reduce(and_ if isinstance(node.op, ast.And) else or_, parts)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd | ast.BitOr):
        joiner: ast.boolop = ast.And() if isinstance(node.op, ast.BitAnd) else ast.Or()
        return _evaluate(ast.BoolOp(joiner, [node.left, node.right]), resolve)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.Invert):
        return ~_evaluate(node.operand, resolve)
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.left, ast.Name):
        return _compare(resolve(node.left.id), node.ops[0], node.comparators[0], node.left.id)
    raise RowQueryError(
        f"{ast.unparse(node)!r} is not a comparison of a variable with a value; "
        "write for example age >= 18, group == 'patient', site in ['a', 'b'], joined by and, or, not"
    )


def _compare(variable: Variable, operator: ast.cmpop, right: ast.expr, name: str) -> pd.Series:
    if isinstance(operator, ast.In | ast.NotIn):
        values = [_coerce(value, variable, name) for value in _read_list(right)]
        found = _values(variable).isin(values)
        return _compared(found if isinstance(operator, ast.In) else ~found, variable)
    if type(operator) not in _COMPARISONS:
        raise RowQueryError(f"{ast.unparse(right)!r}: compare with == != < <= > >= in, not in")
    if variable.is_factor and not isinstance(operator, ast.Eq | ast.NotEq):
        raise RowQueryError(f"{name!r} is a factor; compare it with ==, != or in")
    value = _coerce(_read_value(right), variable, name)
    return _compared(_COMPARISONS[type(operator)](_values(variable), value), variable)


def _compared(fulfilled: pd.Series, variable: Variable) -> pd.Series:
    return fulfilled.astype("boolean").mask(variable.is_missing)


def _values(variable: Variable) -> pd.Series:
    return variable.labels if variable.numbers is None else variable.numbers


def _read_list(node: ast.expr) -> list[float | str]:
    if not isinstance(node, ast.List | ast.Tuple):
        raise RowQueryError(f"in takes a list such as ['a', 'b'], found {ast.unparse(node)!r}")
    return [_read_value(item) for item in node.elts]


def _read_value(node: ast.expr) -> float | str:
    sign = 1.0
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        sign = -1.0 if isinstance(node.op, ast.USub) else 1.0
        node = node.operand
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return sign * _to_float(node.value)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    raise RowQueryError(f"expected a number or a quoted text, found {ast.unparse(node)!r}")


def _to_float(number: float) -> float:
    try:
        return float(number)
    except OverflowError as error:
        raise RowQueryError("a number is too large") from error


def _coerce(value: float | str, variable: Variable, name: str) -> float | str:
    if variable.is_factor:
        label = value if isinstance(value, str) else f"{value:.12g}"
        if variable.levels and label not in variable.levels:
            raise RowQueryError(f"{name!r} has no level {label!r}; {suggest(label, variable.levels)}")
        return label
    if isinstance(value, str):
        raise RowQueryError(f"{name!r} holds numbers and is compared with the text {value!r}")
    return value
