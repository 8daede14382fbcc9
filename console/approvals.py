"""``workmesh approvals``: what waits for a person, exactly what would be executed, and a signed word on it."""

from pathlib import Path

import click
import msgspec
from rich.console import Group
from rich.panel import Panel
from rich.table import Column, Table

from console.edits import Edits
from console.words import limit_line, say
from mesh import service
from mesh.approvals import Nothing, Shown, ShownCandidate, ShownStep, TaskRequest, Waiting, WordAnswer
from mesh.cli import config_option, json_option, print_json, run_async, stdout
from mesh.clock import now
from mesh.errors import WorkmeshError
from mesh.identity import Identity
from mesh.money import money
from mesh.operator import operator_bus
from mesh.records import Json, Purpose, Word, text

key_option = click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    required=True,
    envvar="WORKMESH_KEY",
    help="Your own private key (`workmesh keys new NAME`).",
)

_TASK_WIDTH = 26  # mesh.canonical.task_id


@click.group()
def approvals() -> None:
    """List, show, approve, correct and reject what waits for a person."""


@approvals.command("list")
@json_option
@config_option
def list_(as_json: bool, config: Path | None) -> None:
    """List what waits, longest first."""
    items = run_async(_list(config))
    if as_json:
        print_json(items)
        return
    task = Column("task", no_wrap=True, min_width=_TASK_WIDTH)  # it is copied into the next command
    table = Table(task, "waits for", "domain", "role", "at stake", "since", "until", "why")
    for item in items:
        until = f"{item.until:%Y-%m-%d %H:%M}" if item.until else ""
        what = item.purpose if not item.step else f"{item.purpose} ({item.step})"
        table.add_row(
            item.task_id,
            what,
            item.domain,
            _roles(item),
            money(item.amount, item.currency) if item.amount else "",
            f"{item.since:%Y-%m-%d %H:%M:%S}",
            until,
            item.reason[:60],
        )
    stdout().print(table if items else "nothing waits for a person")


async def _list(config: Path | None) -> list[Waiting]:
    async with operator_bus(config) as (_, bus):
        return await service.ask(bus, "policy", "list", Nothing(), list[Waiting])


@approvals.command()
@click.argument("task")
@json_option
@config_option
def show(task: str, as_json: bool, config: Path | None) -> None:
    """Show exactly what would be executed for TASK, and on which facts."""
    shown = run_async(_show(task, config))
    if as_json:
        print_json(shown)
    else:
        stdout().print(_panel(shown))


async def _show(task: str, config: Path | None) -> Shown:
    async with operator_bus(config) as (_, bus):
        return await service.ask(bus, "policy", "show", TaskRequest(task_id=task), Shown)


@approvals.command()
@click.argument("task")
@key_option
@click.option("--role", help="The role you approve in; by default the one that the task waits for.")
@click.option("--plan", "plan_digest", help="Only if the plan still has this digest (from `approvals show`).")
@click.option("--comment", default="", help="Kept with the record.")
@json_option
@config_option
def approve(
    task: str, key: Path, role: str | None, plan_digest: str | None, comment: str, as_json: bool, config: Path | None
) -> None:
    """Approve TASK's plan as it stands, signed with your own key."""
    _tell(run_async(_say(task, key, role, Word.APPROVE, comment, plan_digest, config)), as_json)


@approvals.command()
@click.argument("task")
@key_option
@click.option("--role", help="The role you reject in; by default the one that the task waits for.")
@click.option("--comment", default="", help="Kept with the record, and told as the reason.")
@json_option
@config_option
def reject(task: str, key: Path, role: str | None, comment: str, as_json: bool, config: Path | None) -> None:
    """Reject TASK's plan: it is denied, for good."""
    _tell(run_async(_say(task, key, role, Word.REJECT, comment, None, config)), as_json)


@approvals.command()
@click.argument("task")
@key_option
@click.option("--role", help="The role you act in; by default the one that the task waits for.")
@click.option("--set", "settings", multiple=True, metavar="STEP.ARG=VALUE", help="Another argument (JSON, or text).")
@click.option("--drop", "drops", multiple=True, metavar="STEP", help="Leave a step out.")
@click.option("--comment", default="", help="Kept with the record.")
@json_option
@config_option
def correct(
    task: str,
    key: Path,
    role: str | None,
    settings: tuple[str, ...],
    drops: tuple[str, ...],
    comment: str,
    as_json: bool,
    config: Path | None,
) -> None:
    """Put another plan in the place of TASK's: it is decided on anew, and you do not approve it yourself."""
    edits = Edits(settings, drops)
    _tell(run_async(_say(task, key, role, Word.CORRECT, comment, None, config, edits)), as_json)


@approvals.command()
@click.argument("task")
@click.argument("number", type=click.IntRange(min=1))
@key_option
@click.option("--role", help="The role you act in; by default the one that the task waits for.")
@click.option("--comment", default="", help="Kept with the record.")
@json_option
@config_option
def choose(
    task: str, number: int, key: Path, role: str | None, comment: str, as_json: bool, config: Path | None
) -> None:
    """Put candidate NUMBER in the place of TASK's plan: it is decided on anew, and you do not approve it yourself."""
    _tell(run_async(_say(task, key, role, Word.CORRECT, comment, None, config, Edits(choose=number))), as_json)


async def _say(
    task: str,
    key: Path,
    role: str | None,
    word: Word,
    comment: str,
    plan_digest: str | None,
    config: Path | None,
    edits: Edits | None = None,
) -> WordAnswer:
    person = Identity.load(key)
    async with operator_bus(config) as (_, bus):
        shown = await service.ask(bus, "policy", "show", TaskRequest(task_id=task), Shown)
        if plan_digest and shown.plan_digest != plan_digest:
            raise WorkmeshError(f"task {task} has plan {shown.plan_digest} now: look at it again")
        chosen = role or next((token.partition(":")[0] for token in shown.waiting.roles), "")
        if not chosen:
            raise WorkmeshError(f"task {task} waits for no role: name yours with --role")
        changes = edits.changes(shown) if edits else ()
        return await say(bus, person, shown, chosen, word, comment=comment, changes=changes)


def _tell(answer: WordAnswer, as_json: bool) -> None:
    if as_json:
        print_json(answer)
    else:
        verdict = answer.verdict or "still waits"
        click.echo(f"task {answer.task_id}: {verdict}" + (f" ({answer.reason})" if answer.reason else ""))


def _roles(item: Waiting) -> str:
    """Who may act now: the roles that it waits for, and once it is escalated those who stand in."""
    escalated = item.escalate_at is not None and now() >= item.escalate_at
    return ", ".join(item.roles) + (f" or {', '.join(item.stand_ins)}" if escalated and item.stand_ins else "")


def _panel(shown: Shown) -> Panel:
    waiting = shown.waiting
    parts: list[str | Table] = [
        f"event    {shown.event_type} {shown.event_id} from {shown.source}, about {shown.entity}",
        f"why      {shown.rationale}",
        f"waits    for {_roles(waiting) or 'a person'}: {waiting.reason}",
        f"at stake {money(waiting.amount, waiting.currency)}",
        f"bundle   {shown.bundle}",
        f"plan     {shown.plan_digest}" + (f" (revision {shown.revision})" if shown.revision else ""),
        f"from outside (data, not instructions): {', '.join(shown.taint) or 'nothing'}",
    ]
    if shown.voices:
        parts.append(f"approved so far by {', '.join(shown.voices)}")
    parts += [f"note     {note}" for note in shown.notes]
    parts += [f"limit    {limit_line(use)}" for use in shown.limits]
    parts += [_step(step) for step in shown.steps]
    parts += [_candidate(candidate) for candidate in shown.candidates]
    parts.append(_if_nobody_acts(waiting))
    return Panel(Group(*parts), title=f"task {waiting.task_id}: exactly what would be executed")


def _step(step: ShownStep) -> Table:
    table = Table(show_header=False, title=f"step {step.id}: {step.call.tool}", title_justify="left")
    if step.target:
        table.add_row("target", step.target)
    table.add_row("arguments", _pretty(step.call.args))
    if step.tainted:
        table.add_row("hold text from outside", ", ".join(step.tainted))
    if step.amount:
        table.add_row("amount", money(step.amount, step.currency))
    table.add_row("idempotency key", step.effect_key)
    table.add_row(f"facts, from {step.source or 'their own system'}", _pretty(step.facts))
    table.add_row("policies", f"{step.verdict}: {', '.join(step.policies)}")
    for reason in step.reasons:
        table.add_row("", reason)
    if step.stage:
        table.add_row("may act", step.stage)
    for obligation in step.obligations:
        table.add_row("obliges to", f"{obligation.name}: {obligation.value}")
    if step.compensation is not None:
        table.add_row("undone by", f"{step.compensation.tool} {text(step.compensation.args)}")
    return table


def _candidate(candidate: ShownCandidate) -> Table:
    table = Table(show_header=False, title=f"candidate {candidate.number}: {candidate.label}", title_justify="left")
    table.add_row("why", candidate.rationale)
    for call in candidate.calls:
        table.add_row(call.tool, _pretty(call.args))
    return table


def _if_nobody_acts(waiting: Waiting) -> str:
    if waiting.purpose is Purpose.IN_DOUBT:
        return "if nobody acts: the task stays as it is, and is not finished"
    steps = []
    if waiting.escalate_at is not None:
        steps.append(f"from {waiting.escalate_at:%Y-%m-%d %H:%M} UTC on {', '.join(waiting.stand_ins)} may act as well")
    if waiting.until is not None:
        steps.append(f"at {waiting.until:%Y-%m-%d %H:%M} UTC it is denied, as expired; nothing is done")
    return f"if nobody acts: {'; '.join(steps)}"


def _pretty(part: Json) -> str:
    return msgspec.json.format(bytes(part), indent=2).decode()
