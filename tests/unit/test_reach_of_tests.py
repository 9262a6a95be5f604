"""Every public function of the statistics is called by a unit test by its name; of the inputs, it or what calls it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import bids_group

ROOT = Path(bids_group.__file__).parent
TESTS = Path(__file__).parent
# An inner loop, whose many arrays are laid out by the function that a test calls instead.
THROUGH = {
    "bids_group.stats.permutation.patterns.convert_patterns": "bids_group.stats.permutation.patterns.prepare_patterns",
}


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def list_modules(folder: Path) -> dict[str, ast.Module]:
    paths = sorted(folder.rglob("*.py"))
    return {".".join(path.relative_to(ROOT.parent).with_suffix("").parts): parse(path) for path in paths}


def find_used(tree: ast.AST, names: dict[str, str]) -> set[str]:
    """Return the full names of what is used, not only imported, below a node."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in names:
            found.add(names[node.id])
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names:
            found.add(f"{names[node.value.id]}.{node.attr}")
    return found


def list_imports(tree: ast.Module) -> dict[str, str]:
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name: f"{node.module}.{alias.name}" for node in nodes for alias in node.names}


def list_definitions(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in [node.target] if isinstance(node, ast.AnnAssign) else node.targets:
                if isinstance(target, ast.Name):
                    yield target.id, node


def list_public(folder: Path) -> set[str]:
    return {
        f"{module}.{node.name}"
        for module, tree in list_modules(folder).items()
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }


def list_calls() -> dict[str, set[str]]:
    """Return what each function, class and constant of the package uses."""
    calls = {}
    for module, tree in list_modules(ROOT).items():
        own = dict(list_definitions(tree))
        names = {**list_imports(tree), **{name: f"{module}.{name}" for name in own}}
        calls |= {f"{module}.{name}": find_used(node, names) for name, node in own.items()}
    return calls


def is_private(name: str) -> bool:
    last = name.rsplit(".", 1)[1]
    return last.startswith("_") or last.isupper()


def follow(name: str, calls: dict[str, set[str]]) -> set[str]:
    """Return what a function uses itself, or through private parts of its module."""
    reached, left = set(), [name]
    while left:
        new = calls.get(left.pop(), set()) - reached
        reached |= new
        left += [one for one in new if is_private(one)]
    return reached


@pytest.fixture(scope="module")
def named():
    """Return what the unit tests use by its name; this module uses nothing of it."""
    trees = [parse(path) for path in sorted(TESTS.glob("test_*.py"))]
    return {name for tree in trees for name in find_used(tree, list_imports(tree))}


def test_every_public_function_of_the_statistics_is_called_by_a_unit_test(named):
    public = list_public(ROOT / "stats")
    assert len(public) > 100
    assert public - named == set(THROUGH)
    assert set(THROUGH.values()) <= named


def test_every_public_function_of_the_inputs_is_called_by_a_unit_test_or_by_what_one_calls(named):
    calls = list_calls()
    reached = named | {one for name in named for one in follow(name, calls)}
    assert list_public(ROOT / "inputs") - reached == set()


def test_a_function_that_no_test_names_would_be_noticed():
    tree = ast.parse("from m import f, g\nfrom m import h as k\nimport m\n\ndef test():\n    f()\n    k.part()\n")
    assert find_used(tree, list_imports(tree)) == {"m.f", "m.h", "m.h.part"}
