"""The part of Wilkinson's formula language that a model spec may use.

formulaic evaluates whatever stands in braces or in ``I()`` as Python. A spec is data that people pass on, so a formula
is parsed here first, and only names, numbers, ``+ - : * ^ ( )`` and the functions C, center, scale and poly reach it.

    formula := ["+" | "-"] term (("+" | "-") term)*
    term    := power ((":" | "*") power)*
    power   := atom ["^" number]
    atom    := "0" | "1" | name | function | "(" formula ")"
    function:= ("C" | "center" | "scale") "(" argument ")"  |  "poly" "(" argument "," number ")"
    argument:= name | function
"""

import keyword
import re
from collections.abc import Callable
from dataclasses import dataclass

from bids_group.inputs.strict import suggest

FUNCTIONS = ("C", "center", "scale", "poly")
LONGEST_FORMULA = 2000
HIGHEST_POWER = 4  # (a + b + ...)^9 would expand into hundreds of thousands of columns
HIGHEST_DEGREE = 9
DEEPEST_NESTING = 20
MOST_CROSSINGS = 8  # each * may double the columns
_TOKEN = re.compile(r"\s*(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<number>[0-9]+)|(?P<sign>[-+:*^(),]))")


class FormulaError(ValueError):
    """A formula that is not in the language above."""


@dataclass(frozen=True)
class Formula:
    """A formula that is safe to hand to formulaic.

    Attributes
    ----------
    text : str
        The formula written anew from its tokens.
    names : tuple of str
        The variables in it, each once, in order of appearance.
    """

    text: str
    names: tuple[str, ...]


def parse_formula(text: str) -> Formula:
    """Parse a formula, refusing everything outside the language.

    Raises
    ------
    FormulaError
        With the position of the fault.

    Examples
    --------
    >>> parse_formula("group*age - 1")
    Formula(text='group*age - 1', names=('group', 'age'))
    """
    if len(text) > LONGEST_FORMULA:
        raise FormulaError(f"the formula is longer than {LONGEST_FORMULA} characters")
    parser = _Parser(_split_tokens(text))
    written = parser.read_formula()
    parser.expect_end()
    return Formula(written, tuple(dict.fromkeys(parser.names)))


def _split_tokens(text: str) -> list[str]:
    tokens, position = [], 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None:
            found = text[position:].lstrip()[0]
            raise FormulaError(
                f"{found!r} is not allowed in a formula (at character {position + 1}); it may hold names, numbers, "
                f"+ - : * ^ ( ) and {', '.join(FUNCTIONS)}"
            )
        tokens.append(match[match.lastgroup or 0])
        position = match.end()
    return tokens


class _Parser:
    """Recursive descent over the tokens; one method for each rule of the grammar, returning the rule's text."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.names: list[str] = []
        self._at = 0
        self._depth = 0
        self._crossings = 0

    def _peek(self) -> str:
        return self.tokens[self._at] if self._at < len(self.tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        self._at += 1
        return token

    def _expect(self, wanted: str) -> None:
        found = self._take()
        if found != wanted:
            raise FormulaError(f"expected {wanted!r}, found {found!r}" if found else f"expected {wanted!r} at the end")

    def expect_end(self) -> None:
        """Refuse what is left over."""
        if self._peek():
            raise FormulaError(f"{self._peek()!r} is not expected there")

    def read_formula(self) -> str:
        """Read a whole formula, or what stands in parentheses."""
        text = self._take() if self._peek() in ("+", "-") else ""
        text += self._read_term()
        while self._peek() in ("+", "-"):
            text += f" {self._take()} {self._read_term()}"
        return text

    def _read_term(self) -> str:
        text = self._read_power()
        while self._peek() in (":", "*"):
            self._crossings += self._peek() == "*"
            if self._crossings > MOST_CROSSINGS:
                raise FormulaError(f"the formula crosses more than {MOST_CROSSINGS + 1} terms with *")
            text += self._take() + self._read_power()
        return text

    def _read_power(self) -> str:
        text = self._read_atom()
        if self._peek() == "^":
            text += self._take() + self._read_number(HIGHEST_POWER, "a power")
        return text

    def _read_number(self, highest: int, what: str) -> str:
        token = self._take()
        if token not in map(str, range(1, highest + 1)):
            raise FormulaError(f"{what} must be a whole number from 1 to {highest}, found {token!r}")
        return token

    def _read_atom(self) -> str:
        token = self._take()
        if token == "(":
            return self._nested(lambda: f"({self.read_formula()}{self._close()}")
        if _is_name(token):
            return self._read_call(token) if self._peek() == "(" else self._note_name(token)
        if token not in ("0", "1"):
            raise FormulaError(f"{token!r} is not expected there" if token else "the formula ends too early")
        return token

    def _read_call(self, function: str) -> str:
        if function not in FUNCTIONS:
            raise FormulaError(f"the function {function!r} is not allowed; {suggest(function, FUNCTIONS)}")
        self._expect("(")
        text = f"{function}({self._read_argument(function)}"
        if function == "poly":
            self._expect(",")
            text += f", {self._read_number(HIGHEST_DEGREE, 'the degree of poly()')}"
        return text + self._close()

    def _read_argument(self, function: str) -> str:
        token = self._take()
        if self._peek() == "(":
            return self._nested(lambda: self._read_call(token))
        if not _is_name(token):
            raise FormulaError(f"{function}() takes the name of a variable, found {token!r}")
        if keyword.iskeyword(token):  # formulaic reads what stands in a function as Python
            raise FormulaError(f"{token!r} is a word of Python and cannot stand in {function}(); rename the variable")
        return self._note_name(token)

    def _nested(self, read: Callable[[], str]) -> str:
        self._depth += 1
        if self._depth > DEEPEST_NESTING:
            raise FormulaError("the parentheses are nested too deeply")
        text = read()
        self._depth -= 1
        return text

    def _close(self) -> str:
        self._expect(")")
        return ")"

    def _note_name(self, token: str) -> str:
        self.names.append(token)
        return token


def _is_name(token: str) -> bool:
    return re.match(r"[A-Za-z_]", token) is not None
