"""Back-pressure: whether more may come in now, and if not, when to come again."""

import asyncio

import structlog

from mesh import metrics, subjects
from mesh.bus import Bus
from mesh.errors import BusUnavailableError
from mesh.journal import Journal

log = structlog.get_logger(__name__)

_LOOK_S = 0.5
_WAIT_MAX_S = 60


class Pressure:
    """Looks at what waits: in this process, and at the bus for perception."""

    def __init__(self, bus: Bus, journal: Journal, *, in_flight_max: int, backlog_max: int) -> None:
        self._bus = bus
        self._journal = journal
        self._in_flight_max = in_flight_max
        self._backlog_max = backlog_max
        self._backlog = 0
        self._per_s = 0.0
        self.in_flight = 0

    @property
    def is_cut_off(self) -> bool:
        """Whether nothing can be made durable right now."""
        return not self._journal.takes_records

    def retry_after_s(self) -> int:
        """0 when more may come in; else in how many seconds."""
        if self.in_flight >= self._in_flight_max:
            return 1
        over = self._backlog - self._backlog_max
        if over <= 0:
            return 0
        return max(1, min(_WAIT_MAX_S, int(over / self._per_s) + 1 if self._per_s > 0 else _WAIT_MAX_S))

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        loop = asyncio.get_running_loop()
        seen: tuple[float, int] | None = None
        while True:
            try:
                info = await self._bus.api(f"CONSUMER.INFO.{subjects.EVENTS}.perception")
            except BusUnavailableError:
                await asyncio.sleep(_LOOK_S)
                continue
            self._backlog = int(info.get("num_pending", 0))
            metrics.INTAKE_BACKLOG.set(self._backlog)
            at, taken = loop.time(), int(info.get("delivered", {}).get("stream_seq", 0))
            if seen is not None:
                self._per_s = max(0.0, (taken - seen[1]) / max(at - seen[0], 0.001))
            seen = (at, taken)
            await asyncio.sleep(_LOOK_S)
