"""What group commit is worth: durable records a second one at a time, gathered, and without durability."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from mesh import streams, subjects
from mesh.bus import Bus, connect
from mesh.embedded import EmbeddedNats
from mesh.identity import Identity
from mesh.journal import Committer, Message, committing
from mesh.permissions import BusUser

RECORD_BYTES = 900  # a plan of the retail sample


@dataclass(frozen=True, slots=True)
class Rates:
    """Records a second, every one on disk before its commit returns."""

    one_by_one: float
    gathered: float

    @property
    def ratio(self) -> float:
        """How many times as fast the gathered commits are."""
        return self.gathered / self.one_by_one


async def measure(folder: Path, *, singles: int = 500, gathered: int = 8000) -> Rates:
    """Commit to a server of its own, with ``sync_interval: always``."""
    admin = Identity.create(folder / "keys" / "admin.nk", "admin")
    writer = Identity.create(folder / "keys" / "policy.nk", "policy")
    users = [BusUser(admin.public_key, ("admin",)), BusUser(writer.public_key, ("policy",))]
    async with EmbeddedNats(folder / "nats", users) as server:
        async with connect(server.url, name="admin", options=admin.nats_options()) as bus:
            specs = streams.stream_specs({}, {})
            await streams.ensure(bus, specs, replicas=1, ack_wait_s=2, max_ack_pending=4096)
        async with connect(server.url, name="policy", options=writer.nats_options()) as bus:
            return await _measure(bus, singles, gathered)


async def _measure(bus: Bus, singles: int, gathered: int) -> Rates:
    data = b"x" * RECORD_BYTES
    async with committing(bus) as committer:
        await _timed(committer, [_message(f"w{number}", data) for number in range(200)], 1)
        slow = await _timed(committer, [_message(f"s{number}", data) for number in range(singles)], 1)
        fast = await _timed(committer, [_message(f"g{number}", data) for number in range(gathered)], 512)
    return Rates(slow, fast)


async def _timed(committer: Committer, messages: list[Message], in_flight: int) -> float:
    slots = asyncio.Semaphore(in_flight)

    async def one(message: Message) -> None:
        async with slots:
            await committer.commit([message])

    started = time.perf_counter()
    await asyncio.gather(*(one(message) for message in messages))
    return len(messages) / (time.perf_counter() - started)


def _message(task: str, data: bytes) -> Message:
    return Message(subjects.record("decision", "bench", task, "-"), data)
