"""``workmesh content``: how the studio works."""

from pathlib import Path

import click
import msgspec
from rich.table import Table

from mesh import records, subjects
from mesh.bus import Bus
from mesh.cli import config_option, json_option, print_json, run_async, stdout
from mesh.operator import operating
from mesh.records import Context, Outcome
from mesh.settings import Settings, load
from packs.content.measures import Measures, measure

_DOMAIN = "content"
_PAGE = 256


@click.group()
def content() -> None:
    """The studio's measures."""


@content.command()
@json_option
@config_option
def measures(as_json: bool, config: Path | None) -> None:
    """Velocity, revision rate and rework of the studio, from the journal."""
    found = run_async(_measures(load(config)))
    if as_json:
        print_json(found)
        return
    table = Table("measure", "value", title="How the studio works")
    for name, value in msgspec.structs.asdict(found).items():
        table.add_row(name.replace("_", " "), f"{value:g}")
    stdout().print(table)


async def _measures(settings: Settings) -> Measures:
    async with operating(settings) as bus:
        return measure(await read_tasks(bus))


async def read_tasks(bus: Bus) -> list[tuple[Context, Outcome]]:
    """The contexts and outcomes of all tasks of the domain that have ended."""
    contexts: dict[str, Context] = {}
    found: list[tuple[Context, Outcome]] = []
    for kind in ("context", "outcome"):
        after, subject = 0, f"task.{kind}.{_DOMAIN}.*.*"
        while page := await bus.read(subjects.JOURNAL, after + 1, _PAGE, subject):
            for message in page:
                match records.decode(message.data):
                    case Context(header=head) as context:
                        contexts[head.task_id] = context
                    case Outcome(header=head) as outcome if head.task_id in contexts:
                        found.append((contexts[head.task_id], outcome))
            after = page[-1].seq
    return found
