"""``workmesh quarantine``: what was not accepted, why, and its release after mending."""

import getpass
from pathlib import Path

import click
from rich.table import Table

from mesh import quarantine as items
from mesh.bus import Bus
from mesh.cli import config_option, json_option, print_json, run_async, stdout
from mesh.errors import WorkmeshError
from mesh.journal import committing
from mesh.operator import operator_bus
from mesh.quarantine import Quarantined


@click.group()
def quarantine() -> None:
    """List, show and release what was not accepted."""


@quarantine.command("list")
@json_option
@config_option
def list_(as_json: bool, config: Path | None) -> None:
    """List what waits in quarantine, oldest first."""
    found = run_async(_waiting(config))
    if as_json:
        print_json([{"id": item.id, **_plain(item)} for item in found])
        return
    table = Table("item", "stage", "reason", "detail", "event", "from", "at")
    for item in found:
        place = f"{item.stream} #{item.seq}" if item.stream else item.subject
        table.add_row(
            item.id, item.stage, item.reason, item.detail, item.event_id, place, f"{item.at:%Y-%m-%d %H:%M:%S}"
        )
    stdout().print(table if found else "quarantine is empty")


@quarantine.command()
@click.argument("item")
@json_option
@config_option
def show(item: str, as_json: bool, config: Path | None) -> None:
    """Show one ITEM with the original bytes."""
    found = run_async(_show(item, config))
    if as_json:
        print_json({"id": found.id, **_plain(found)})
        return
    for name, value in _plain(found).items():
        if name != "original":
            click.echo(f"{name:13} {value}")
    click.echo(f"{'original':13} {found.data.decode('utf-8', 'backslashreplace')}")


@quarantine.command()
@click.argument("item")
@click.option("--person", default=getpass.getuser, help="Who releases it, kept with the record. Default: your login.")
@config_option
def release(item: str, person: str, config: Path | None) -> None:
    """Give ITEM to its stage again, as if it came now."""
    found = run_async(_release(item, person, config))
    click.echo(f"released {found.id} to {found.stage}")


async def _waiting(config: Path | None) -> list[Quarantined]:
    async with operator_bus(config) as (_, bus):
        return await items.waiting(bus)


async def _show(item: str, config: Path | None) -> Quarantined:
    async with operator_bus(config) as (_, bus):
        return await _find(bus, item)


async def _release(item: str, person: str, config: Path | None) -> Quarantined:
    async with operator_bus(config) as (_, bus), committing(bus) as committer:
        found = await _find(bus, item)
        await items.release(committer, found, person=person)
    return found


async def _find(bus: Bus, item: str) -> Quarantined:
    if (found := await items.find(bus, item)) is None:
        raise WorkmeshError(f"no item {item!r} waits in quarantine: see `workmesh quarantine list`")
    return found


def _plain(item: Quarantined) -> dict[str, object]:
    return {name: getattr(item, name) for name in item.__struct_fields__}
