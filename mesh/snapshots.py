"""Snapshots of streams, as the server makes and takes them back: messages, sequences and times as they were.

The rule: without consumers. A snapshot's consumers may have acknowledged what its messages do not hold yet.
Protocol: NATS ADR-2 of the JetStream API, ``STREAM.SNAPSHOT`` and ``STREAM.RESTORE``.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
from nats.aio.msg import Msg

from mesh.bus import Bus
from mesh.errors import BusUnavailableError, TerminalError

CHUNK = 128 * 1024
_SILENCE_S = 30.0  # the server ends a snapshot whose chunks are not answered in 2 s
_RESTORE_S = 3600.0  # after the last chunk the server rebuilds the stream


@dataclass(frozen=True, slots=True)
class Taken:
    """The configuration of a stream and its state when its snapshot began, as the JetStream API has them."""

    config: dict[str, Any]
    state: dict[str, Any]


async def take(bus: Bus, stream: str, write: Callable[[bytes], object]) -> Taken:
    """Have the server write a snapshot (a tar, compressed by S2), chunk by chunk.

    Raises ``TerminalError`` when the server cannot, and ``BusUnavailableError`` when it falls silent.
    """
    chunks: asyncio.Queue[Msg] = asyncio.Queue()

    async def on_chunk(message: Msg) -> None:
        if message.reply:  # at once: what waits is in memory, and the server gives up after 2 s
            await bus.publish(message.reply, b"")
        chunks.put_nowait(message)

    inbox = bus.client.new_inbox()
    subscription = await bus.client.subscribe(inbox, cb=on_chunk, pending_msgs_limit=-1, pending_bytes_limit=-1)
    try:
        request = {"deliver_subject": inbox, "no_consumers": True, "chunk_size": CHUNK}
        answer = _checked(await bus.api(f"STREAM.SNAPSHOT.{stream}", request), f"no snapshot of {stream}")
        while message := await _next(chunks, stream):
            await asyncio.to_thread(write, message.data)
    finally:
        await subscription.unsubscribe()
    return Taken(answer["config"], answer["state"])


async def give_back(bus: Bus, taken: Taken, chunks: Iterable[bytes]) -> dict[str, Any]:
    """Have the server make a stream of a snapshot; its state. Raises as ``take`` does, also where it exists."""
    name = taken.config["name"]
    request = {"config": taken.config, "state": taken.state}
    answer = _checked(await bus.api(f"STREAM.RESTORE.{name}", request), f"{name} is not restored")
    to = answer["deliver_subject"]
    for chunk in chunks:
        told = await bus.request(to, chunk)
        if told.data:
            raise TerminalError(f"{name} is not restored: {told.data.decode('utf-8', 'replace')[:300]}")
    told = await bus.request(to, b"", timeout_s=_RESTORE_S)
    made = _checked(_decoded(told.data), f"{name} is not restored")
    state: dict[str, Any] = made["state"]
    return state


async def _next(chunks: "asyncio.Queue[Msg]", stream: str) -> Msg | None:
    try:
        async with asyncio.timeout(_SILENCE_S):
            message = await chunks.get()
    except TimeoutError as error:
        raise BusUnavailableError(f"the snapshot of {stream} stopped: nothing came for {_SILENCE_S:g} s") from error
    if message.data:
        return message
    headers = message.headers or {}
    status = headers.get("Status", "")
    if status and "204" not in status:
        raise TerminalError(f"the snapshot of {stream} failed: {status} {headers.get('Description', '')}")
    return None


def _decoded(data: bytes) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(data)
    return decoded


def _checked(answer: dict[str, Any], what: str) -> dict[str, Any]:
    if error := answer.get("error"):
        raise TerminalError(f"{what}: {error.get('description')} ({error.get('err_code')})")
    return answer
