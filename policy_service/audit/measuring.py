"""How far the audit is behind the journal, and how full the bus is: asked every few seconds, for the metrics."""

import asyncio
from collections.abc import Callable
from datetime import datetime

import structlog

from mesh import metrics, subjects
from mesh.bus import Bus
from mesh.clock import now
from mesh.errors import BusUnavailableError, TerminalError
from mesh.watch import stored

log = structlog.get_logger(__name__)

_EVERY_S = 5.0


async def measuring(bus: Bus, signed: Callable[[], int], every_s: float = _EVERY_S) -> None:
    """Look again and again, until cancelled. ``signed`` is the sequence that the last signed checkpoint covers."""
    while True:
        try:
            await _look(bus, signed)
        except (BusUnavailableError, TerminalError) as error:
            log.debug("audit_lag_not_seen", error=str(error))
        await asyncio.sleep(every_s)


async def _look(bus: Bus, signed: Callable[[], int]) -> None:
    metrics.AUDIT_UNSIGNED.set(await unsigned_s(bus, signed()))
    info = await bus.api(f"STREAM.INFO.{subjects.JOURNAL}")
    if "error" not in info:
        metrics.JOURNAL_LAST.set(int(info["state"]["last_seq"]))
    used, limit = await stored(bus)
    metrics.STORE_BYTES.set(used)
    metrics.STORE_LIMIT.set(limit)


async def unsigned_s(bus: Bus, signed: int) -> float:
    """The age of the first record behind the signed ones; 0 when all are signed."""
    page = await bus.read(subjects.JOURNAL, signed + 1, 1)
    if not page:
        return 0.0
    return max(0.0, (now() - datetime.fromisoformat(page[0].time)).total_seconds())
