"""``workmesh tasks``: what tasks there are, and a person's correction or word on an effect in doubt."""

from pathlib import Path

import click
from rich.table import Table

from console.approvals import key_option
from console.journal import TaskLine, list_tasks
from console.words import say
from mesh import service
from mesh.approvals import Shown, TaskRequest, WordAnswer
from mesh.cli import config_option, json_option, print_json, run_async, stdout
from mesh.corrections import CorrectAnswer, CorrectRequest
from mesh.errors import WorkmeshError
from mesh.halts import read_halts
from mesh.identity import Identity
from mesh.lifecycle import TaskState
from mesh.money import money
from mesh.operator import operator_bus
from mesh.records import Purpose, Word


@click.group()
def tasks() -> None:
    """List tasks, correct them, settle effects in doubt."""


@tasks.command("list")
@click.option("--state", type=click.Choice([state.value for state in TaskState]), help="Only tasks in this state.")
@click.option("--limit", default=50, show_default=True)
@json_option
@config_option
def list_(state: str | None, limit: int, as_json: bool, config: Path | None) -> None:
    """List the newest tasks."""
    lines = run_async(_list(state or "", limit, config))
    if as_json:
        print_json(lines)
        return
    table = Table("task", "event", "type", "about", "state", "money", "reason")
    for line in lines:
        amount = money(line.amount, "USD") if line.amount else ""
        state_ = f"{line.state}, held" if line.held else line.state
        reason = (line.held or line.reason)[:60]
        table.add_row(line.task_id, line.event_id, line.event_type, line.entity, state_, amount, reason)
    stdout().print(table if lines else "no tasks")


async def _list(state: str, limit: int, config: Path | None) -> list[TaskLine]:
    async with operator_bus(config) as (settings, bus):
        halts = await read_halts(bus, settings.root_key())
        return await list_tasks(bus, state=state, limit=limit, halts=halts)


@tasks.command()
@click.argument("task")
@click.option("--text", required=True, help="What should have been done, or what to mind next time.")
@click.option("--person", required=True, help="Your name, kept as the source.")
@json_option
@config_option
def correct(task: str, text: str, person: str, as_json: bool, config: Path | None) -> None:
    """Say what was wrong with TASK: the learner keeps it as a lesson, and proposes to remember it."""
    answer = run_async(_correct(CorrectRequest(task_id=task, text=text, person=person), config))
    if as_json:
        print_json(answer)
    else:
        click.echo(f"kept as a lesson; to have it remembered: workmesh learn approve {answer.proposal}")


async def _correct(request: CorrectRequest, config: Path | None) -> CorrectAnswer:
    async with operator_bus(config) as (_, bus):
        return await service.ask(bus, "learner", "correct", request, CorrectAnswer, timeout_s=10)


@tasks.command()
@click.argument("task")
@click.option("--happened/--not-happened", required=True, help="Whether the call in doubt took effect.")
@click.option("--role", required=True, help="The role you say it in.")
@click.option("--comment", default="", help="How you know; kept with the record.")
@key_option
@json_option
@config_option
def settle(task: str, happened: bool, role: str, comment: str, key: Path, as_json: bool, config: Path | None) -> None:
    """Say whether TASK's effect in doubt took effect: yes completes the step, no has it called again."""
    word = Word.HAPPENED if happened else Word.NOT_HAPPENED
    answer = run_async(_settle(task, word, role, comment, key, config))
    if as_json:
        print_json(answer)
    else:
        click.echo(f"task {answer.task_id}: {answer.reason}")


async def _settle(task: str, word: Word, role: str, comment: str, key: Path, config: Path | None) -> WordAnswer:
    person = Identity.load(key)
    async with operator_bus(config) as (_, bus):
        shown = await service.ask(bus, "policy", "show", TaskRequest(task_id=task), Shown)
        if shown.waiting.purpose is not Purpose.IN_DOUBT:
            raise WorkmeshError(f"task {task} has no effect in doubt: use `workmesh approvals`")
        return await say(bus, person, shown, role, word, comment=comment)
