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
_WAIT_HERE_S = 0.2


class Turns:
    """Knows when the task before is done: by the outcome's own message, or by looking into the journal."""

    def __init__(self, bus: Bus, journal: Journal) -> None:
        self._bus = bus
        self._journal = journal
        self._waiting: dict[str, asyncio.Event] = {}

    async def start(self) -> None:
        """Listen for outcomes, as hints: the journal decides."""
        await self._bus.client.subscribe(subjects.kind("outcome"), cb=self._on_outcome)

    async def wait(self, context: Context) -> None:
        """Return when it is this task's turn; raises ``NotYetError`` when that takes long."""
        before = context.after
        if not before:
            return
        subject = subjects.record("outcome", context.header.domain, before, "-")
        woken = self._waiting.setdefault(before, asyncio.Event())
        try:
            if await self._journal.record(subject) is not None:
                return
            async with asyncio.timeout(_WAIT_HERE_S):
                await woken.wait()
        except TimeoutError:
            pass
        finally:
            if self._waiting.get(before) is woken:
                del self._waiting[before]
        if await self._journal.record(subject) is None:
            raise NotYetError(f"task {before} of the same entity has no outcome yet")

    async def _on_outcome(self, message: Msg) -> None:
        woken = self._waiting.get(message.subject.split(".")[3])
        if woken is not None:
            woken.set()
