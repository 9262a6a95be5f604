"""Would the tests notice a wrong number? Changes the code at places drawn at random, one at a time, and tests it.

    python -m validation.mutants [--stats 200] [--inputs 100] [--processes 2] [--again] [--only TEXT]

A mutant is tried in a copy of the tree with the tests of `tests/unit` that execute its line: those of the file named
after its module, then the others, the quickest first. It is killed when one fails. What was tried stands in
validation/scratch/mutants; run again to go on, with `--again` to try anew those that survived. Which tests execute a
line is measured once for each file of tests; delete the folder when the code has changed much. Survivors that no test
could kill stand with their reason in validation/results/mutants_equivalent.tsv; all of the sample in mutants.tsv.
"""

import argparse
import ast
import csv
import hashlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from queue import SimpleQueue

import pytest
from coverage import CoverageData

from validation.mutations import NOWHERE, Mutant, find_mutants, mutate

ROOT = Path(__file__).resolve().parent.parent
SCRATCH, RESULTS = Path(__file__).parent / "scratch" / "mutants", Path(__file__).parent / "results"
TABLE, EQUIVALENT = RESULTS / "mutants.tsv", RESULTS / "mutants_equivalent.tsv"
TRIED, MAPS = SCRATCH / "tried.jsonl", SCRATCH / "maps"
FOLDERS = ("stats", "inputs")
SEED = 0
READS_THE_CODE = "tests/unit/test_architecture.py"  # which executes none of it
SECONDS_OF_TESTS = 40.0  # of those that execute the line; the quickest of them
SECONDS_MORE = 60.0  # to start Python and to compile, before a mutant counts as one that never ends
PYTEST_RAN = 100  # added to its exit codes
UNNOTICED = ("survived", "not executed")
COLUMNS = ("module", "function", "line", "operator", "before", "after", "outcome")
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "HYPOTHESIS_PROFILE": "repeat"}
# What takes seconds to import is imported once, in a process of which each run of the tests is a fork.
FORKS = multiprocessing.get_context("forkserver")
LIBRARIES = ("numba", "nibabel", "pandas", "scipy.stats", "bids.layout", "formulaic", "nilearn.plotting", "hypothesis")
FORKS.set_forkserver_preload([*LIBRARIES, "pytest", "coverage", "validation.mutations"])

Lines = dict[str, dict[int, set[str]]]


def draw_mutants(counts: dict[str, int]) -> list[Mutant]:
    """Return so many mutants of each folder, those of the smallest random numbers, in the order of these."""
    drawn = []
    for folder, count in counts.items():
        names = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "bids_group" / folder).rglob("*.py"))
        found = chain.from_iterable(find_mutants(ROOT, name) for name in names)
        drawn += sorted(found, key=lambda mutant: mutant.digest(SEED))[:count]
    return sorted(drawn, key=lambda mutant: mutant.digest(SEED))


def copy_tree(target: Path) -> None:
    """Copy what git tracks, with the times of the files, so that what was compiled of them stays good."""
    shutil.rmtree(target, ignore_errors=True)
    listed = subprocess.run(("git", "ls-files", "-z"), cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)
    subprocess.run((sys.executable, "-m", "compileall", "-q", "bids_group"), cwd=target, check=True)


def _start_pytest(tree: Path, arguments: Sequence[str], environment: dict[str, str]) -> None:
    """Run pytest in a copy of the tree and end this process, which was forked when the libraries were there."""
    os.setsid()
    os.chdir(tree)
    os.environ |= ENVIRONMENT | environment
    sys.path[:] = [path for path in sys.path if path and Path(path).resolve() != ROOT]
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    os._exit(PYTEST_RAN + pytest.main(["-q", "-p", "no:cacheprovider", *arguments]))


def run_tests(tree: Path, arguments: Sequence[str], *, seconds: float, **environment: str) -> int | None:
    """Run pytest in a copy of the tree; return its exit code, that of a signal, or None after so many seconds."""
    process = FORKS.Process(target=_start_pytest, args=(tree, arguments, environment))
    process.start()
    process.join(seconds)
    if process.exitcode is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
        return None
    if 0 <= process.exitcode < PYTEST_RAN:
        raise RuntimeError(f"pytest did not start in {tree}")
    return process.exitcode - PYTEST_RAN


def map_tests(tree: Path, name: str) -> Path:
    """Write which tests of a file execute which lines, and how long they take; return where."""
    target = MAPS / f"{Path(name).stem}-{hashlib.sha256((tree / name).read_bytes()).hexdigest()[:12]}.json"
    if target.exists():
        return target
    data, report = target.with_suffix(".coverage").absolute(), target.with_suffix(".xml").absolute()
    measured = [f"--cov=bids_group.{folder}" for folder in FOLDERS]
    options = [*measured, "--cov-context=test", "--cov-report=", f"--junitxml={report}", name]
    run_tests(tree, options, seconds=1800.0, COVERAGE_FILE=str(data))
    cases = [case for case in ElementTree.parse(report).iter("testcase") if not len(case)]
    seconds = {f"{name}::{case.get('name')}": float(case.get("time", 0)) for case in cases}
    coverage = CoverageData(str(data))
    coverage.read()
    lines = {}
    for path in sorted(coverage.measured_files()):
        contexts = coverage.contexts_by_lineno(path).items()
        tests = {line: sorted({one.rpartition("|")[0] for one in found} & set(seconds)) for line, found in contexts}
        lines[str(Path(path).relative_to(tree))] = tests
    if run_tests(tree, ("--collect-only", *seconds), seconds=600.0) != 0:
        sys.exit(f"{name}: its tests are not found by their names")
    target.write_text(json.dumps({"seconds": seconds, "lines": lines}))
    for path in (data, report):
        path.unlink()
    return target


def read_maps(paths: Iterable[Path]) -> tuple[Lines, dict[str, float]]:
    """Return for each module and line the tests that execute it, and the seconds that each takes."""
    lines: Lines = defaultdict(lambda: defaultdict(set))
    seconds: dict[str, float] = {}
    for path in paths:
        content = json.loads(path.read_text())
        seconds |= content["seconds"]
        for module, found in content["lines"].items():
            for line, names in found.items():
                lines[module][int(line)].update(names)
    return lines, seconds


def find_callers(mutant: Mutant) -> list[tuple[str, int]]:
    """Return the lines of interpreted functions that name a compiled function, or one that it is called by."""
    names, found = [mutant.function], []
    for name in names:  # to which callers are added that are compiled themselves
        word = re.compile(rf"\b{name}\b")
        for path in sorted((ROOT / "bids_group" / "stats").rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            for one in (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)):
                body = enumerate(text.splitlines()[one.lineno - 1 : one.end_lineno], start=one.lineno)
                here = [(str(path.relative_to(ROOT)), line) for line, content in body if word.search(content)]
                if not any("njit" in ast.unparse(mark) for mark in one.decorator_list):
                    found += here
                elif here and one.name not in names:
                    names.append(one.name)
    return found


def choose_tests(mutant: Mutant, lines: Lines, seconds: dict[str, float]) -> list[list[str]]:
    """Return the tests of the mutant's line, or of its function or module: of the module's own file, and the others.

    What stands outside of functions is executed before any test, and may be read by tests that execute nothing else.
    """
    own, first = lines[mutant.module], f"/test_{Path(mutant.module).stem}.py"
    spans = [mutant.statement, mutant.body, (1, max(own, default=1))]
    places = [[own.get(line, set()) for line in range(start, stop + 1)] for start, stop in spans]
    places[-1].append({test for test in seconds if first in test})
    if mutant.body == NOWHERE:  # of such a statement only the functions in it are known to be executed
        places = places[-1:]
    if mutant.compiled:
        places = [[lines[module].get(line, set()) for module, line in find_callers(mutant)]]
    tests = next((found for place in places if (found := set().union(*place))), set())
    chosen, spent = [], 0.0
    for test in sorted(tests, key=lambda name: (first not in name, seconds[name], name)):
        spent += seconds[test]
        if not chosen or spent <= SECONDS_OF_TESTS:
            chosen.append(test)
    return [part for part in ([t for t in chosen if first in t], [t for t in chosen if first not in t]) if part]


def try_mutant(tree: Path, mutant: Mutant, parts: list[list[str]]) -> str:
    """Return what became of a mutant: killed, timed out, survived, or not executed by any test."""
    path = tree / mutant.module
    path.write_bytes(mutate(ROOT, mutant))
    try:
        for part in (*parts, [READS_THE_CODE]):
            code = run_tests(tree, ("-x", *part), seconds=SECONDS_MORE + 3 * SECONDS_OF_TESTS)
            if code != 0:
                return "timed out" if code is None else "killed"
    finally:
        shutil.copy2(ROOT / mutant.module, path)
    return "survived" if parts else "not executed"


def read_tried() -> dict[str, str]:
    """Return what became of the mutants that were tried, the latest of each."""
    text = TRIED.read_text(encoding="utf-8") if TRIED.exists() else ""
    return dict(json.loads(line) for line in text.splitlines())


def try_mutants(mutants: list[Mutant], *, processes: int) -> None:
    """Try mutants in copies of the tree, several at once, and write down what became of each."""
    trees: SimpleQueue[Path] = SimpleQueue()
    for number in range(processes):
        copy_tree(tree := SCRATCH / f"tree-{number}")
        if run_tests(tree, ["tests/unit/test_smoothing.py"], seconds=SECONDS_MORE) != 0:
            sys.exit(f"the tests do not run in {tree}")
        trees.put(tree)
    MAPS.mkdir(exist_ok=True)
    names = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests" / "unit").glob("test_*.py"))

    def use_tree(work, *arguments):
        tree = trees.get()
        try:
            return work(tree, *arguments)
        finally:
            trees.put(tree)

    def note(mutant: Mutant) -> None:
        outcome = use_tree(try_mutant, mutant, choose_tests(mutant, lines, seconds))
        with TRIED.open("a", encoding="utf-8") as file:
            file.write(json.dumps([mutant.digest(SEED), outcome]) + "\n")
        place = f"{mutant.module}:{mutant.line} {mutant.operator}"
        print(f"{outcome:12} {place}: {mutant.before} -> {mutant.after}", flush=True)

    with ThreadPoolExecutor(processes) as pool:
        lines, seconds = read_maps(list(pool.map(lambda name: use_tree(map_tests, name), names)))
        list(pool.map(note, mutants))


def name_change(mutant: Mutant) -> tuple[str, ...]:
    """Return what equivalent mutants are listed by."""
    return mutant.module, mutant.function, mutant.before, mutant.after


def read_equivalent() -> dict[tuple[str, ...], str]:
    """Return the reasons why mutants cannot be told from the code, by module, function, before and after."""
    with EQUIVALENT.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {tuple(row[name] for name in ("module", "function", "before", "after")): row["reason"] for row in rows}


def write_table(mutants: list[Mutant]) -> None:
    """Write what became of each mutant, and print the numbers by folder."""
    tried, equivalent = read_tried(), read_equivalent()
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(COLUMNS)
        for mutant in sorted(mutants, key=lambda one: (one.module, one.line, one.operator, one.before, one.after)):
            outcome = tried.get(mutant.digest(SEED), "not tried")
            if outcome in UNNOTICED and name_change(mutant) in equivalent:
                outcome = "equivalent"
            counts[mutant.module.split("/")[1]][outcome] += 1
            writer.writerow([*(getattr(mutant, name) for name in COLUMNS[:-1]), outcome])
    for folder, count in counts.items():
        print(folder, count.total(), *(f"{outcome}: {n}" for outcome, n in sorted(count.items())))


def main() -> None:
    """Draw the mutants, try those that are left, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stats", type=int, default=200, help="mutants of bids_group/stats")
    parser.add_argument("--inputs", type=int, default=100, help="mutants of bids_group/inputs")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--again", action="store_true", help="try those that survived anew")
    parser.add_argument("--only", default="", help="try those whose module has this in its name")
    options = parser.parse_args()
    os.environ |= ENVIRONMENT
    MAPS.mkdir(parents=True, exist_ok=True)
    mutants = draw_mutants({"stats": options.stats, "inputs": options.inputs})
    tried = read_tried()
    equivalent = read_equivalent()
    left = [
        mutant
        for mutant in mutants
        if options.only in mutant.module
        and (
            (outcome := tried.get(mutant.digest(SEED))) is None
            or (options.again and outcome in UNNOTICED and name_change(mutant) not in equivalent)
        )
    ]
    try_mutants(left, processes=options.processes)
    write_table(mutants)


if __name__ == "__main__":
    main()
