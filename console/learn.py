"""``workmesh learn``: what was learned of past tasks, what is proposed, and people's signed words on it."""

import secrets
from datetime import datetime, timedelta
from pathlib import Path

import click
from rich.table import Table

from console.approvals import key_option
from mesh import service
from mesh.approvals import Nothing
from mesh.bus import Bus
from mesh.cli import config_option, json_option, print_json, run_async, stdout
from mesh.clock import now
from mesh.identity import Identity
from mesh.learned import (
    APPROVER_ROLE,
    LearnedWord,
    LearnRequest,
    ProposalLine,
    ProposalRequest,
    ShadowReport,
    Verdict,
)
from mesh.operator import operator_bus
from mesh.signing import LEARNED_TYPE, sign
from mesh.statistics import DriftLine, StatLine, WindowRequest

_WORD_S = 300.0
_ANSWER_S = 10.0
_SHOWN = 60

role_option = click.option("--role", default=APPROVER_ROLE, show_default=True, help="The role you do it in.")
reason_option = click.option("--reason", default="", help="Kept on record.")


@click.group()
def learn() -> None:
    """Show what was learned, and decide on what is proposed."""


@learn.command("list")
@json_option
@config_option
def list_(as_json: bool, config: Path | None) -> None:
    """List proposals, the newest first."""
    lines = run_async(_list(config))
    if as_json:
        print_json(lines)
        return
    table = Table("proposal", "domain", "change", "state", "gain", "why")
    for line in lines:
        change = line.proposal.change
        table.add_row(line.id, change.domain, change.sentence()[:_SHOWN], line.state, line.proposal.gain, line.reason)
    stdout().print(table if lines else "nothing is proposed")


@learn.command()
@click.argument("proposal")
@json_option
@config_option
def show(proposal: str, as_json: bool, config: Path | None) -> None:
    """Show PROPOSAL (its id or target): what it changes and why, past tasks under it, what has become of it."""
    line = run_async(_show(proposal, config))
    if as_json:
        print_json(line)
        return
    made = line.proposal
    rows = [
        ("proposal", f"{line.id} (version {made.version} for its target)"),
        ("change", f"{made.change.sentence()}, in {made.change.domain}"),
        ("state", f"{line.state} since {line.since:%Y-%m-%d %H:%M:%S} UTC: {line.reason}"),
        ("why", made.why),
        ("gain", made.gain),
        ("evidence", ", ".join(f"{count.name} {count.value:g}" for count in made.evidence)),
        *(("record", subject) for subject in made.records),
        *(_shadow_rows(made.shadow) if made.shadow else ()),
        *(
            ("watched", f"{each.measure}: {_share(each.before)} before, {_share(each.since)} since (p = {each.p:.2g})")
            for each in line.watched
        ),
    ]
    for name, text in rows:
        stdout().print(f"{name:<9} {text}")


@learn.command()
@click.argument("proposal")
@key_option
@role_option
@reason_option
@json_option
@config_option
def approve(proposal: str, key: Path, role: str, reason: str, as_json: bool, config: Path | None) -> None:
    """Put what PROPOSAL changes in force."""
    _tell(run_async(_say(proposal, Verdict.APPROVE, key, role, reason, config)), as_json)


@learn.command()
@click.argument("proposal")
@key_option
@role_option
@reason_option
@json_option
@config_option
def reject(proposal: str, key: Path, role: str, reason: str, as_json: bool, config: Path | None) -> None:
    """Leave everything as it is; the past tasks that PROPOSAL rests on do not count again for its target."""
    _tell(run_async(_say(proposal, Verdict.REJECT, key, role, reason, config)), as_json)


@learn.command()
@click.argument("proposal")
@key_option
@role_option
@reason_option
@json_option
@config_option
def rollback(proposal: str, key: Path, role: str, reason: str, as_json: bool, config: Path | None) -> None:
    """Go back to what was before PROPOSAL was approved."""
    _tell(run_async(_say(proposal, Verdict.ROLL_BACK, key, role, reason, config)), as_json)


@learn.command()
@click.option("--since", type=click.DateTime(), help="Only from this hour on (UTC).")
@click.option("--until", type=click.DateTime(), help="Only until before this hour (UTC).")
@json_option
@config_option
def stats(since: datetime | None, until: datetime | None, as_json: bool, config: Path | None) -> None:
    """Show how tasks went, by playbook, tool and kind of entity."""
    lines = run_async(_stats(_utc(since), _utc(until), config))
    if as_json:
        print_json(lines)
        return
    table = Table(
        "by", "name", "tasks", "ended", "success", "overridden", "retries", "doubts", "errors", "cost", "mean ms"
    )
    for line in lines:
        table.add_row(
            line.kind,
            line.name,
            str(line.tasks),
            ", ".join(f"{number} {status}" for status, number in line.statuses.items()),
            f"{line.success_rate:.1%}",
            f"{line.overridden} ({line.override_rate:.1%})",
            str(line.retries),
            str(line.doubts),
            str(line.errors),
            f"{line.cost_micro_usd / 1e6:.4f} USD" if line.cost_micro_usd else "",
            f"{line.mean_ms:.1f}",
        )
    stdout().print(table if lines else "no task has ended")


@learn.command()
@click.option("--all", "all_", is_flag=True, help="Also what has not drifted.")
@json_option
@config_option
def drift(all_: bool, as_json: bool, config: Path | None) -> None:
    """Show what has drifted from its past: event shapes, rejections, overrides, tool errors."""
    lines = [line for line in run_async(_drift(config)) if all_ or line.raised]
    if as_json:
        print_json(lines)
        return
    table = Table("what", "of", "baseline", "window", "p", "raised", "since")
    for line in lines:
        since = f"{line.since:%Y-%m-%d %H:%M}" if line.since else ""
        raised = "; ".join(line.raised)
        table.add_row(line.what, line.name, _share(line.baseline), _share(line.window), f"{line.p:.2g}", raised, since)
    stdout().print(table if lines else "nothing has drifted")


async def say(bus: Bus, person: Identity, line: ProposalLine, verdict: Verdict, role: str, reason: str) -> ProposalLine:
    """Sign a word on a proposal as it was shown; raises ``ServiceError`` when it is refused."""
    at = now()
    word = LearnedWord(
        proposal=line.id,
        change=line.proposal.change,
        verdict=verdict,
        role=role,
        person=person.name,
        reason=reason,
        nonce=secrets.token_hex(16),
        at=at,
        expires_at=at + timedelta(seconds=_WORD_S),
    )
    request = LearnRequest(signed=sign(word, LEARNED_TYPE, person))
    return await service.ask(bus, "learner", "say", request, ProposalLine, timeout_s=_ANSWER_S)


async def _say(proposal: str, verdict: Verdict, key: Path, role: str, reason: str, config: Path | None) -> ProposalLine:
    person = Identity.load(key)
    async with operator_bus(config) as (_, bus):
        line = await service.ask(bus, "learner", "show", ProposalRequest(proposal=proposal), ProposalLine)
        return await say(bus, person, line, verdict, role, reason)


async def _list(config: Path | None) -> list[ProposalLine]:
    async with operator_bus(config) as (_, bus):
        return await service.ask(bus, "learner", "list", Nothing(), list[ProposalLine])


async def _show(proposal: str, config: Path | None) -> ProposalLine:
    async with operator_bus(config) as (_, bus):
        return await service.ask(bus, "learner", "show", ProposalRequest(proposal=proposal), ProposalLine)


async def _stats(since: datetime | None, until: datetime | None, config: Path | None) -> list[StatLine]:
    async with operator_bus(config) as (_, bus):
        request = WindowRequest(since=since, until=until)
        return await service.ask(bus, "learner", "stats", request, list[StatLine])


async def _drift(config: Path | None) -> list[DriftLine]:
    async with operator_bus(config) as (_, bus):
        return await service.ask(bus, "learner", "drift", Nothing(), list[DriftLine])


def _tell(line: ProposalLine, as_json: bool) -> None:
    if as_json:
        print_json(line)
    else:
        click.echo(f"{line.id} is {line.state}: {line.proposal.change.sentence()}")


def _shadow_rows(report: ShadowReport) -> list[tuple[str, str]]:
    rows = [
        (
            "shadow",
            f"{report.tasks} past tasks planned again, effects off: {report.better} better, {report.worse} worse, "
            f"{report.same} the same, {report.unknown} cannot be told",
        ),
        ("measure", f"{report.measure}: {report.before:.1%} -> {report.after:.1%} ({report.test}, p = {report.p:.2g})"),
        *(("task", f"{each.task_id}: {each.recorded} -> {each.replayed}") for each in report.differences),
        *(("unknown", why) for why in report.unknowns),
    ]
    return rows


def _share(pair: tuple[int, int]) -> str:
    return f"{pair[0]} of {pair[1]}"


def _utc(at: datetime | None) -> datetime | None:
    return at.replace(tzinfo=now().tzinfo) if at else None
