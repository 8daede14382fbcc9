"""The shape of the tree: short modules and functions, a docstring everywhere, nothing at the top but what belongs."""

import ast
import statistics
import subprocess
from pathlib import Path

from tests.sources import parsed

ROOT = Path(__file__).parents[1]
PARTS = ("mesh", "agents", "memory_service", "policy_service", "console", "packs", "benchmarks", "deploy")
TOP = {"pyproject.toml", "README.md", "Makefile", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "requirements.lock"}
TOP |= {*PARTS, "deploy", "docs", "tests"}
LONGEST_MODULE = 500
LONGEST_FUNCTION = 60


def sources() -> list[Path]:
    return [path for part in PARTS for path in sorted((ROOT / part).rglob("*.py"))]


def test_no_module_is_longer_than_500_lines_and_the_median_is_short() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    assert {str(path): length for path, length in lengths.items() if length > LONGEST_MODULE} == {}
    assert statistics.median(lengths.values()) <= 150


def test_functions_are_short() -> None:
    long = []
    for path in sources():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > LONGEST_FUNCTION:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {length} lines")
    assert not long


def test_every_module_and_public_function_says_what_it_is_for() -> None:
    silent = []
    for path in sources():
        tree = parsed(path)
        if not ast.get_docstring(tree):
            silent.append(str(path.relative_to(ROOT)))
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                if not node.name.startswith("_") and not ast.get_docstring(node):
                    silent.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert not silent


def test_only_what_belongs_stands_at_the_top() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    top = {line.split("/")[0] for line in listed.splitlines()}
    assert {name for name in top if not name.startswith(".")} <= TOP
