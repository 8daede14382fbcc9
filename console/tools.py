"""``workmesh tools``: the tools of packs, and the review of those that come from elsewhere."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.table import Table

from mesh import settings
from mesh.cli import config_option, json_option, print_json, run_async, stdout
from mesh.errors import NotSentError, SettingsError
from mesh.mounts.folder import Mount, read_mount, read_mounts, values_of
from mesh.mounts.review import Reviewed, Standing, accept, review
from mesh.pack import Pack, load_packs
from mesh.tools import Tool

_set_option = click.option("--set", "pairs", multiple=True, metavar="NAME=VALUE", help="A value for ${NAME} in a file.")


@click.group()
def tools() -> None:
    """List tools; review and pin those of MCP servers and OpenAPI documents."""


@tools.command("list")
@click.argument("packs", metavar="[PACK]...", nargs=-1)
@json_option
@config_option
def list_(packs: tuple[str, ...], as_json: bool, config: Path | None) -> None:
    """List the tools of each PACK, or of all that are installed, with what they declare."""
    found = [
        _line(pack.name, tool) for pack in load_packs(packs).values() for tool in pack.tools(_options(pack, config))
    ]
    if as_json:
        print_json(found)
        return
    table = Table("tool", "target", "recovery", "risk", "undone by", "time-out", "kept")
    for line in found:
        recovery = "reads only" if line["read_only"] else line["recovery"]
        kept = f"{line['cache_s']:g} s" if line["cache_s"] else ""
        table.add_row(
            line["tool"], line["target"], recovery, line["risk"], line["compensation"], f"{line['timeout_s']:g} s", kept
        )
    stdout().print(table)


@tools.command()
@click.argument("source")
@_set_option
@json_option
@config_option
def check(source: str, pairs: tuple[str, ...], as_json: bool, config: Path | None) -> None:
    """Ask the targets of SOURCE, a mount's file or a pack, for their tools, and compare these with the pins.

    Exit 1 when a tool is not as it was pinned. What a server says is shown as it is: read it as text from a stranger.
    """
    found = [line for mount in _mounts(source, pairs, config) for line in _ask(mount)]
    wrong = [line for line in found if line.standing not in (Standing.PINNED, Standing.OFFERED)]
    if as_json:
        print_json({"ok": not wrong, "tools": found})
    else:
        _show(found)
        for line in wrong:
            if line.description or bytes(line.input_schema) != b"null":
                click.echo(f"\n{line.tool or line.name}, which is {line.standing}, says now:")
                schema = msgspec.json.format(bytes(line.input_schema), indent=2).decode()
                stdout().print(f"{line.description}\n{schema}")
    if wrong:
        raise SystemExit(1)


@tools.command()
@click.argument("source")
@click.option("--tool", "only", multiple=True, help="Only this tool, by its name here; may be given again.")
@_set_option
@json_option
@config_option
def pin(source: str, only: tuple[str, ...], pairs: tuple[str, ...], as_json: bool, config: Path | None) -> None:
    """Accept what the targets of SOURCE, a mount's file or a pack, offer now. Look at `check` before."""
    mounts = [mount for mount in _mounts(source, pairs, config) if _takes_pins(mount, only)]
    if not mounts:
        raise click.UsageError(f"{source} has nothing to pin" + (f" named {', '.join(only)}" if only else ""))
    found = [line for mount in mounts for line in run_async(accept(mount, only))]
    if as_json:
        print_json({"tools": found})
    else:
        _show(found)


def _takes_pins(mount: Mount, only: tuple[str, ...]) -> bool:
    return hasattr(mount, "document") or hasattr(mount, "pins") if not only else _has(mount, only)


def _has(mount: Mount, only: tuple[str, ...]) -> bool:
    return bool({each.tool for each in mount.declarations}.intersection(only))


def _ask(mount: Mount) -> tuple[Reviewed, ...]:
    try:
        return run_async(review(mount))
    except NotSentError as error:
        raise click.ClickException(str(error)) from error


def _mounts(source: str, pairs: tuple[str, ...], config: Path | None) -> tuple[Mount, ...]:
    values: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise click.UsageError(f"--set takes NAME=VALUE, not {pair!r}")
        values[name] = value
    path = Path(source)
    if path.suffix == ".yaml":
        return (read_mount(path, values),)
    try:
        pack = load_packs((source,))[source]
    except SettingsError as error:
        raise click.UsageError(f"{source} is no mount's file (.yaml), and {error}") from error
    return read_mounts(pack.playbooks.parent / "mounts", {**values_of(_options(pack, config)), **values})


def _options(pack: Pack, config: Path | None) -> Any:
    return pack.read_options(settings.load(config).packs.get(pack.name))


def _line(pack: str, tool: Tool) -> Mapping[str, Any]:
    return {
        "pack": pack,
        "tool": tool.name,
        "target": tool.target,
        "description": tool.description,
        "read_only": tool.read_only,
        "recovery": tool.recovery,
        "risk": tool.risk,
        "compensation": tool.compensation,
        "timeout_s": tool.timeout_s,
        "settle_s": tool.settle_s,
        "concurrency": tool.concurrency,
        "cache_s": tool.cache_s,
        "outside": tool.outside,
        "arguments": [field.encode_name for field in msgspec.structs.fields(tool.args)],
    }


def _show(found: list[Reviewed]) -> None:
    table = Table("mount", "tool", "there", "standing", "pinned", "now")
    for line in found:
        table.add_row(line.mount, line.tool, line.name, line.standing, line.pinned[:19], line.now[:19])
    stdout().print(table if found else "nothing to review: all that these tools are stands in their files")
