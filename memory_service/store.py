"""Events of memory written to ``MEMORY``: each on top of the last one of its slot, by compare-and-set.

The rule: an event is judged against the slot as it stood just before it, so no copy of the service loses an update.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import msgspec

from memory_service.admitting import SlotState
from memory_service.view import FactView
from mesh import subjects
from mesh.bus import Bus
from mesh.errors import ConflictError, RetryableError
from mesh.facts import AnyFactEvent, Slot
from mesh.journal import Committer, Message

_ATTEMPTS = 32  # each lost race is an event that another copy wrote
_BACKOFF_S = 0.002
_LOCKS = 64

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Entry:
    """An event of one slot, and the sequence that the slot must stand at."""

    slot: Slot
    event: AnyFactEvent
    expected: int


Change = Callable[[Sequence[SlotState]], Sequence[Entry]]


class FactStore:
    """Writes events, and has the view take them in."""

    def __init__(self, bus: Bus, committer: Committer, view: FactView) -> None:
        self._bus = bus
        self._committer = committer
        self._view = view
        # Callers of one copy queue here, by slot; only copies race, and the stream judges between them.
        self._locks = tuple(asyncio.Lock() for _ in range(_LOCKS))

    async def write(self, slots: Sequence[Slot], change: Change) -> int:
        """Put on top of these slots what ``change`` makes of them, all of it or nothing; how far the view reaches then.

        ``change`` is asked anew after a lost race. Raises ``RetryableError`` when others are faster time and again.
        """
        async with AsyncExitStack() as stack:
            for place in sorted({hash(slot.id) % _LOCKS for slot in slots}):
                await stack.enter_async_context(self._locks[place])
            for attempt in range(_ATTEMPTS):
                entries = change([self._view.table.slot(slot) for slot in slots])
                if not entries:
                    return self._view.projection.seq
                try:
                    seqs = await self._committer.commit([_message(entry) for entry in entries])
                except ConflictError:
                    # Another copy was faster, or the ack of our own write was lost: the view will tell.
                    await asyncio.sleep(random.uniform(0, _BACKOFF_S * (attempt + 1)))
                    await self._view.projection.fresh()
                    continue
                await self._view.projection.reached(max(seqs))
                return max(seqs)
        raise RetryableError(f"{len(slots)} slot(s) of memory are being written by others: ask again")

    async def append(self, subject: str, event: AnyFactEvent) -> int:
        """Put an event that concerns no single slot; its sequence, once the view has it."""
        (seq,) = await self._committer.commit([Message(subject, _encode(event), expected=None)])
        await self._view.projection.reached(seq)
        return seq


def _message(entry: Entry) -> Message:
    return Message(subjects.fact(*entry.slot.tokens), _encode(entry.event), entry.expected)
