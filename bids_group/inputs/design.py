"""Variables to a design matrix, judged: missing values, rank, degrees of freedom, repeated measures, collinearity."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from bids_group.column_space import ESTIMABILITY_TOLERANCE, ColumnSpace, decompose
from bids_group.errors import DataError, SpecError
from bids_group.inputs.contrast_spec import INTERCEPT
from bids_group.inputs.formula import Formula
from bids_group.inputs.spec import NodeSpec
from bids_group.inputs.strict import suggest
from bids_group.inputs.variables import Variable, VariableTable

# Of a covariate's variance, what the other columns leave; below a tenth (a variance inflation factor above 10,
# Marquardt 1970) its coefficient says little.
LOWEST_TOLERANCE = 0.1


@dataclass(frozen=True)
class DesignMatrix:
    """A design whose rows are the maps.

    Attributes
    ----------
    matrix : DataFrame of float64
        Indexed like the table of maps; one column per regressor.
    space : ColumnSpace
        The decomposition of the matrix.
    dependent_columns : tuple of str
        The columns that are linear combinations of others.
    """

    matrix: pd.DataFrame
    space: ColumnSpace
    dependent_columns: tuple[str, ...]

    @property
    def columns(self) -> list[str]:
        """Return the names of the columns."""
        return list(self.matrix.columns)

    @property
    def rank(self) -> int:
        """Return the rank of the matrix."""
        return self.space.rank

    @property
    def dof(self) -> int:
        """Return the residual degrees of freedom, rows minus rank."""
        return len(self.matrix) - self.rank


def build_design(node: NodeSpec, table: VariableTable) -> DesignMatrix:
    """Build the design of a node's model over the rows of a table.

    Raises
    ------
    SpecError
        If a variable is unknown, of the wrong kind, or leaves no residual degree of freedom.
    DataError
        If a value is missing.
    """
    design = build_columns(node, table)
    if design.dof < 1:
        raise SpecError(
            node.model_path,
            f"{len(design.matrix)} maps and a design of rank {design.rank} leave no residual degree of freedom; "
            "use more maps or fewer columns",
        )
    return design


def build_columns(node: NodeSpec, table: VariableTable) -> DesignMatrix:
    """Build the columns of a design, which may leave no degree of freedom.

    Raises
    ------
    SpecError
        If a variable is unknown or of the wrong kind.
    DataError
        If a value is missing.
    """
    table.refuse_reserved_names()
    matrix = _evaluate_formula(node, node.formula, table) if node.formula else _join_terms(node, table)
    _check_no_zero_column(node, matrix)
    return _judge_matrix(matrix)


def _judge_matrix(matrix: pd.DataFrame) -> DesignMatrix:
    space = decompose(matrix.to_numpy())
    return DesignMatrix(matrix, space, tuple(np.array(matrix.columns)[space.find_dependent_columns()]))


def _join_terms(node: NodeSpec, table: VariableTable) -> pd.DataFrame:
    parts = []
    for i, term in enumerate(node.terms):
        try:
            parts.append(_expand_term(term, table))
        except DataError as error:
            raise SpecError(f"{node.path}.Model.X[{i}]", str(error)) from error
    matrix = pd.concat(parts, axis=1)
    repeated = matrix.columns[matrix.columns.duplicated()]
    if len(repeated):
        raise SpecError(node.model_path, f"two columns are called {repeated[0]!r}")
    return matrix


def _expand_term(term: str, table: VariableTable) -> pd.DataFrame:
    """Return the columns of a term: of an interaction, the products of its parts' columns."""
    if term == INTERCEPT:
        return pd.DataFrame({INTERCEPT: 1.0}, index=table.rows.index)
    parts = _split_interaction(term, table)
    repeated = sorted({part for part in parts if parts.count(part) > 1})
    if repeated:
        raise DataError(f"{repeated[0]!r} stands twice in {term!r}; for a square use the transformation Power")
    return reduce(_multiply_columns, [_expand_part(part, table) for part in parts])


def _split_interaction(term: str, table: VariableTable) -> list[str]:
    """Split at the colons that are in no brackets: levels may hold colons, and so may the names of columns."""
    if term in table.find_names():
        return [term]
    return re.split(r":(?![^\[]*\])", term)


def _multiply_columns(left: pd.DataFrame, right: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({f"{a}:{b}": left[a] * right[b] for a in left.columns for b in right.columns})


def _expand_part(part: str, table: VariableTable) -> pd.DataFrame:
    single_level = re.fullmatch(r"(.+)\[(.+)\]", part)
    name = single_level[1] if single_level else part
    variable = table.resolve(name)
    refuse_missing(name, variable, table.rows)
    if variable.numbers is not None:
        if single_level:
            raise DataError(f"{name!r} is a number and has no levels; make it a factor with Factor")
        return pd.DataFrame({part: variable.numbers})
    columns = _expand_factor(name, variable.labels)
    if single_level and part not in columns:
        raise DataError(f"there is no column {part!r}; {suggest(part, columns.columns)}")
    return columns[[part]] if single_level else columns


def _expand_factor(name: str, labels: pd.Series) -> pd.DataFrame:
    levels = sorted(labels.unique())
    return pd.DataFrame({f"{name}[{level}]": (labels == level).astype(np.float64) for level in levels})


def refuse_missing(name: str, variable: Variable, rows: pd.DataFrame) -> None:
    """Refuse a variable that lacks a value for a map of the model.

    Raises
    ------
    DataError
        With the participants concerned.
    """
    missing = _name_missing(variable.is_missing, rows)
    if missing:
        reason = f"n/a, or no row in {variable.tables}" if variable.tables else "n/a"
        raise DataError(
            f"{name!r} has no value ({reason}) for {', '.join(missing)}; give the values, "
            "or leave the participants out with --participant-label, a Filter or DropNA"
        )


def _name_missing(is_missing: pd.Series, rows: pd.DataFrame) -> list[str]:
    """Name the subjects without a value, and the sessions of those that have one in others."""
    wholly = is_missing.groupby(rows["subject"]).transform("all")
    sessions = rows["session"] if "session" in rows else pd.Series(None, rows.index, dtype=object)
    names = "sub-" + rows["subject"].astype(str)
    partly = is_missing & ~wholly & sessions.notna()
    return sorted({*names[is_missing & ~partly], *(names[partly] + " ses-" + sessions[partly])})


def _evaluate_formula(node: NodeSpec, formula: Formula, table: VariableTable) -> pd.DataFrame:
    # Slow to import, and most specs have X.
    from formulaic import model_matrix
    from formulaic.errors import FormulaicError

    path = f"{node.path}.Model.Formula"
    data = {}
    for name in formula.names:
        try:
            variable = table.resolve(name)
            refuse_missing(name, variable, table.rows)
        except DataError as error:
            raise SpecError(path, str(error)) from error
        if variable.numbers is None and variable.labels.nunique() < 2:
            # formulaic would drop it without a word.
            raise SpecError(
                path, f"{name!r} has one level only, {variable.labels.iloc[0]!r}; take it out of the formula"
            )
        data[name] = variable.labels.astype(str) if variable.numbers is None else variable.numbers
    try:
        # An empty context: the formula sees these variables and formulaic's own transforms, nothing of this program.
        matrix = model_matrix(formula.text, pd.DataFrame(data, index=table.rows.index), context={})
    except (FormulaicError, ValueError, TypeError, np.linalg.LinAlgError) as error:
        told = re.sub(r"\x1b\[[0-9;]*m", "", str(error))  # formulaic colours its messages for terminals
        raise SpecError(path, f"{formula.text!r} cannot be evaluated: {told}") from error
    design = pd.DataFrame(np.asarray(matrix, dtype=np.float64), index=table.rows.index, columns=list(matrix.columns))
    if not design.shape[1] or not np.isfinite(design.to_numpy()).all():
        raise SpecError(path, f"{formula.text!r} gives no usable columns; a variable in it may be constant")
    whole = [name for name, values in data.items() if is_numeric_dtype(values) and (values == values.round()).all()]
    return design.rename(columns=lambda column: INTERCEPT if column == "Intercept" else _name_levels(column, whole))


def _name_levels(column: str, whole: Iterable[str]) -> str:
    """Name levels of whole numbers as formulaic names integers; it was given floats: C(site)[2.0]."""
    for name in whole:
        column = re.sub(rf"(\bC\({name}\)\[(?:T\.)?-?\d+)\.0\]", r"\1]", column)
    return column


def _check_no_zero_column(node: NodeSpec, matrix: pd.DataFrame) -> None:
    empty = matrix.columns[(matrix == 0).all()]
    if len(empty):
        raise SpecError(node.model_path, f"the column {empty[0]!r} is zero in all rows of the model; take it out")


def drop_subject_columns(design: DesignMatrix) -> DesignMatrix:
    """Return a design without the indicators of single subjects, which partitioned error terms do without.

    Raises
    ------
    DataError
        If nothing is left, or subjects interact with something.
    """
    names = [name for name in design.columns if re.match(r"(.*:)?(C\()?subject\)?\[", name)]
    interactions = [name for name in names if ":" in name]
    if interactions:
        raise DataError(f"the column {interactions[0]!r} is an effect of a single subject; take it out of the model")
    matrix = design.matrix.drop(columns=names)
    if not matrix.shape[1]:
        raise DataError("the design has columns of subjects only; add conditions, or 1 for their mean")
    return _judge_matrix(matrix)


def check_pooled_error(node: NodeSpec, rows: pd.DataFrame, design: DesignMatrix) -> None:
    """Refuse a pooled model in which a subject's several maps are taken for independent ones.

    Parameters
    ----------
    node : NodeSpec
    rows : DataFrame
        The maps of the model.
    design : DesignMatrix

    Raises
    ------
    SpecError
        If a subject with several maps has no column in the design.
    """
    counts = rows["subject"].value_counts()
    repeated = counts.index[counts > 1]
    indicators = np.array([(rows["subject"] == subject).to_numpy() for subject in repeated], dtype=np.float64).T
    outside = indicators - design.space.basis @ (design.space.basis.T @ indicators)
    if np.linalg.norm(outside) > ESTIMABILITY_TOLERANCE * np.linalg.norm(indicators):
        raise SpecError(
            node.model_path,
            f"sub-{repeated[0]} has {counts.iloc[0]} maps, which are not independent; the pooled error term needs "
            'a column for each subject: add "subject"',
        )


def find_collinear(design: DesignMatrix) -> list[str]:
    """Warn of covariates that the other columns all but determine.

    The tolerance of a column is the share of its variance about its mean that the other columns leave (Marquardt
    1970). Columns of zeros and ones are not judged: indicators depend on each other by design.

    Returns
    -------
    list of str
        A warning for each such column.
    """
    values = design.matrix.to_numpy()
    warnings = []
    for i, name in enumerate(design.columns):
        is_indicator = np.isin(values[:, i], (0.0, 1.0)).all()
        spread = values[:, i] - values[:, i].mean()
        if is_indicator or not spread.any() or name in design.dependent_columns:
            continue
        others = decompose(np.delete(values, i, axis=1)).basis
        left = spread - others @ (others.T @ spread)
        tolerance = float(left @ left / (spread @ spread))
        if tolerance < LOWEST_TOLERANCE:
            warnings.append(
                f"the column {name!r} is nearly a combination of the others, which leave {100 * tolerance:.2g}% of its "
                "variance; its coefficient is poorly determined"
            )
    return warnings
