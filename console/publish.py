"""``workmesh publish FILE``: events onto the bus, each acknowledged only when it is on disk."""

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

import click
import msgspec

from mesh import subjects
from mesh.canonical import task_id
from mesh.cli import config_option, print_json, run_async
from mesh.journal import Committer, Message, committing
from mesh.operator import operator_bus


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the file: the sequence it has in ``EVENTS``, and its task where it has an id and a source."""

    line: int
    id: str
    source: str
    task_id: str
    seq: int


class _Head(msgspec.Struct):
    id: str = ""
    source: str = ""
    type: str = ""


def read_lines(data: bytes) -> list[bytes]:
    """The events in a file: one event, a JSON array of or JSON lines; what is no JSON is passed on as it is."""
    for shape in (list[msgspec.Raw], dict[str, msgspec.Raw]):
        try:
            found = msgspec.json.decode(data, type=shape)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        return [bytes(item) for item in found] if isinstance(found, list) else [data.strip()]
    return [line for line in data.split(b"\n") if line.strip()]


def message_of(line: bytes) -> tuple[Message, _Head]:
    """The line as a publish to its type's subject; a line that cannot be read goes where perception refuses it.

    Each publish has a message id of its own, so that one whose acknowledgement was lost is not stored twice.
    """
    try:
        head = msgspec.json.decode(line, type=_Head)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        head = _Head()
    headers = {"Nats-Msg-Id": secrets.token_hex(12)}
    return Message(subjects.event(head.type), line, expected=None, headers=headers), head


async def publish_lines(
    committer: Committer, lines: Sequence[bytes], *, per_s: float = 0.0, in_flight: int = 256
) -> AsyncIterator[Published]:
    """Publish in order, and yield each line as it is durable.

    ``per_s`` paces them (0: as fast as the bus takes them).
    """
    loop = asyncio.get_running_loop()
    start = loop.time()
    waiting: list[tuple[int, _Head, asyncio.Task[tuple[int, ...]]]] = []
    for number, line in enumerate(lines):
        if per_s:
            await asyncio.sleep(max(0.0, start + number / per_s - loop.time()))
        message, head = message_of(line)
        waiting.append((number, head, asyncio.create_task(committer.commit([message]), name=f"publish-{number}")))
        while waiting and (len(waiting) >= in_flight or waiting[0][2].done()):
            yield await _published(*waiting.pop(0))
    for item in waiting:
        yield await _published(*item)


async def _published(number: int, head: _Head, done: "asyncio.Task[tuple[int, ...]]") -> Published:
    (seq,) = await done
    task = task_id(head.source, head.id) if head.id and head.source else ""
    return Published(line=number, id=head.id, source=head.source, task_id=task, seq=seq)


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option("--rate", type=float, default=0.0, help="Events a second; 0 is as fast as the bus takes them.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line an event on stdout.")
@config_option
def publish(file: Iterable[bytes], rate: float, as_json: bool, config: Path | None) -> None:
    """Publish the CloudEvents in FILE (JSON lines or an array; `-` is standard input)."""
    lines = read_lines(b"".join(file))
    run_async(_publish(lines, rate, as_json, config))


async def _publish(lines: list[bytes], rate: float, as_json: bool, config: Path | None) -> None:
    async with operator_bus(config) as (_, bus), committing(bus) as committer:
        count = 0
        async for item in publish_lines(committer, lines, per_s=rate):
            count += 1
            if as_json:
                print_json(item)
            elif sys.stderr.isatty():
                click.echo(f"\r{count}/{len(lines)} durable", nl=False, err=True)
        if not as_json:
            click.echo("1 event is on disk" if count == 1 else f"{count} events are on disk")
