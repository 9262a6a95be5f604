"""What can be changed in the code for `validation.mutants`: every mutation that mutmut's operators make of a module.

mutmut's own runner leaves out functions with a decorator, which are all that numba compiles; only its operators are
taken. Left out by rule is what no test can be asked to notice (annotations and type aliases, documentation, what makes
the text of an error or of a log) and what nearly any test notices (None in the place of an argument or a value).
"""

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import libcst as cst
import libcst.matchers as m
from libcst.metadata import ByteSpanPositionProvider, MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

_TYPES = m.Subscript(value=m.Name("NDArray") | m.Name("Literal") | m.Name("Callable"))
_MESSAGES = m.Attribute(attr=m.Name("fail") | m.Name("info") | m.Name("warning"))
LEFT_OUT = (
    m.Annotation()
    | m.Raise()
    | m.Call(func=_MESSAGES)
    | m.Assign(value=_TYPES)
    | m.Assign(targets=[m.AssignTarget(target=m.Name("__all__"))])
)
NOWHERE = (0, 0)  # the lines of the function that a statement outside of functions is in
_MAY_BE_LEFT_OUT = (cst.Annotation, cst.Raise, cst.Call, cst.Assign)
_COMPILED = m.Decorator(decorator=m.Call(func=m.Name("njit")) | m.Name("njit"))


@dataclass(frozen=True)
class Mutant:
    """One change of one module: what stands there, what would stand there, and the lines whose tests may notice."""

    module: str
    function: str
    operator: str
    line: int
    before: str
    after: str
    repeat: int
    statement: tuple[int, int]
    body: tuple[int, int]
    compiled: bool
    start: int
    length: int
    text: str

    def digest(self, seed: int) -> str:
        """Return a random number of the mutant, which does not depend on what stands elsewhere in the module."""
        words = (seed, self.module, self.function, self.operator, self.before, self.after, self.repeat)
        return hashlib.sha256("\0".join(map(str, words)).encode()).hexdigest()


def _is_none(node: cst.CSTNode, mutated: cst.CSTNode) -> bool:
    """Whether the mutation puts None where a value stood."""
    if isinstance(node, cst.Call) and isinstance(mutated, cst.Call) and len(node.args) == len(mutated.args):
        pairs = zip(node.args, mutated.args, strict=True)
        return any(new is not old and m.matches(new.value, m.Name("None")) for old, new in pairs)
    return isinstance(node, (cst.Assign, cst.AnnAssign)) and m.matches(mutated.value, m.Name("None"))


class _Finder(cst.CSTVisitor):
    """Walks a module and notes every mutation with where it is."""

    METADATA_DEPENDENCIES = (PositionProvider, ByteSpanPositionProvider)

    def __init__(self, name: str, module: cst.Module) -> None:
        super().__init__()
        self.name, self.module = name, module
        self.found: list[Mutant] = []
        self.stack: list[cst.CSTNode] = []
        self.seen: Counter[tuple[str, ...]] = Counter()

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, _MAY_BE_LEFT_OUT) and m.matches(node, LEFT_OUT):
            return False
        self.stack.append(node)
        for kind, operator in mutation_operators:
            if isinstance(node, kind):
                for mutated in operator(node):
                    if not _is_none(node, mutated):
                        self.note(operator.__name__.removeprefix("operator_"), node, mutated)
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if self.stack and self.stack[-1] is original_node:
            self.stack.pop()

    def span(self, node: cst.CSTNode) -> tuple[int, int]:
        position = self.get_metadata(PositionProvider, node)
        end = position.end.line
        if isinstance(node, (cst.If, cst.For, cst.While, cst.With, cst.Try, cst.FunctionDef, cst.ClassDef)):
            end = self.get_metadata(PositionProvider, node.body).start.line - 1
        return position.start.line, max(position.start.line, end)

    def note(self, operator: str, node: cst.CSTNode, mutated: cst.CSTNode) -> None:
        functions = [one for one in self.stack if isinstance(one, (cst.FunctionDef, cst.ClassDef))]
        statements = [one for one in self.stack if isinstance(one, (cst.BaseSmallStatement, cst.BaseCompoundStatement))]
        place = self.get_metadata(PositionProvider, statements[-1] if node.children == () else node)
        before, after = (" ".join(self.module.code_for_node(one).split()) for one in (node, mutated))
        function = ".".join(one.name.value for one in functions)
        self.seen[key := (function, operator, before, after)] += 1
        body = self.get_metadata(PositionProvider, functions[0]) if functions else None
        place_in_bytes = self.get_metadata(ByteSpanPositionProvider, node)
        mutant = Mutant(
            module=self.name,
            function=function,
            operator=operator,
            line=place.start.line,
            before=before,
            after=after,
            repeat=self.seen[key],
            statement=self.span(statements[-1]),
            body=(body.start.line, body.end.line) if body else NOWHERE,
            compiled=any(m.matches(mark, _COMPILED) for one in functions for mark in getattr(one, "decorators", ())),
            start=place_in_bytes.start,
            length=place_in_bytes.length,
            text=self.module.code_for_node(mutated).strip(),
        )
        self.found.append(mutant)


def find_mutants(root: Path, name: str) -> list[Mutant]:
    """Return all mutants of a module, whose path below `root` is `name`."""
    wrapper = MetadataWrapper(cst.parse_module((root / name).read_text(encoding="utf-8")))
    finder = _Finder(name, wrapper.module)
    wrapper.visit(finder)
    return finder.found


def mutate(root: Path, mutant: Mutant) -> bytes:
    """Return the module with the mutation made."""
    content = (root / mutant.module).read_bytes()
    return content[: mutant.start] + mutant.text.encode() + content[mutant.start + mutant.length :]
