"""What stands in quarantine now: a fold over its stream, kept in the memory of one process, for the metrics.

The rule: an item counts from its refusal to its release; only its reason and time are kept.
"""

import asyncio
from collections import Counter
from datetime import datetime

import msgspec
import structlog

from mesh import metrics, subjects
from mesh.bus import Bus
from mesh.clock import now
from mesh.errors import BusUnavailableError, TerminalError
from mesh.quarantine import Reason, Released

log = structlog.get_logger(__name__)

_EVERY_S = 5.0
_PAGE = 256
_RELEASED = "quarantine.released."


class _Item(msgspec.Struct, frozen=True):
    """Of an item what is counted; the original bytes are passed over."""

    stage: str
    reason: Reason
    at: datetime


_items = msgspec.json.Decoder(_Item)
_notes = msgspec.json.Decoder(Released)


class Backlog:
    """Follows ``QUARANTINE``. One that restarts reads it anew."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._seq = 0
        self._waiting: dict[str, _Item] = {}
        self._shown: set[tuple[str, str]] = set()

    async def run(self, every_s: float = _EVERY_S) -> None:
        """Follow and tell, until cancelled."""
        while True:
            try:
                await self.catch_up()
            except (BusUnavailableError, TerminalError) as error:
                log.debug("quarantine_not_seen", error=str(error))
            else:
                self._show()
            await asyncio.sleep(every_s)

    async def catch_up(self) -> None:
        """Read what is new."""
        while page := await self._bus.read(subjects.QUARANTINE, self._seq + 1, _PAGE):
            for message in page:
                self._take(message.subject, message.data)
            self._seq = page[-1].seq

    def counts(self) -> Counter[tuple[str, str]]:
        """How many wait, by stage and reason."""
        return Counter((item.stage, str(item.reason)) for item in self._waiting.values())

    def _take(self, subject: str, data: bytes) -> None:
        name = subject.rpartition(".")[2]
        try:
            if not subject.startswith(_RELEASED):
                self._waiting[name] = _items.decode(data)
                return
            note = _notes.decode(data)
        except msgspec.DecodeError as error:
            log.warning("quarantine_unreadable", subject=subject, error=str(error))
            return
        item = self._waiting.get(name)
        # As in ``quarantine.waiting``: a later refusal of the same input waits on.
        if item is not None and item.at <= note.refused_at:
            del self._waiting[name]

    def _show(self) -> None:
        counts = self.counts()
        for stage, reason in self._shown | counts.keys():
            metrics.QUARANTINE_WAITING.labels(stage, reason).set(counts[stage, reason])
        self._shown |= counts.keys()
        since = min((item.at for item in self._waiting.values()), default=None)
        metrics.QUARANTINE_OLDEST.set(max(0.0, (now() - since).total_seconds()) if since else 0.0)
