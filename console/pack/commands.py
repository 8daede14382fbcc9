"""``workmesh pack``: make a pack, look at what is installed, find what is wrong before it runs, write its schemas."""

from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.table import Table

from console.pack.checking import NotLoadedError, findings, load, points
from console.pack.scaffold import scaffold
from console.pack.schemas import event_schemas, file_name
from mesh.checks import Finding, root_of, tools_of
from mesh.cli import json_option, print_json, stdout
from mesh.errors import SettingsError
from mesh.pack import GROUP, Pack, load_packs


@click.group()
def pack() -> None:
    """Make, check and list domain packs; write the schemas of their events."""


@pack.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the installed packs: what each brings, and where it is. Exit 1 when one cannot be loaded."""
    lines = [_described(point) for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)]
    if as_json:
        print_json(lines)
    else:
        table = Table("pack", "version", "event types", "tools", "playbooks", "sources", "installed in")
        for line in lines:
            tools = [f"{tool['name']} ({tool['does']})" for tool in line["tools"]]
            parts = (line["events"], tools, line["playbooks"], line["sources"])
            folder = line["error"] or line["folder"]
            table.add_row(line["name"], line["version"], *("\n".join(part) for part in parts), folder)
        stdout().print(table)
    if any(line["error"] for line in lines):
        raise SystemExit(1)


def _described(point: EntryPoint) -> dict[str, Any]:
    line: dict[str, Any] = {"name": point.name, "version": "", "events": [], "tools": [], "playbooks": []}
    line |= {"sources": [], "folder": "", "distribution": point.dist.name if point.dist else "", "error": ""}
    try:
        found = load(point)
        tools = tools_of(found).values()
    except (NotLoadedError, SettingsError) as error:
        return line | {"error": str(error)}
    sources = sorted(path.stem for path in found.sources.glob("*.yaml")) if found.sources else []
    return line | {
        "version": found.version,
        "events": [kind.name for kind in found.events],
        "tools": [
            {
                "name": tool.name,
                "does": "reads" if tool.read_only else f"{tool.risk} risk",
                "read_only": tool.read_only,
                "risk": tool.risk,
                "recovery": tool.recovery,
            }
            for tool in tools
        ],
        "playbooks": sorted(path.stem for path in found.playbooks.glob("*.yaml")),
        "sources": sources,
        "folder": str(root_of(found)),
    }


@pack.command()
@click.argument("name")
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@json_option
def new(name: str, folder: Path | None, as_json: bool) -> None:
    """Make a pack NAME, a distribution of its own that runs, in FOLDER (default: NAME), which must not be there."""
    target = folder or Path(name)
    files = scaffold(name, target)
    if as_json:
        print_json({"name": name, "folder": str(target), "files": files})
        return
    click.echo(f"{len(files)} files in {target}. Next:")
    click.echo(
        f"  pip install --editable {target}\n  workmesh pack check {name}\n  workmesh demo {name}\n  pytest {target}"
    )


@pack.command()
@click.argument("source", metavar="NAME|FOLDER")
@json_option
def check(source: str, as_json: bool) -> None:
    """Find what is wrong with a pack before it runs. FOLDER has its pyproject.toml. Exit 1 when something is wrong."""
    try:
        found = {point.name: findings(point) for point in points(source)}
    except NotLoadedError as error:
        found = {source: [error.finding]}
    wrong = [finding for each in found.values() for finding in each]
    if as_json:
        print_json({"ok": not wrong, "packs": list(found), "findings": wrong})
    else:
        _print(found)
    if wrong:
        raise SystemExit(1)


def _print(found: dict[str, list[Finding]]) -> None:
    out = stdout()
    for name, each in found.items():
        for finding in each:
            out.print(finding.line, soft_wrap=True)
        out.print(
            f"{name}: {len(each)} {'thing is' if len(each) == 1 else 'things are'} wrong" if each else f"{name}: ok"
        )


@pack.command()
@click.argument("name", required=False)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Write one file for each type here.")
@json_option
def schemas(name: str | None, out: Path | None, as_json: bool) -> None:
    """Print the JSON Schema of every event type of the pack NAME, or of all packs; or write them to a folder.

    A field of text from outside is marked with `x-workmesh-taint`.
    """
    packs: dict[str, Pack] = load_packs((name,) if name else ())
    found = [schema for each in packs.values() for schema in event_schemas(each)]
    if out is None:
        click.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
        return
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / file_name(schema) for schema in found]
    for path, schema in zip(paths, found, strict=True):
        path.write_bytes(msgspec.json.format(msgspec.json.encode(schema)) + b"\n")
    if as_json:
        print_json({"files": [str(path) for path in paths]})
    else:
        click.echo("\n".join(map(str, paths)))
