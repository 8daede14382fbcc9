"""``workmesh replay TASK``: planner and policy again, from the journal alone, with effects off."""

import base64
from dataclasses import replace
from pathlib import Path

import click
import msgspec

from console.journal import history
from mesh.activation import bundle_key, standing
from mesh.bus import Bus
from mesh.cli import config_option, json_option, print_json, run_async
from mesh.journal import Stored
from mesh.operator import operator_bus
from mesh.records import Decision, text
from mesh.replay import Recorded, Replayed, load_replays
from mesh.settings import load

_STREAM = "KV_POLICY"


class _Sealed(msgspec.Struct):
    payload: str


@click.command()
@click.argument("task")
@click.option("--model", default="", help="Ask this model what models were asked, at its price, and compare the plan.")
@json_option
@config_option
def replay(task: str, model: str, as_json: bool, config: Path | None) -> None:
    """Plan and decide TASK again and say what would differ. Nothing is executed."""
    recorded = replace(run_async(_read(task, config)), model=model, models=load(config).models)
    results = [again(recorded) for again in load_replays().values()]
    if as_json:
        print_json(results)
    else:
        _show(results)


async def _read(task: str, config: Path | None) -> Recorded:
    async with operator_bus(config) as (_, bus):
        return await recorded_of(bus, await history(bus, task))


async def recorded_of(bus: Bus, items: list[Stored]) -> Recorded:
    """All that a replay of the task with these records needs: the bundles that it was decided under, and today's."""
    domain = items[0].record.header.domain
    digests = {item.record.bundle for item in items if isinstance(item.record, Decision)}
    if (active := await standing(bus, domain)) is not None:
        digests.add(active.activation.digest)
    bundles = [raw for digest in digests if (raw := await _bundle(bus, domain, digest)) is not None]
    return Recorded(items, bundles)


async def _bundle(bus: Bus, domain: str, digest: str) -> msgspec.Raw | None:
    message = await bus.last(_STREAM, bundle_key(domain, digest))
    return payload_of(msgspec.Raw(message.data)) if message is not None else None


def payload_of(envelope: msgspec.Raw) -> msgspec.Raw:
    """The payload of a bundle's envelope, as JSON; its signature was checked when it was decided under."""
    return msgspec.Raw(base64.b64decode(msgspec.json.decode(envelope, type=_Sealed).payload))


def _show(results: list[Replayed]) -> None:
    for result in results:
        if result.unknown:
            click.echo(f"{result.stage}: cannot tell: {result.unknown}")
        elif not result.records:
            click.echo(f"{result.stage}: the task has no record of it")
        elif not result.differences:
            click.echo(f"{result.stage}: the same ({result.records} record{'s' if result.records > 1 else ''})")
        for difference in result.differences:
            click.echo(f"{result.stage}: {difference.stage}: {difference.field} would differ")
            click.echo(f"  recorded  {text(difference.recorded)}")
            click.echo(f"  replayed  {text(difference.replayed)}")
