"""A TCP proxy between one process and the bus, whose connections can be reset, held, left for dead or robbed of acks.

The rule: what it does to a connection it counts, so that a cell knows whether the fault really happened.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

_READ = 64 * 1024
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: closing sends RST
_PUBLISHES = (b"PUB", b"HPUB")


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of the NATS client protocol as it came; ``subject`` and ``payload`` of a publish."""

    raw: bytes
    subject: bytes = b""
    payload: bytes = b""

    @property
    def is_ack(self) -> bool:
        """Whether it acknowledges a delivery for good."""
        return self.subject.startswith(b"$JS.ACK.") and self.payload.startswith(b"+ACK")


class Frames:
    """Cuts what a client sends into frames (the NATS client protocol: a line, and a payload behind PUB and HPUB)."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete with this."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n")) >= 0:
            words = bytes(self._buffer[:end]).split()
            size = end + 2
            publishes = bool(words) and words[0].upper() in _PUBLISHES
            if publishes:
                size += int(words[-1]) + 2
            if len(self._buffer) < size:
                return
            raw = bytes(self._buffer[:size])
            del self._buffer[:size]
            yield Frame(raw, words[1], raw[end + 2 : -2]) if publishes else Frame(raw)


@dataclass(eq=False)
class _Link:
    """One connection and its other half. ``dead`` is one that never again carries anything, and says nothing."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    dead: bool = False
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class Proxy:
    """Listens on a free port of loopback while entered, and passes everything on to the server at ``port``."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._links: set[_Link] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._server: asyncio.Server | None = None
        self.drops_acks = False
        self.resets = self.held = self.swallowed = self.acks_dropped = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        tasks = [task for link in self._links for task in link.tasks]
        self.reset()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        """Where a client of the bus connects instead."""
        port = self._server.sockets[0].getsockname()[1] if self._server else 0
        return f"nats://127.0.0.1:{port}"

    @property
    def links(self) -> int:
        """How many connections there are."""
        return len(self._links)

    def reset(self) -> None:
        """Cut every connection with a RST to both ends."""
        for link in list(self._links):
            self.resets += 1
            self._close(link)

    def hold(self) -> None:
        """Pass on nothing, and say nothing, until ``go_on``; new connections fare the same."""
        self._flows.clear()

    def go_on(self) -> None:
        """Pass on what was held, as TCP does when a network is whole again."""
        self._flows.set()

    def leave_for_dead(self) -> None:
        """Have the present connections carry nothing any more; new ones work. So does a firewall that forgot them."""
        for link in self._links:
            link.dead = True

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            _abort(writer)
            return
        link = _Link(writer, far_writer)
        self._links.add(link)
        link.tasks = [
            asyncio.create_task(self._carry(link, reader, far_writer, Frames()), name="proxy-up"),
            asyncio.create_task(self._carry(link, far_reader, writer, None), name="proxy-down"),
        ]

    async def _carry(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, frames: Frames | None
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_READ):
                if not self._flows.is_set():
                    self.held += len(data)
                    await self._flows.wait()
                passed = data if frames is None else self._without_acks(frames, data)
                if link.dead:
                    self.swallowed += len(data)
                    continue
                writer.write(passed)
                await writer.drain()
        if not link.dead:
            self._close(link)

    def _without_acks(self, frames: Frames, data: bytes) -> bytes:
        passed = bytearray()
        for frame in frames.feed(data):
            if self.drops_acks and frame.is_ack:
                self.acks_dropped += 1
            else:
                passed += frame.raw
        return bytes(passed)

    def _close(self, link: _Link) -> None:
        self._links.discard(link)
        _abort(link.client)
        _abort(link.server)


def _abort(writer: asyncio.StreamWriter) -> None:
    handle: socket.socket | None = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        if handle is not None:
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
