"""The computations of transformations: variables in, one variable out, over the rows that they have.

Nothing is filled in: a row in which an input is missing has no value in what is computed from it. (pybids leaves
missing values out of products and sums, as if they were 1 and 0.) `And` and `Or` follow Kleene's logic, as the queries
of `Filter` do: what a missing value cannot change has a value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import and_, or_

import numpy as np
import pandas as pd

from bids_group.errors import DataError
from bids_group.inputs.strict import suggest
from bids_group.inputs.variables import MISSING_VALUES, Variable, make_covariate


def get_numbers(variable: Variable) -> pd.Series:
    """Return the numbers of a covariate.

    Raises
    ------
    DataError
        If it is a factor.
    """
    if variable.numbers is None:
        raise DataError("it is a factor, not a number")
    return variable.numbers


def _derive(numbers: pd.Series, *inputs: Variable) -> Variable:
    """Make a variable of what was computed from others, missing where it has no value for that reason only."""
    unexplained = ~np.isfinite(numbers) & ~np.any([variable.is_missing for variable in inputs], axis=0)
    if unexplained.any():
        raise DataError(f"the result is not a finite number in {int(unexplained.sum())} of {len(numbers)} rows")
    sources = dict.fromkeys(variable.source for variable in inputs)
    return make_covariate(numbers.where(np.isfinite(numbers)), " and ".join(sources))


def demean(variable: Variable) -> Variable:
    """Subtract the mean."""
    numbers = get_numbers(variable)
    return _derive(numbers - numbers.mean(), variable)


def scale(variable: Variable, *, centre: bool = True, rescale: bool = True) -> Variable:
    """Subtract the mean and divide by the n - 1 SD.

    Raises
    ------
    DataError
        If the values are all the same, or no numbers.
    """
    numbers = get_numbers(variable)
    # Counted, because the SD of equal numbers can be rounding above 0.
    if rescale and numbers.nunique() < 2:
        raise DataError(f"it has one value only over the {len(numbers)} rows of the model and cannot be scaled")
    spread = numbers.std(ddof=1) if rescale else 1.0
    return _derive((numbers - (numbers.mean() if centre else 0.0)) / spread, variable)


def threshold(
    variable: Variable, *, limit: float = 0.0, above: bool = True, signed: bool = True, binarize: bool = False
) -> Variable:
    """Keep the values at or beyond a limit, and set the others to 0.

    Parameters
    ----------
    variable : Variable
    limit : float
    above : bool
        Keep what is at or above the limit, else what is at or below it.
    signed : bool
        Compare the values, else their absolute values.
    binarize : bool
        Set what is kept to 1.
    """
    numbers = get_numbers(variable)
    compared = numbers if signed else numbers.abs()
    kept = compared >= limit if above else compared <= limit
    values = np.where(kept, 1.0 if binarize else numbers, 0.0)
    return _derive(pd.Series(values, numbers.index).where(numbers.notna()), variable)


def raise_to_power(variable: Variable, *, exponent: float) -> Variable:
    """Raise to a power.

    Raises
    ------
    DataError
        If a result is no finite number, such as the root of a negative one.
    """
    return _derive(get_numbers(variable) ** exponent, variable)


def multiply(variables: Sequence[Variable]) -> Variable:
    """Multiply variables row by row."""
    numbers = pd.concat([get_numbers(variable) for variable in variables], axis=1)
    return _derive(numbers.product(axis=1, skipna=False), *variables)


def add(variables: Sequence[Variable], *, weights: Sequence[float] | None = None) -> Variable:
    """Add variables row by row, each multiplied by its weight (1 where none are given)."""
    numbers = pd.concat([get_numbers(variable) for variable in variables], axis=1)
    factors = np.ones(len(variables)) if weights is None else np.array(weights)
    return _derive((numbers * factors).sum(axis=1, skipna=False), *variables)


def negate(variable: Variable) -> Variable:
    """Return 1 where a variable is 0, and 0 elsewhere."""
    return _derive((~_is_true(variable)).astype("Float64").astype(np.float64), variable)


def conjoin(variables: Sequence[Variable]) -> Variable:
    """Return 1 where no variable is 0, and 0 elsewhere."""
    return _derive(reduce(and_, map(_is_true, variables)).astype("Float64").astype(np.float64), *variables)


def disjoin(variables: Sequence[Variable]) -> Variable:
    """Return 1 where a variable is not 0, and 0 elsewhere."""
    return _derive(reduce(or_, map(_is_true, variables)).astype("Float64").astype(np.float64), *variables)


def _is_true(variable: Variable) -> pd.Series:
    return get_numbers(variable).ne(0).astype("boolean").mask(variable.is_missing)


def orthogonalize(variable: Variable, others: Sequence[Variable]) -> Variable:
    """Subtract what other variables linearly predict.

    With the least-squares fit ``y = a + X b + e`` the result is ``a + e``: the mean of y is not subtracted, the mean of
    X counts. Rows without a value in any of the variables take no part.
    """
    together = pd.concat([get_numbers(one) for one in (variable, *others)], axis=1)
    complete = together.dropna().to_numpy()
    centred = complete - complete.mean(axis=0)
    slopes = np.linalg.lstsq(centred[:, 1:], centred[:, 0], rcond=None)[0]
    predicted = pd.Series(complete[:, 1:] @ slopes, together.dropna().index).reindex(together.index)
    return _derive(get_numbers(variable) - predicted, variable, *others)


def replace_values(variable: Variable, replacements: Mapping[str, float | str], *, reread: bool = False) -> Variable:
    """Replace some values.

    Parameters
    ----------
    variable : Variable
    replacements : Mapping of str to float or str
        From the old value as text (numbers are compared as numbers) to the new one; ``n/a`` for none.
    reread : bool
        Take the values for numbers where they all are, though the variable is a factor. That is done without being
        asked where a new value is a number.

    Raises
    ------
    DataError
        If some of the resulting values are numbers and others are not.
    """
    texts = {old: _write(new) for old, new in replacements.items()}
    if variable.numbers is not None and all(_is_number(new) or new in MISSING_VALUES for new in texts.values()):
        new_numbers = {
            float(old): float(new) if _is_number(new) else np.nan for old, new in texts.items() if _is_number(old)
        }
        return make_covariate(variable.numbers.map(lambda number: new_numbers.get(number, number)), variable.source)
    is_read = reread or variable.numbers is not None or any(isinstance(new, float) for new in replacements.values())
    matched = _match_texts(variable, texts, as_numbers=reread or variable.numbers is not None)
    labels = variable.labels.map(lambda label: matched.get(label, label)).astype(object)
    labels = labels.where(labels.notna() & ~labels.isin(MISSING_VALUES), None)
    levels = {matched.get(level, level) for level in variable.levels} - set(MISSING_VALUES)
    numbers = _read_again(levels | set(labels.dropna()), labels) if is_read else None
    return replace(variable, labels=labels, numbers=numbers, levels=tuple(sorted(levels)))


def _read_again(levels: set[str], labels: pd.Series) -> pd.Series | None:
    words = sorted(level for level in levels if not _is_number(level))
    if len(words) == len(levels):
        return None
    if words:
        raise DataError(f"some of the new values are numbers, but not {words[0]!r}; replace it too, by n/a if need be")
    return pd.to_numeric(labels).astype(np.float64)


def _match_texts(variable: Variable, texts: Mapping[str, str], *, as_numbers: bool) -> dict[str, str]:
    """Return the new value of each label that is replaced; as numbers, 7 is 7.0."""
    by_number = {float(old): new for old, new in texts.items() if as_numbers and _is_number(old)}
    labels = (*variable.levels, *variable.labels.dropna())
    numeric = {label: by_number[float(label)] for label in labels if _is_number(label) and float(label) in by_number}
    return {**numeric, **texts}


def _is_number(text: str) -> bool:
    return bool(np.isfinite(pd.to_numeric(text, errors="coerce")))


def _write(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.12g}"


def check_replaced(variables: Sequence[Variable], old_values: Sequence[str]) -> None:
    """Refuse to replace a value that occurs in none of the variables.

    What was computed is not judged: its values depend on the rows that are left.

    Raises
    ------
    DataError
    """
    if not all(variable.levels for variable in variables):
        return
    known = {level for variable in variables for level in variable.levels}
    numbers = {float(level) for level in known if _is_number(level)}
    for old in old_values:
        if old not in known and not (_is_number(old) and float(old) in numbers):
            raise DataError(f"there is no value {old!r} to replace; {suggest(old, known)}")
