"""Whose turn it is: tasks of one entity are planned, and so act, one after another in event order (invariant 7).

The rule: a task waits until the one before it has an outcome; tasks of other entities are not held up.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import nats.errors
import structlog
from nats.aio.msg import Msg

from mesh import subjects
from mesh.bus import Bus
from mesh.journal import Journal
from mesh.records import Context
from mesh.runtime import NotYetError

log = structlog.get_logger(__name__)

# In the process a waiting task is woken by the outcome itself; past this it gives its place to others and comes again.
WAIT_HERE_S = 10.0
# So many may wait that long, beside what the stage does at once: the earliest, since it is their turn first; the others
# make room sooner. Who was sent away comes again in seconds only, and the next of its entity after it.
PLACES = 256
_WAIT_BRIEFLY_S = 0.2
# The hint comes with the publish, a moment before the outcome is stored.
_LOOK_AGAIN_S = 0.01
_LOOK_ANYWAY_S = 1.0


class Turns:
    """Knows when the task before is done: by the outcome's own message, or by looking into the journal."""

    def __init__(
        self, bus: Bus, journal: Journal, stopping: asyncio.Event, *, wait_here_s: float = WAIT_HERE_S
    ) -> None:
        self._bus = bus
        self._journal = journal
        self._stopping = stopping
        self._wait_here_s = wait_here_s
        self._waiting: set[asyncio.Event] = set()
        self._places: dict[asyncio.Timeout, int] = {}

    async def give_way(self) -> None:
        """Wake all who wait as soon as the process is asked to stop: their tasks come again to somebody else."""
        await self._stopping.wait()
        for woken in self._waiting:
            woken.set()

    async def wait(self, context: Context) -> None:
        """Return when it is this task's turn; raises ``NotYetError`` when that takes long."""
        before = context.after
        if not before:
            return
        subject = subjects.record("outcome", context.header.domain, before, "-")
        if await self._stands(subject):
            return
        woken = asyncio.Event()
        self._waiting.add(woken)
        try:
            async with self._hearing(subject, woken):
                await self._wait_for(subject, woken, context.event.seq)
        except TimeoutError:
            raise NotYetError(f"task {before} of the same entity has no outcome yet") from None
        finally:
            self._waiting.remove(woken)

    async def _wait_for(self, subject: str, woken: asyncio.Event, seq: int) -> None:
        """Raises ``TimeoutError``. What was stored before we listened is seen by the first look."""
        if self._stopping.is_set():
            woken.set()
        async with asyncio.timeout(self._wait_here_s) as place:
            self._take(place, seq)
            try:
                while not await self._stands(subject):
                    if self._stopping.is_set():
                        raise TimeoutError
                    await self._pause(woken)
            finally:
                self._places.pop(place, None)

    def _take(self, place: asyncio.Timeout, seq: int) -> None:
        """Take a place; when there is none left the task whose event came last has to go soon."""
        self._places[place] = seq
        if len(self._places) > PLACES:
            last = max(self._places, key=self._places.__getitem__)
            del self._places[last]
            if not last.expired():  # else it is on its way out
                last.reschedule(asyncio.get_running_loop().time() + _WAIT_BRIEFLY_S)

    @staticmethod
    async def _pause(woken: asyncio.Event) -> None:
        """Until the hint, or for a while: a hint is lost with its connection."""
        if woken.is_set():
            await asyncio.sleep(_LOOK_AGAIN_S)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_ANYWAY_S):
                await woken.wait()

    async def _stands(self, subject: str) -> bool:
        return await self._journal.record(subject) is not None

    @asynccontextmanager
    async def _hearing(self, subject: str, woken: asyncio.Event) -> AsyncIterator[None]:
        """Set ``woken`` when the subject is published to: a hint, since the journal decides."""

        async def wake(message: Msg) -> None:
            woken.set()

        try:
            hint = await self._bus.client.subscribe(subject, cb=wake)
        except (nats.errors.Error, OSError) as error:
            raise NotYetError(f"the bus cannot be listened to: {error or type(error).__name__}") from error
        try:
            yield
        finally:
            try:
                await hint.unsubscribe()
            except (nats.errors.Error, OSError) as error:
                log.debug("hint_kept", subject=subject, error=str(error) or type(error).__name__)
