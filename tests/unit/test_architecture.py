"""The rooms of the house keep to their walls: imports are read from the source, whether at the top or inside functions."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import bids_group

PACKAGE = "bids_group"
ROOT = Path(bids_group.__file__).parent
LEAVES = {"", "errors", "entities", "vocabulary", "column_space"}  # "" is the package itself, for its version
# What each room may import, besides itself. `report` reads what stands on disk, so it needs no more than the names.
MAY_IMPORT = {
    **dict.fromkeys(LEAVES, LEAVES),
    "progress": LEAVES,
    "cortex": LEAVES,
    "checkpoints": LEAVES,
    "engines": LEAVES | {"stats"},
    "work_folder": LEAVES | {"outputs.staging"},
    "inputs": LEAVES,
    "stats": LEAVES,
    "outputs": LEAVES | {"inputs", "stats", "cortex"},
    "report": LEAVES | {"outputs.naming", "cortex"},
    "analysis": LEAVES | {"inputs", "stats", "outputs", "checkpoints"},
    "rerun": LEAVES | {"inputs", "outputs", "report"},
    "stages": LEAVES | {"progress", "inputs", "outputs", "analysis", "rerun"},
    "workflow": LEAVES
    | {"progress", "work_folder", "checkpoints", "engines", "inputs", "outputs", "analysis", "stages"},
    "cli": LEAVES | {"progress", "checkpoints", "engines", "inputs", "outputs", "workflow", "rerun"},
}
# Libraries that one module, or one folder of them, alone may know.
OWNERS = {
    "matplotlib": "outputs.figures",
    "nilearn": "outputs.figures",
    "bids": "inputs.query",
    "formulaic": "inputs.design",
    "jinja2": "report.build",
    "distributed": "engines",
    "dask": "engines.slurm",
    "dask_jobqueue": "engines.slurm",
}
NOT_IN_STATS = {"pandas", "nibabel", "pathlib", "logging", "os", "json"}
FAST = {
    "numpy",
    "scipy",
    "pandas",
    "nibabel",
    "nilearn",
    "bids",
    "matplotlib",
    "threadpoolctl",
    "jinja2",
    "distributed",
}


def name_module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_module(path): path for path in sorted(ROOT.rglob("*.py"))}


def find_imports(path: Path, *, at_top_only: bool = False) -> set[str]:
    """Return the full names of what a module imports; names of a module's members are left as they come."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if at_top_only else list(ast.walk(tree))
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide which room is meant"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def find_own_imports(path: Path, **options: bool) -> set[str]:
    """Return the modules of the package that a module imports."""
    names = [name.split(".")[1:] for name in find_imports(path, **options) if name.split(".")[0] == PACKAGE]
    return {".".join(name) if ".".join(name) in MODULES else ".".join(name[:-1]) for name in names}


def name_room(module: str) -> str:
    return module.split(".")[0]


def find_libraries(path: Path, **options: bool) -> set[str]:
    return {name.split(".")[0] for name in find_imports(path, **options)}


def test_every_module_stands_in_a_known_room():
    assert {name_room(module) for module in MODULES} <= set(MAY_IMPORT)
    assert len(MODULES) > 30


@pytest.mark.parametrize("module", MODULES)
def test_arrows_point_one_way(module):
    room = name_room(module)
    allowed = MAY_IMPORT[room]
    strangers = {
        other
        for other in find_own_imports(MODULES[module])
        if name_room(other) != room and other not in allowed and name_room(other) not in allowed
    }
    assert not strangers


def test_there_are_no_import_cycles():
    graph = {module: find_own_imports(path) - {module, ""} for module, path in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_with_an_owner_is_imported_by_it_alone(library):
    users = {module for module, path in MODULES.items() if library in find_libraries(path)}
    owner = OWNERS[library]
    assert users
    assert {user for user in users if user != owner and not user.startswith(f"{owner}.")} == set()


def test_statistics_know_arrays_only():
    for module, path in MODULES.items():
        if name_room(module) == "stats":
            assert not find_libraries(path) & NOT_IN_STATS, module


def test_command_line_and_leaves_before_parsing_import_nothing_slow():
    for module in ("cli", "", "errors"):
        assert not find_libraries(MODULES[module], at_top_only=True) & FAST, module
        assert find_own_imports(MODULES[module], at_top_only=True) <= {"", "errors", "vocabulary"}, module


@pytest.mark.parametrize("module", MODULES)
def test_what_passes_from_room_to_room_cannot_be_changed(module):
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            for mark in (ast.unparse(mark) for mark in node.decorator_list):
                assert not mark.startswith("dataclass") or "frozen=True" in mark, f"{module}: {node.name}"
