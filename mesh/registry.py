"""The registry of live processes: each one says that it lives, in a bucket whose values expire."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

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


@asynccontextmanager
async def registered(bus: Bus, role: str, instance: str) -> AsyncIterator[None]:
    """Say every ten seconds that this process lives, while the block runs."""
    subject = f"$KV.{subjects.REGISTRY_BUCKET}.{role}.{instance.replace('.', '-')}"
    since = now()

    async def beat() -> None:
        while True:
            try:
                await bus.publish(subject, msgspec.json.encode({"role": role, "instance": instance, "since": since}))
            except BusUnavailableError as error:
                log.debug("heartbeat_not_sent", error=str(error))
            await asyncio.sleep(_INTERVAL_S)

    async with background(beat(), "heartbeat"):
        yield
