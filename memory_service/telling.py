"""Telling the agents near and far that a slot may differ from before, so that what they keep of it goes.

The rule: it is told from what the view has taken in, never from what is about to be; a copy that was killed in between
tells it when it catches up.
"""

import asyncio

import msgspec
import structlog

from mesh.bus import Bus
from mesh.errors import BusUnavailableError
from mesh.memory import Changed

log = structlog.get_logger(__name__)

_QUEUE_MAX = 65_536
_AGAIN_S = 0.5


class Teller:
    """Publishes ``memory.changed.>``."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waiting: asyncio.Queue[tuple[str, int]] = asyncio.Queue(_QUEUE_MAX)

    def changed(self, told: list[str], seq: int) -> None:
        """Have these subjects told; what finds no room is left to the age that caches allow."""
        for subject in told:
            try:
                self._waiting.put_nowait((subject, seq))
            except asyncio.QueueFull:
                log.error("change_not_told", subject=subject, seq=seq)

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            subject, seq = await self._waiting.get()
            while not await self._publish(subject, seq):  # noqa: ASYNC110 - nothing tells that the bus is back
                await asyncio.sleep(_AGAIN_S)

    async def _publish(self, subject: str, seq: int) -> bool:
        try:
            await self._bus.publish(subject, msgspec.json.encode(Changed(seq=seq)))
        except BusUnavailableError as error:
            log.warning("change_not_told_yet", subject=subject, seq=seq, error=str(error))
            return False
        return True
