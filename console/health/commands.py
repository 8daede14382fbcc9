"""``workmesh doctor`` and ``workmesh status``."""

import asyncio
from pathlib import Path

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from console.health import local, probing
from console.health.judging import Check, fail, judge, line_of_hub
from console.health.state import State, read_state
from mesh.cli import config_option, json_option, print_json, run_async, stdout
from mesh.errors import BusUnavailableError, WorkmeshError
from mesh.operator import operating, operator_bus
from mesh.process import bus_url
from mesh.settings import Settings, load

_STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@json_option
@config_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool, config: Path | None) -> None:
    """Look at settings, keys, disk, clock, bus, permissions, durability, processes and lag; say how to mend each.

    Exit status 1 when something failed; a warning is no failure.
    """
    checks = run_async(_checks(load(config)))
    if as_json:
        print_json(checks)
    else:
        stdout().print(_table(checks))
        failed, warned = (sum(check.verdict == verdict for check in checks) for verdict in ("fail", "warn"))
        click.echo(f"{len(checks)} checks: {failed} failed, {warned} to look at")
    ctx.exit(1 if any(check.verdict == "fail" for check in checks) else 0)


@click.command()
@click.option("--watch", is_flag=True, help="Show it anew every two seconds, until Ctrl-C.")
@json_option
@config_option
def status(watch: bool, as_json: bool, config: Path | None) -> None:
    """Show what lives, what waits where, and what a person must look at."""
    if watch and not as_json:
        run_async(_watch(config))
        return
    found = run_async(_status(config))
    if as_json:
        print_json(found)
    else:
        stdout().print(_page(found))


async def _checks(settings: Settings) -> list[Check]:
    found = list(local.look(settings))
    try:
        async with operating(settings) as bus:
            found += [each async for each in probing.probe(bus, bus_url(settings), settings)]
            found += judge(await read_state(bus, settings), settings)
    except BusUnavailableError as error:
        found.append(fail("bus", str(error), "start it: `workmesh up`, or the servers of bus.url"))
    except WorkmeshError as error:
        found.append(fail("bus", str(error), "the message says how"))
    return found


async def _status(config: Path | None) -> State:
    async with operator_bus(config) as (settings, bus):
        return await read_state(bus, settings)


async def _watch(config: Path | None) -> None:
    async with operator_bus(config) as (settings, bus):
        with Live(console=stdout(), screen=False, auto_refresh=False) as live:
            while True:
                try:
                    live.update(_page(await read_state(bus, settings)), refresh=True)
                except BusUnavailableError as error:
                    live.update(Text(f"the bus does not answer: {error}"), refresh=True)
                await asyncio.sleep(2)


def _table(checks: list[Check]) -> Table:
    table = Table("", "what", "found", "mend")
    for check in checks:
        table.add_row(Text(check.verdict, _STYLES[check.verdict]), check.name, check.found, check.mend)
    return table


def _page(state: State) -> RenderableType:
    waits = Table("stage", "waiting", "in hand", "oldest")
    for stage in state.stages:
        oldest = f"{stage.oldest_s:.1f} s" if stage.oldest_s else ""
        waits.add_row(stage.stage, f"{stage.waiting:,}", f"{stage.in_hand:,}", oldest)
    alive = Table("process", "instance", "since")
    for each in state.processes:
        alive.add_row(each.role, each.instance, f"{each.since:%Y-%m-%d %H:%M:%S}")
    return Group(alive, waits, *(Text(line) for line in _lines(state)))


def _lines(state: State) -> list[str]:
    people = state.people
    lines = [f"bus: nats-server {state.server}, {state.storage / 1e6:,.1f} MB, {len(state.streams)} streams"]
    if people is None:
        lines.append("people: no policy process answers")
    else:
        lines.append(
            f"people: {people.approvals} approvals wait ({people.overdue} overdue), {people.in_doubt} in doubt"
        )
    lines.append(f"quarantine: {state.quarantine}")
    lines.append(f"audit: {state.audit.behind} records wait for a signature, {state.audit.problems} problems")
    lines += [f"paused: {halt}" for halt in state.halts]
    lines += [f"hub: {line_of_hub(state.hub)}"] if state.hub else []
    lines += [f"restored: from the backup of {state.restored}"] if state.restored else []
    return lines
