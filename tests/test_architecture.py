"""Imports point one way: mesh imports nothing of ours, the others import only mesh and themselves (DESIGN 1)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sources import parsed

ROOT = Path(__file__).parents[1]
PARTS = ("mesh", "agents", "memory_service", "policy_service", "console", "packs", "benchmarks", "deploy")


def modules(part: str) -> Iterator[Path]:
    return (path for path in sorted((ROOT / part).rglob("*.py")))


def imported(path: Path) -> Iterator[tuple[int, str]]:
    tree = parsed(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield node.lineno, node.module or ""


def owner(path: Path) -> tuple[str, ...]:
    """The part a module belongs to; each agent and each pack is a part of its own."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[:2] if parts[0] in ("agents", "packs") and len(parts) > 2 else parts[:1]


@pytest.mark.parametrize("part", PARTS)
def test_a_part_imports_only_mesh_and_itself(part: str) -> None:
    wrong = []
    for path in modules(part):
        own = owner(path)
        for line, name in imported(path):
            parts = tuple(name.split("."))
            if parts[0] not in PARTS or parts[0] == "mesh" or parts[: len(own)] == own:
                continue
            if part == "benchmarks":
                continue  # measures the whole product
            wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    assert not wrong


def test_the_shop_is_a_foreign_system_that_knows_nothing_of_the_mesh() -> None:
    wrong = [
        f"{path.name}:{line} imports {name}"
        for path in modules("packs/retail/shop")
        for line, name in imported(path)
        if name.split(".")[0] in PARTS and not name.startswith("packs.retail.shop")
    ]
    assert not wrong


def test_the_pack_reaches_the_shop_by_http_only() -> None:
    allowed = {"sample"}  # the sample's generator uses the shop's own rules to say what is expected
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in modules("packs/retail")
        for line, name in imported(path)
        if name.startswith("packs.retail.shop")
        and path.relative_to(ROOT / "packs/retail").parts[0] not in allowed | {"shop"}
    ]
    assert not wrong


def test_no_import_hides_in_a_function_or_behind_type_checking() -> None:
    hidden = []
    for part in PARTS:
        for path in modules(part):
            for node in ast.walk(parsed(path)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    inner = [each for each in ast.walk(node) if isinstance(each, ast.Import | ast.ImportFrom)]
                    hidden += [f"{path.relative_to(ROOT)}:{each.lineno}" for each in inner]
                if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                    hidden.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not hidden


def test_mesh_has_no_import_cycle() -> None:
    graph = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): {
            name for _, name in imported(path) if name.startswith("mesh.")
        }
        for path in modules("mesh")
    }
    for path in modules("mesh"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in parsed(path).body:
            if isinstance(node, ast.ImportFrom) and node.module == "mesh":
                graph[module] |= {f"mesh.{alias.name}" for alias in node.names}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"import cycle: {' -> '.join((*path[path.index(name) :], name))}"
        if name in done or name not in graph:
            return
        for target in graph[name]:
            visit(target, (*path, name))
        done.add(name)

    for name in graph:
        visit(name, ())
