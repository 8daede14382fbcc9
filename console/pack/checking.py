"""A pack by its name or its folder, and everything that the parts of the product find wrong with it.

The rule: a pack that cannot be loaded is a finding like any other, with the file and the line.
"""

import sys
import tomllib
import traceback
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import click

from mesh.checks import Finding, load_checks, root_of, shown, tools_of
from mesh.errors import SettingsError
from mesh.pack import GROUP, Pack

READMES = ("README.md", "README.rst", "README.txt", "README")


class NotLoadedError(Exception):
    """A pack could not be loaded; the finding says where."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.line)
        self.finding = finding


def points(source: str) -> list[EntryPoint]:
    """The packs that a name or a folder with a ``pyproject.toml`` means; raises ``click.UsageError``."""
    installed = [point for point in entry_points(group=GROUP) if point.name == source]
    if installed:
        return installed
    folder = Path(source)
    project = folder / "pyproject.toml"
    if not project.is_file():
        known = ", ".join(sorted(point.name for point in entry_points(group=GROUP))) or "none"
        raise click.UsageError(f"{source} is no installed pack ({known}), and no folder with a pyproject.toml")
    try:
        table = tomllib.loads(project.read_text(encoding="utf-8"))
        found: Mapping[str, str] = table["project"]["entry-points"][GROUP]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise NotLoadedError(Finding(file=project.name, place="", problem=f"is no TOML: {error}")) from error
    except KeyError as error:
        problem = f'names no pack: add [project.entry-points."{GROUP}"] with `name = "module:object"`'
        raise NotLoadedError(Finding(file=project.name, place="project.entry-points", problem=problem)) from error
    sys.path.insert(0, str(folder.resolve()))
    return [EntryPoint(name, value, GROUP) for name, value in found.items()]


def load(point: EntryPoint) -> Pack:
    """The pack of an entry point; raises ``NotLoadedError``."""
    try:
        module = import_module(point.module)
    except Exception as error:
        raise NotLoadedError(_failed(point, error)) from error
    pack = getattr(module, point.attr, None)
    if not isinstance(pack, Pack):
        problem = f"{point.value} is no mesh.pack.Pack but {type(pack).__name__}: mend the entry point"
        raise NotLoadedError(Finding(file="pyproject.toml", place=f"{GROUP}: {point.name}", problem=problem))
    return pack


def _failed(point: EntryPoint, error: Exception) -> Finding:
    if isinstance(error, SyntaxError):
        return Finding(file=str(error.filename), place=f"line {error.lineno}", problem=f"{error.msg}")
    own = point.module.partition(".")[0]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if f"/{own}/" in frame.filename]
    told = f"{type(error).__name__}: {error}"
    if frames:
        return Finding(file=frames[-1].filename, place=f"line {frames[-1].lineno}", problem=told)
    return Finding(
        file="pyproject.toml", place=f"{GROUP}: {point.name}", problem=f"cannot import {point.module}: {told}"
    )


def findings(point: EntryPoint) -> list[Finding]:
    """Everything that is wrong with the pack of an entry point."""
    try:
        pack = load(point)
    except NotLoadedError as error:
        return [error.finding]
    own = list(_own(point, pack))
    try:
        _require_tools(point, pack)
    except NotLoadedError as error:
        return [*own, error.finding]
    return own + [finding for check in load_checks().values() for finding in check(pack)]


def _require_tools(point: EntryPoint, pack: Pack) -> None:
    """Raises ``NotLoadedError`` where the pack cannot tell its tools with the defaults of its options."""
    try:
        tools_of(pack)
    except SettingsError as error:
        place = "options" if "settings of pack" in str(error) else "tools"
        problem = f"{error}; a pack must load with the defaults of its options"
        raise NotLoadedError(Finding(file="pack.py", place=place, problem=problem)) from error
    except Exception as error:
        raise NotLoadedError(_failed(point, error)) from error


def _own(point: EntryPoint, pack: Pack) -> Iterator[Finding]:
    """What concerns no single part: the name, the folders, the README."""
    if pack.name != point.name:
        problem = f"the pack calls itself {pack.name}: the entry point must have the same name"
        yield Finding(file="pyproject.toml", place=f"{GROUP}: {point.name}", problem=problem)
    folders = {"playbooks": pack.playbooks, "policies": pack.policies, "prompts": pack.prompts, "sources": pack.sources}
    for name, folder in folders.items():
        if folder is not None and not folder.is_dir():
            yield Finding(file=shown(folder, pack), place=name, problem="is no folder: make it, or mend the pack")
    root = root_of(pack)
    places = (root, root.parent) if (root.parent / "pyproject.toml").is_file() else (root,)
    if not any((place / name).is_file() for place in places for name in READMES):
        problem = "is missing: say what the pack does, what it needs, and how to try it"
        yield Finding(file=READMES[0], place="", problem=problem)
