"""A mesh as it runs: a real nats-server with the real streams, which a test can kill, stop and grow."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mesh import records, streams, subjects
from mesh.bus import Bus, StoredMessage, connect
from mesh.embedded import EmbeddedNats
from mesh.identity import Identity
from mesh.journal import Message
from mesh.permissions import ROLES, BusUser
from mesh.records import AnyRecord

ACK_WAIT_S = 1.0
# Every role but ``publisher``: what most tests connect as, so that they may write whatever they like.
EVERYONE = "everyone"


class LiveMesh:
    """The running server, and a bus for whoever asks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        everyone = tuple(role for role in ROLES if role != "publisher")
        self.roles = {role: (role,) for role in ROLES} | {EVERYONE: everyone}
        self.identities = {name: Identity.create(folder / "keys" / f"{name}.nk", name) for name in self.roles}
        # A limit of its own: the size of the disk, which others fill too, is no part of these tests.
        self.server = EmbeddedNats(folder / "nats", self.users(), max_file_store=1 << 30)

    def users(self, **roles: tuple[str, ...]) -> list[BusUser]:
        """The users of the server; ``roles`` says otherwise for some."""
        said = self.roles | roles
        return [BusUser(identity.public_key, said[name]) for name, identity in self.identities.items()]

    @asynccontextmanager
    async def bus(self, name: str = EVERYONE, *, request_timeout_s: float = 1.0) -> AsyncIterator[Bus]:
        """A connection of its own."""
        options = self.identities[name].nats_options()
        async with connect(self.server.url, name=name, options=options, request_timeout_s=request_timeout_s) as bus:
            yield bus

    async def ensure(
        self, bus: Bus, *, max_bytes: dict[str, int] | None = None, ack_wait_s: float = ACK_WAIT_S
    ) -> None:
        """Make what the mesh stands on, as ``workmesh up`` does."""
        specs = streams.stream_specs({}, max_bytes or {})
        await streams.ensure(bus, specs, replicas=1, ack_wait_s=ack_wait_s, max_ack_pending=1000)

    def kill(self) -> int:
        """SIGKILL the server, which is restarted at once; the pid it had."""
        pid = self.server.pid
        os.kill(pid, signal.SIGKILL)
        return pid


async def prepare(folder: Path) -> Path:
    """The data of a server that has its streams, buckets and consumers, and nothing in them."""
    live = LiveMesh(folder)
    async with live.server, live.bus() as bus:
        await live.ensure(bus)
    return folder / "nats" / "store"


@asynccontextmanager
async def live_mesh(folder: Path, prepared: Path) -> AsyncIterator[LiveMesh]:
    """A running server on a copy of what ``prepare`` made, which is sooner there than one made anew."""
    live = LiveMesh(folder)
    shutil.copytree(prepared, folder / "nats" / "store")
    async with live.server:
        yield live


async def eventually(condition: Callable[[], Awaitable[Any]], *, within_s: float = 15.0) -> Any:
    """What the condition gives, once that is true; 15 s at most."""
    async with asyncio.timeout(within_s):
        while not (found := await condition()):  # noqa: ASYNC110 - what the server says sets no event here
            await asyncio.sleep(0.01)
        return found


async def stored(bus: Bus, stream: str = subjects.JOURNAL, subject: str = ">") -> list[StoredMessage]:
    """Everything that stands in a stream, in order."""
    found: list[StoredMessage] = []
    while page := await bus.read(stream, found[-1].seq + 1 if found else 1, 256, subject):
        found += page
    return found


async def consumer(bus: Bus, durable: str, stream: str = subjects.JOURNAL) -> dict[str, Any]:
    """What the server says of a durable consumer."""
    return await bus.api(f"CONSUMER.INFO.{stream}.{durable}")


async def publish(bus: Bus, message: Message) -> int:
    """Store one message without the committer; its sequence."""
    answer = await bus.client.jetstream().publish(message.subject, message.data, headers=dict(message.headers))
    return answer.seq


async def put(bus: Bus, *items: AnyRecord) -> list[int]:
    """Store records one by one, without the committer; their sequences."""
    return [await publish(bus, Message(subjects.of(item), records.encode(item))) for item in items]
