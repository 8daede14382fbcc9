"""What a commit costs by its size: records a second and the server's CPU; each is on disk before it returns."""

import asyncio
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.usage import Usage
from mesh import streams, subjects
from mesh.bus import connect
from mesh.embedded import EmbeddedNats
from mesh.identity import Identity
from mesh.journal import Committer, Message, committing
from mesh.permissions import BusUser

RECORD_BYTES = 900  # a plan of the retail sample
SIZES = (1, 2, 8, 32, 128, 256)
_RECORDS = 512
_COMMITS_MIN = 30


@dataclass(frozen=True, slots=True)
class Rate:
    """Commits of one size, one after the other; the size 1 is published plainly, any other as an atomic batch."""

    size: int
    records_per_s: float
    server_us_per_record: float


async def measure(folder: Path) -> list[Rate]:
    """Commit to a server of its own, with ``sync_interval: always``, in sizes from one record to a whole batch."""
    admin = Identity.create(folder / "keys" / "admin.nk", "admin")
    writer = Identity.create(folder / "keys" / "policy.nk", "policy")
    users = [BusUser(admin.public_key, ("admin",)), BusUser(writer.public_key, ("policy",))]
    async with EmbeddedNats(folder / "nats", users) as server:
        async with connect(server.url, name="admin", options=admin.nats_options()) as bus:
            specs = streams.stream_specs({}, {})
            await streams.ensure(bus, specs, replicas=1, ack_wait_s=2, max_ack_pending=4096)
        async with (
            connect(server.url, name="policy", options=writer.nats_options()) as bus,
            committing(bus) as committer,
        ):
            messages = _messages()
            await _timed(committer, messages, 64, server.pid)
            return [await _timed(committer, messages, size, server.pid) for size in SIZES]


async def _timed(committer: Committer, messages: Iterator[Message], size: int, pid: int) -> Rate:
    commits = max(_COMMITS_MIN, _RECORDS // size)
    before, started = Usage.of(pid).cpu_s, time.perf_counter()
    for _ in range(commits):
        async with asyncio.timeout(30):
            await committer.commit(list(itertools.islice(messages, size)))
    seconds, cpu_s = time.perf_counter() - started, Usage.of(pid).cpu_s - before
    return Rate(size, commits * size / seconds, 1e6 * cpu_s / commits / size)


def _messages() -> Iterator[Message]:
    data = b"x" * RECORD_BYTES
    return (Message(subjects.record("decision", "bench", f"t{number}", "-"), data) for number in itertools.count())
