"""Whose turn it is: tasks of one entity are planned, and so act, one after another in event order (invariant 7).

The rule: a task waits until the one before it has an outcome; tasks of other entities are not held up.
"""

import asyncio

from nats.aio.msg import Msg

from mesh import subjects
from mesh.bus import Bus
from mesh.journal import Journal
from mesh.records import Context
from mesh.runtime import NotYetError

# In the process a waiting task is woken by the outcome itself; past this it gives its place to others and comes again.
WAIT_HERE_S = 10.0
# So many may wait that long, beside what the stage does at once; the others make room sooner. Who was sent away comes
# again in seconds only: with few places, the tasks of one entity would follow each other no faster than that.
PLACES = 256
_WAIT_BRIEFLY_S = 0.2
# The hint comes with the publish, a moment before the outcome is stored.
_LOOK_AGAIN_S = 0.01


class Turns:
    """Knows when the task before is done: by the outcome's own message, or by looking into the journal."""

    def __init__(
        self, bus: Bus, journal: Journal, stopping: asyncio.Event, *, wait_here_s: float = WAIT_HERE_S
    ) -> None:
        self._bus = bus
        self._journal = journal
        self._stopping = stopping
        self._wait_here_s = wait_here_s
        self._waiting: dict[str, asyncio.Event] = {}

    async def start(self) -> None:
        """Listen for outcomes, as hints: the journal decides."""
        await self._bus.client.subscribe(subjects.kind("outcome"), cb=self._on_outcome)

    async def give_way(self) -> None:
        """Wake all who wait as soon as the process is asked to stop: their tasks come again to somebody else."""
        await self._stopping.wait()
        for woken in self._waiting.values():
            woken.set()

    async def wait(self, context: Context) -> None:
        """Return when it is this task's turn; raises ``NotYetError`` when that takes long."""
        before = context.after
        if not before:
            return
        subject = subjects.record("outcome", context.header.domain, before, "-")
        woken = self._waiting.setdefault(before, asyncio.Event())
        try:
            if await self._stands(subject):
                return
            if self._stopping.is_set():
                woken.set()
            async with asyncio.timeout(self._wait_here_s if len(self._waiting) <= PLACES else _WAIT_BRIEFLY_S):
                await woken.wait()
                while not await self._stands(subject):
                    if self._stopping.is_set():
                        raise TimeoutError
                    await asyncio.sleep(_LOOK_AGAIN_S)
        except TimeoutError:
            if not await self._stands(subject):
                raise NotYetError(f"task {before} of the same entity has no outcome yet") from None
        finally:
            if self._waiting.get(before) is woken:
                del self._waiting[before]

    async def _stands(self, subject: str) -> bool:
        return await self._journal.record(subject) is not None

    async def _on_outcome(self, message: Msg) -> None:
        woken = self._waiting.get(message.subject.split(".")[3])
        if woken is not None:
            woken.set()
