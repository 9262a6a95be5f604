"""`ExchangeabilityBlocks`: columns of tables to the blocks of each map, in PALM's notation."""

import numpy as np
import pandas as pd

from bids_group.errors import DataError, SpecError
from bids_group.inputs.design import refuse_missing
from bids_group.inputs.spec import NodeSpec
from bids_group.inputs.variables import Variable, VariableTable
from bids_group.vocabulary import ErrorTerm


def find_blocks(node: NodeSpec, table: VariableTable, error_term: ErrorTerm | None) -> pd.DataFrame | None:
    """Return the exchangeability blocks of each map; None where they follow from the design.

    Parameters
    ----------
    node : NodeSpec
    table : VariableTable
    error_term : str or None
        Of the model.

    Returns
    -------
    DataFrame of int64, shape (n_maps, n_columns), or None
        Indexed like the maps, outer blocks first. Whole numbers as they stand in the table: what is in a positive
        block is exchanged within it, a negative block moves as a whole. Words are numbered from 1.

    Raises
    ------
    SpecError
        If a column is unknown, has no value for a map or 0, or blocks divide subjects or join them where they must not.

    References
    ----------
    Winkler et al. 2015, NeuroImage 123 (the notation).
    """
    names = node.settings.exchangeability_blocks
    if not names:
        return None
    path = f"{node.settings.path}.ExchangeabilityBlocks"
    try:
        columns = {name: _number_blocks(name, _resolve(name, table)) for name in names}
    except DataError as error:
        raise SpecError(path, str(error)) from error
    blocks = pd.DataFrame(columns, index=table.rows.index)
    _check_subjects(path, blocks, table.rows, error_term)
    return blocks


def _resolve(name: str, table: VariableTable) -> Variable:
    variable = table.resolve(name)
    refuse_missing(name, variable, table.rows)
    return variable


def _number_blocks(name: str, variable: Variable) -> pd.Series:
    if variable.numbers is None:
        return pd.Series(pd.factorize(variable.labels, sort=True)[0] + 1, variable.labels.index, dtype=np.int64)
    is_whole = (variable.numbers == variable.numbers.round()) & (variable.numbers != 0)
    if not is_whole.all():
        value = variable.numbers[~is_whole].iloc[0]
        raise DataError(f"{name!r} has the value {value:g}; blocks are words, or whole numbers other than 0")
    return variable.numbers.astype(np.int64)


def _check_subjects(path: str, blocks: pd.DataFrame, rows: pd.DataFrame, error_term: ErrorTerm | None) -> None:
    """Refuse blocks that would exchange maps of different subjects, or divide what is one subject."""
    innermost = blocks.iloc[:, -1]
    if error_term == "pooled":
        joined = rows["subject"].groupby(innermost).nunique() > 1
        if joined.any():
            raise SpecError(
                path,
                f"the block {joined.index[joined][0]} of {innermost.name!r} holds maps of several subjects; maps of a "
                "subject are correlated, so that only maps within a subject may be exchanged: name subject, or a "
                "column that divides subjects, as the last column",
            )
    elif error_term == "partitioned":
        divided = blocks.groupby(rows["subject"]).nunique().max(axis=1) > 1
        if divided.any():
            raise SpecError(
                path,
                f"sub-{divided.index[divided][0]} is in several blocks; with partitioned error terms whole subjects "
                "are exchanged",
            )
