"""The registry of live processes: each one says that it lives, in a bucket whose values expire."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import msgspec
import structlog

from mesh import subjects
from mesh.bus import Bus
from mesh.clock import now
from mesh.errors import BusUnavailableError
from mesh.lifetime import background

log = structlog.get_logger(__name__)

# A third of the bucket's 30 s: two may be lost before a live process is missed.
_INTERVAL_S = 10.0
_MOST = 1024


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A process that lives. ``metrics`` is the URL of its metrics server, "" where it has none."""

    role: str
    instance: str
    since: datetime
    metrics: str = ""


_decode = msgspec.json.Decoder(Entry).decode


async def entries(bus: Bus) -> list[Entry]:
    """The processes that have said within half a minute that they live, by role and instance."""
    stream = f"KV_{subjects.REGISTRY_BUCKET}"
    found = []
    for message in await bus.read(stream, 1, _MOST):
        try:
            found.append(_decode(message.data))
        except msgspec.DecodeError as error:  # the marker of a value that has expired has no data
            log.debug("registry_entry_unreadable", subject=message.subject, error=str(error))
    return sorted(found, key=lambda entry: (entry.role, entry.instance))


@asynccontextmanager
async def registered(bus: Bus, role: str, instance: str, metrics: str = "") -> AsyncIterator[None]:
    """Say every ten seconds that this process lives, and where its metrics are, while the block runs."""
    subject = f"$KV.{subjects.REGISTRY_BUCKET}.{role}.{instance.replace('.', '-')}"
    entry = Entry(role=role, instance=instance, since=now(), metrics=metrics)

    async def beat() -> None:
        while True:
            try:
                await bus.publish(subject, msgspec.json.encode(entry))
            except BusUnavailableError as error:
                log.debug("heartbeat_not_sent", error=str(error))
            await asyncio.sleep(_INTERVAL_S)

    async with background(beat(), "heartbeat"):
        yield
