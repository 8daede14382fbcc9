"""How much waits for a stage, and for how long: asked of the stage's own consumer every few seconds.

The rule: one small request while nothing waits; the age of the oldest costs one more for each filter.
"""

import asyncio
from datetime import datetime

import structlog

from mesh import metrics
from mesh.bus import Bus
from mesh.clock import now
from mesh.errors import BusUnavailableError, TerminalError
from mesh.streams import ConsumerSpec

log = structlog.get_logger(__name__)

_EVERY_S = 5.0


async def watch_queue(bus: Bus, spec: ConsumerSpec, every_s: float = _EVERY_S) -> None:
    """Look again and again, until cancelled; while the bus is away the last values stand."""
    while True:
        try:
            await look(bus, spec)
        except (BusUnavailableError, TerminalError) as error:
            log.debug("queue_not_seen", stage=spec.stage, error=str(error))
        await asyncio.sleep(every_s)


async def look(bus: Bus, spec: ConsumerSpec) -> None:
    """Set the three gauges of a stage's queue, once."""
    info = await bus.api(f"CONSUMER.INFO.{spec.stream}.{spec.stage}")
    if "error" in info:
        raise BusUnavailableError(f"consumer {spec.stage}: {info['error'].get('description')}")
    depth = int(info.get("num_pending", 0))
    metrics.QUEUE_DEPTH.labels(spec.stage).set(depth)
    metrics.QUEUE_IN_HAND.labels(spec.stage).set(int(info.get("num_ack_pending", 0)))
    given = int(info.get("delivered", {}).get("stream_seq", 0))
    oldest = await _oldest(bus, spec, given + 1) if depth else None
    age_s = (now() - oldest).total_seconds() if oldest else 0.0
    metrics.QUEUE_OLDEST.labels(spec.stage).set(max(0.0, age_s))


async def _oldest(bus: Bus, spec: ConsumerSpec, seq: int) -> datetime | None:
    """When the first input from ``seq`` on was stored; ``None`` where a replica does not show it yet."""
    times = []
    for subject in spec.filters:
        times += [datetime.fromisoformat(message.time) for message in await bus.read(spec.stream, seq, 1, subject)]
    return min(times, default=None)
