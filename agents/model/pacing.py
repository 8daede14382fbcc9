"""Turns at a model, shared by all copies of this role: taken in the bucket ``MODELS`` by compare-and-set."""

import asyncio
from collections import defaultdict

import structlog
from msgspec.structs import replace

from agents.model.bucket import Shelf
from mesh import metrics
from mesh.bus import Bus
from mesh.clock import unix
from mesh.errors import BusUnavailableError, ConflictError, WorkmeshError
from mesh.pace import Pace, Rate, pace_key

log = structlog.get_logger(__name__)

_TRIES = 20


class TooLateError(WorkmeshError):
    """The next turn comes later than it would be of use."""


class Pacing:
    """Waits for turns. What one process remembers of a pace is checked by the bucket's answer."""

    def __init__(self, bus: Bus, rate: Rate) -> None:
        self._shelf = Shelf(bus, "pace", Pace)
        self._rate = rate
        self._known: dict[str, tuple[int, Pace]] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def turn(self, model: str, tokens: int, within_s: float) -> float:
        """Wait until the model may be asked; the seconds that took.

        Raises ``TooLateError`` at once where that is more than ``within_s``: then no turn is taken.
        """
        waited = 0.0
        while True:
            wait_s = await self._take(model, tokens, within_s - waited)
            if wait_s:
                metrics.MODEL_PACED_SECONDS.labels(model=model).inc(wait_s)
                await asyncio.sleep(wait_s)
            waited += wait_s
            # Somebody may have been told meanwhile to leave the server alone.
            if self._blocked_s(model) <= 0:
                return waited

    async def leave_alone(self, model: str, seconds: float) -> None:
        """The server asked all of us to wait."""
        until = unix() + seconds
        async with self._locks[model]:
            for _ in range(_TRIES):
                seq, pace = await self._current(model)
                if await self._put(model, seq, pace.blocked(until)):
                    return

    async def tell(self, model: str, reason: str) -> None:
        """Keep for people why a model is not asked; an empty reason when it is again."""
        known = self._known.get(model)
        if known is not None and known[1].trouble == reason:
            return
        async with self._locks[model]:
            seq, pace = await self._current(model)
            if pace.trouble != reason:
                await self._put(model, seq, replace(pace, trouble=reason))

    async def _take(self, model: str, tokens: int, within_s: float) -> float:
        async with self._locks[model]:
            for _ in range(_TRIES):
                seq, pace = await self._current(model)
                taken, wait_s = pace.take(self._rate, tokens, unix())
                if wait_s > within_s:
                    if await self._is_current(model, seq):
                        raise TooLateError(f"the next turn at {model} comes in {wait_s:.1f} s")
                    continue
                if await self._put(model, seq, taken):
                    return wait_s
        raise TooLateError(f"others took all turns at {model}")

    async def _current(self, model: str) -> tuple[int, Pace]:
        known = self._known.get(model)
        if known is None:
            seq, found = await self._shelf.get(pace_key(model))
            known = self._known[model] = (seq, found or Pace())
        return known

    async def _is_current(self, model: str, seq: int) -> bool:
        """Whether what is remembered still stands; what stands is remembered."""
        self._known.pop(model)
        return (await self._current(model))[0] == seq

    async def _put(self, model: str, seq: int, pace: Pace) -> bool:
        self._known.pop(model, None)
        try:
            self._known[model] = (await self._shelf.put(pace_key(model), pace, seq), pace)
        except (ConflictError, BusUnavailableError) as error:
            log.debug("pace_read_again", model=model, reason=str(error))
            return False
        return True

    def _blocked_s(self, model: str) -> float:
        known = self._known.get(model)
        return known[1].blocked_until - unix() if known else 0.0
