"""``workmesh pause`` and ``workmesh resume``: the kill switch, by domain, tool or agent, on record."""

from datetime import datetime
from pathlib import Path

import click
import msgspec
from rich.table import Table

from console.approvals import key_option
from mesh.cli import config_option, json_option, print_json, run_async, stdout
from mesh.clock import now
from mesh.control import Controls, Standing
from mesh.errors import WorkmeshError
from mesh.halts import HALT, HALTED_ROLES, Halt
from mesh.identity import Identity
from mesh.journal import committing
from mesh.operator import ROLE, operator_bus
from mesh.pack import load_packs
from mesh.settings import Settings
from mesh.trust import TrustDirectory, read_directory


class HaltLine(msgspec.Struct, frozen=True, kw_only=True):
    """An act of halting or resuming that is in force. ``seq`` is its place in the journal."""

    domain: str
    tool: str
    agent: str
    halted: bool
    person: str
    since: datetime
    reason: str
    seq: int


domain_option = click.option("--domain", default="", help="Only this domain.")
tool_option = click.option("--tool", default="", help="Only this tool, such as retail.refund.")
agent_option = click.option(
    "--agent", default="", help="Only this agent: planner, policy or executor, or one process of it (executor/host-1)."
)
reason_option = click.option("--reason", default="", help="Why; everybody who meets the halt sees it.")


@click.command()
@domain_option
@tool_option
@agent_option
@reason_option
@click.option("--list", "only_list", is_flag=True, help="Only show what is paused.")
@click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    envvar="WORKMESH_KEY",
    help="Your own private key. Default: the site's operator key.",
)
@json_option
@config_option
def pause(
    domain: str,
    tool: str,
    agent: str,
    reason: str,
    only_list: bool,
    key: Path | None,
    as_json: bool,
    config: Path | None,
) -> None:
    """Let nothing new begin, within a second: everywhere, or where all the options name.

    What waits goes on by itself after `workmesh resume` with the same options. A call already made is finished.
    """
    if only_list:
        if domain or tool or agent or reason:
            raise click.UsageError("--list goes with no other option: it shows all that is paused")
        _show(run_async(_list(config)), as_json)
        return
    _check_agent(agent)
    halt = Halt(person="", at=now(), reason=reason, domain=domain, tool=tool, agent=agent, halted=True)
    line = run_async(_put(halt, key, config))
    if as_json:
        print_json(line)
    else:
        click.echo(f"{halt.scope} is paused by {line.person}; to go on: workmesh resume {_options(halt)}".rstrip())


@click.command()
@domain_option
@tool_option
@agent_option
@reason_option
@key_option
@json_option
@config_option
def resume(domain: str, tool: str, agent: str, reason: str, key: Path, as_json: bool, config: Path | None) -> None:
    """Let go on what was paused with the same options; signed by an operator or policy_admin in person."""
    _check_agent(agent)
    halt = Halt(person="", at=now(), reason=reason, domain=domain, tool=tool, agent=agent, halted=False)
    line, left = run_async(_resume(halt, key, config))
    if as_json:
        print_json(line)
        return
    click.echo(f"{halt.scope} goes on, says {line.person}")
    if left:
        click.echo(f"{len(left)} more stay paused:", err=True)
        _show(left, as_json=False)


async def _resume(halt: Halt, key: Path, config: Path | None) -> tuple[HaltLine, list[HaltLine]]:
    line = await _put(halt, key, config)
    return line, await _list(config)


async def _put(halt: Halt, key: Path | None, config: Path | None) -> HaltLine:
    async with operator_bus(config) as (settings, bus), committing(bus) as committer:
        signer = Identity.load(key or settings.identity_path(ROLE))
        controls = Controls(bus, settings.root_key(), HALT)
        await controls.refresh()
        if not halt.halted and not any(item.act.halted and item.act.scope == halt.scope for item in _all(controls)):
            halted = "; ".join(item.act.scope for item in _all(controls) if item.act.halted) or "nothing"
            raise WorkmeshError(f"{halt.scope} is not paused as such: paused is {halted}")
        if halt.halted:
            _warn_of_unknown(halt, settings)
        person = _name(await read_directory(bus, settings.root_key()), signer)
        act = msgspec.structs.replace(halt, person=person)
        return _line(await controls.put(committer, HALT, act, signer))


async def _list(config: Path | None) -> list[HaltLine]:
    async with operator_bus(config) as (settings, bus):
        controls = Controls(bus, settings.root_key(), HALT)
        await controls.refresh()
        return [_line(item) for item in _all(controls) if item.act.halted]


def _all(controls: Controls) -> tuple[Standing[Halt], ...]:
    return controls.standing(HALT)


def _name(directory: TrustDirectory, signer: Identity) -> str:
    """Under which name this key is enrolled; else its own, which will be refused with what to do."""
    names = [entry.name for entry in directory.entries() if entry.public_key == signer.public_key]
    return names[0] if names else signer.name


def _line(item: Standing[Halt]) -> HaltLine:
    act = item.act
    return HaltLine(
        domain=act.domain,
        tool=act.tool,
        agent=act.agent,
        halted=act.halted,
        person=act.person,
        since=act.at,
        reason=act.reason,
        seq=item.seq,
    )


def _check_agent(agent: str) -> None:
    if agent and agent.partition("/")[0] not in HALTED_ROLES:
        raise click.UsageError(f"--agent {agent}: a halt can hold {', '.join(HALTED_ROLES)}, or one process of these")


def _warn_of_unknown(halt: Halt, settings: Settings) -> None:
    """A halt of something misspelt holds nothing: say so, and halt all the same."""
    packs = load_packs()
    if halt.domain and halt.domain not in packs:
        click.echo(f"warning: no pack {halt.domain} is installed here, only {', '.join(packs) or 'none'}", err=True)
    if halt.tool:
        tools = {
            tool.name
            for name, pack in packs.items()
            for tool in pack.tools(pack.read_options(settings.packs.get(name)))
        }
        if halt.tool not in tools:
            click.echo(f"warning: no pack installed here has a tool {halt.tool}: {', '.join(sorted(tools))}", err=True)


def _options(halt: Halt) -> str:
    parts = (("--domain", halt.domain), ("--tool", halt.tool), ("--agent", halt.agent))
    return " ".join(f"{option} {value}" for option, value in parts if value)


def _show(lines: list[HaltLine], as_json: bool) -> None:
    if as_json:
        print_json(lines)
        return
    table = Table("paused domain", "tool", "agent", "by", "since (UTC)", "why")
    for line in lines:
        parts = [part or "any" for part in (line.domain, line.tool, line.agent)]
        table.add_row(*parts, line.person, f"{line.since:%Y-%m-%d %H:%M:%S}", line.reason)
    stdout().print(table if lines else "nothing is paused")
