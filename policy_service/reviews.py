"""The commands that look back: ``explain`` a task's decisions, and the ``diff`` that a candidate would make to them."""

from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from rich.console import Console, Group
from rich.panel import Panel
from rich.progress import Progress, SpinnerColumn, TextColumn
from rich.table import Table

from mesh import subjects
from mesh.bus import Bus
from mesh.cli import config_option, json_option, print_json, run_async, stdout
from mesh.errors import WorkmeshError
from mesh.journal import Stored, stored
from mesh.money import money
from mesh.operator import operator_bus
from mesh.records import Decision, Struct, Verdict
from policy_service.again import past_of
from policy_service.bundle import Bundle, BundleContents
from policy_service.changes import ChangeGroup, Comparison, DiffReport, past_decisions
from policy_service.explaining import ExplainedDecision, ExplainedStep
from policy_service.explaining import explain as explained
from policy_service.shelf import contents_of
from policy_service.sources import locate


class Explanation(Struct, frozen=True, kw_only=True):
    """Why a task's decisions came out as they did. ``others`` are decisions that people or time made."""

    task_id: str
    domain: str
    decisions: tuple[ExplainedDecision, ...]
    others: tuple[str, ...] = ()


@click.command()
@click.argument("task")
@json_option
@config_option
def explain(task: str, as_json: bool, config: Path | None) -> None:
    """Show what Cedar was asked about TASK, which policies decided, and which permits did not apply."""
    found = run_async(_explain(task, config))
    if as_json:
        print_json(found)
        return
    for decision in found.decisions:
        stdout().print(_panel(decision))
    for other in found.others:
        click.echo(other)


async def _explain(task: str, config: Path | None) -> Explanation:
    async with operator_bus(config) as (_, bus):
        items = await _records(bus, task)
        past = past_of(items)
        domain = items[0].record.header.domain
        digests = {each.decision.bundle for each in past}
        bundles = {digest: Bundle.load(await contents_of(bus, domain, digest)) for digest in digests}
    made = {id(each.decision) for each in past}
    others = [item.record for item in items if isinstance(item.record, Decision) and id(item.record) not in made]
    if not past and not others:
        raise WorkmeshError(f"task {task} has no decision yet: see `workmesh trace {task}`")
    return Explanation(
        task_id=task,
        domain=domain,
        decisions=tuple(explained(each, bundles[each.decision.bundle]) for each in past),
        others=tuple(f"decision {each.phase}: {each.verdict}, by no policy: {each.reason}" for each in others),
    )


async def _records(bus: Bus, task: str) -> list[Stored]:
    found = await bus.last_of_each(subjects.JOURNAL, [subjects.whole_task(task)])
    if not found:
        raise WorkmeshError(f"no task {task!r} in the journal: `workmesh tasks list` shows what there is")
    return [stored(message) for message in found]


def _panel(decision: ExplainedDecision) -> Panel:
    lines: list[str | Table] = [
        f"reason    {decision.reason or '-'}",
        f"at        {decision.at:%Y-%m-%d %H:%M:%S} UTC",
        f"bundle    {decision.bundle}",
        f"approved  {', '.join(decision.approvals) or 'by nobody'}",
    ]
    if decision.again is not decision.verdict:
        lines.append(f"decided again from the records it is {decision.again}: something that is not on record decided")
    lines += [_step_table(step) for step in decision.steps]
    return Panel(Group(*lines), title=f"decision {decision.phase}: {decision.verdict}")


def _step_table(step: ExplainedStep) -> Table:
    table = Table(show_header=False, title=f"step {step.step}: {step.verdict}", title_justify="left")
    for request in step.requests[:1]:
        actions = " and ".join(each.action for each in step.requests)
        table.add_row("asked", f"{request.principal}, {actions}, {request.resource}")
        table.add_row("context", msgspec.json.format(bytes(request.context), indent=2).decode())
    table.add_row("reasons", "\n".join(step.reasons) or "-")
    if step.roles:
        table.add_row("approval by", ", ".join(step.roles))
    if step.obligations:
        table.add_row("obligations", "\n".join(f"{each.name}:{each.value}" for each in step.obligations))
    for policy in step.policies:
        table.add_row(policy.effect, f"{policy.text}\n({policy.file})")
    if step.verdict is Verdict.DENY and not step.policies:
        table.add_row("in the way", "no permit applied" if step.unapplied else "no permit is about this tool")
    for permit in step.unapplied:
        table.add_row("did not apply", f"{permit.id} ({permit.action}):\n  " + "\n  ".join(permit.why))
    return table


@click.command()
@click.argument("candidate", metavar="CANDIDATE")
@click.option("--domain", help="The domain; by default the name of the pack or of the folder.")
@click.option("--since", help="Only decisions from this time on (ISO 8601, UTC unless it says otherwise).")
@json_option
@config_option
def diff(candidate: str, domain: str | None, since: str | None, as_json: bool, config: Path | None) -> None:
    """Decide the journal's past decisions again under the bundle in CANDIDATE (a folder, or a pack's name).

    Nothing is executed, and no system is asked: the facts are those on record.
    """
    folder, guessed = locate(candidate)
    bundle = Bundle.load(BundleContents.read(folder, domain or guessed))
    report = run_async(_diff(bundle, _time(since) if since else None, config))
    if as_json:
        print_json(report)
    else:
        _show_diff(report)


def _time(given: str) -> datetime:
    try:
        at = datetime.fromisoformat(given)
    except ValueError as error:
        raise click.UsageError(f"--since {given!r} is no time in ISO 8601, such as 2026-01-31T08:00") from error
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)


async def _diff(bundle: Bundle, since: datetime | None, config: Path | None) -> DiffReport:
    comparison = Comparison(bundle)
    terminal = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.completed} decisions decided again"))
    async with operator_bus(config) as (_, bus):
        with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as progress:
            bar = progress.add_task("", total=None)
            async for count, page in past_decisions(bus, bundle.domain, since):
                for past in page:
                    comparison.take(past)
                comparison.undecided += count - len(page)
                progress.update(bar, advance=count)
    return comparison.report()


def _show_diff(report: DiffReport) -> None:
    console = stdout()
    if report.groups:
        table = Table(
            "tool", "phase", "before -> after", "policies before", "policies after", "steps", "at stake", "tasks"
        )
        for group in report.groups:
            table.add_row(*_row(group))
        console.print(table)
    console.print(
        f"{report.domain} under {report.candidate[:19]}: {report.decisions} decisions decided again, "
        f"{report.changed} steps change, {report.stayed} stay"
    )
    if report.undecided:
        console.print(f"{report.undecided} decisions were made by people or by time: no bundle changes them")


def _row(group: ChangeGroup) -> tuple[str, ...]:
    return (
        group.tool,
        group.phase,
        f"{group.before} -> {group.after}",
        ", ".join(group.policies_before) or "none",
        ", ".join(group.policies_after) or f"none ({group.reason_after})",
        str(group.count),
        ", ".join(money(each.amount, each.currency) for each in group.at_stake),
        ", ".join(group.examples),
    )
