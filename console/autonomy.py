"""``workmesh autonomy``: how far each tool may act by itself, on which evidence; up and down by a signed word."""

import secrets
from datetime import timedelta
from pathlib import Path

import click
from rich.table import Table

from console.approvals import key_option
from mesh import service
from mesh.approvals import Nothing
from mesh.autonomy import Stage, StageLine, StageRequest, StageWord
from mesh.cli import config_option, json_option, print_json, run_async, stdout
from mesh.clock import now
from mesh.errors import WorkmeshError
from mesh.identity import Identity
from mesh.operator import operator_bus
from mesh.signing import STAGE_TYPE, sign

_WORD_S = 300.0


@click.group()
def autonomy() -> None:
    """Show, raise and lower how far tools may act by themselves."""


@autonomy.command("list")
@json_option
@config_option
def list_(as_json: bool, config: Path | None) -> None:
    """List each tool's stage, with what happened since and what it lacks for the next."""
    lines = run_async(_lines(config))
    if as_json:
        print_json(lines)
        return
    table = Table("domain", "tool", "stage", "since", "why", "evidence", "for the next stage")
    for line in lines:
        since = f"{line.since:%Y-%m-%d %H:%M}" if line.since else ""
        lacks = "" if line.stage is Stage.AUTONOMOUS else line.next_needs or "enough: `workmesh autonomy raise`"
        table.add_row(line.domain, line.tool, line.stage, since, line.reason, line.evidence.sentence(), lacks)
    stdout().print(table if lines else "no tool is staged: no bundle in force has an autonomy.yaml")


@autonomy.command("raise")
@click.argument("domain")
@click.argument("tool")
@key_option
@click.option("--role", default="autonomy_owner", show_default=True, help="The role you do it in.")
@click.option("--reason", default="", help="Kept on record.")
@json_option
@config_option
def raise_(domain: str, tool: str, key: Path, role: str, reason: str, as_json: bool, config: Path | None) -> None:
    """Raise TOOL of DOMAIN by one stage, if the evidence since its last change suffices."""
    _tell(run_async(_change(domain, tool, key, role, reason, config, up=True)), as_json)


@autonomy.command()
@click.argument("domain")
@click.argument("tool")
@key_option
@click.option("--role", default="autonomy_owner", show_default=True, help="The role you do it in.")
@click.option("--reason", default="", help="Kept on record.")
@json_option
@config_option
def lower(domain: str, tool: str, key: Path, role: str, reason: str, as_json: bool, config: Path | None) -> None:
    """Lower TOOL of DOMAIN by one stage; no evidence is asked for."""
    _tell(run_async(_change(domain, tool, key, role, reason, config, up=False)), as_json)


async def _lines(config: Path | None) -> list[StageLine]:
    async with operator_bus(config) as (_, bus):
        return await service.ask(bus, "policy", "stages", Nothing(), list[StageLine])


async def _change(
    domain: str, tool: str, key: Path, role: str, reason: str, config: Path | None, *, up: bool
) -> StageLine:
    person = Identity.load(key)
    async with operator_bus(config) as (_, bus):
        lines = await service.ask(bus, "policy", "stages", Nothing(), list[StageLine])
        line = next((line for line in lines if (line.domain, line.tool) == (domain, tool)), None)
        if line is None:
            raise WorkmeshError(f"no tool {tool} of {domain} is staged: see `workmesh autonomy list`")
        at = now()
        word = StageWord(
            domain=domain,
            tool=tool,
            before=line.stage,
            stage=line.stage.above() if up else line.stage.below(),
            role=role,
            person=person.name,
            reason=reason,
            nonce=secrets.token_hex(16),
            at=at,
            expires_at=at + timedelta(seconds=_WORD_S),
        )
        request = StageRequest(signed=sign(word, STAGE_TYPE, person))
        return await service.ask(bus, "policy", "stage", request, StageLine, timeout_s=10)


def _tell(line: StageLine, as_json: bool) -> None:
    if as_json:
        print_json(line)
    else:
        click.echo(f"{line.tool} of {line.domain} is {line.stage} now")
