"""Versions of facts in the stream ``MEMORY``: written by compare-and-set on the fact's subject, read back whole.

The rule: a version is written only on top of the one it was made from, so no copy of the service loses an update.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from mesh import subjects
from mesh.bus import Bus
from mesh.errors import ConflictError, RetryableError, TerminalError
from mesh.facts import FactEvent, fact_id, scope_token
from mesh.journal import CREATE, Committer, Message

Change = Callable[[FactEvent | None], FactEvent | None]

_ATTEMPTS = 32  # each lost race is a version that another copy wrote
_BACKOFF_S = 0.002
_LOCKS = 64
_PAGE = 256

_decode = msgspec.json.Decoder(FactEvent).decode
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Standing:
    """The version of a fact that stands, and its sequence in ``MEMORY``."""

    seq: int
    fact: FactEvent


class FactStore:
    """Reads and writes versions of facts."""

    def __init__(self, bus: Bus, committer: Committer) -> None:
        self._bus = bus
        self._committer = committer
        # Callers of one copy queue here, by subject; only copies race, and the stream judges between them.
        self._locks = tuple(asyncio.Lock() for _ in range(_LOCKS))

    async def write(self, scope: str, key: str, change: Change) -> Standing | None:
        """Put the version that ``change`` makes of the last one on top of it; what stands then.

        ``change`` answers ``None`` to leave what stands (``None`` comes back when there is nothing). Raises
        ``RetryableError`` when other copies are faster time and again.
        """
        subject = _subject(scope, key)
        async with self._locks[hash(subject) % _LOCKS]:
            for attempt in range(_ATTEMPTS):
                stands = await self._last(subject)
                fact = change(stands.fact if stands else None)
                if fact is None:
                    return stands
                seq = await self._put(subject, fact, stands.seq if stands else CREATE)
                if seq is not None:
                    return Standing(seq, fact)
                await asyncio.sleep(random.uniform(0, _BACKOFF_S * (attempt + 1)))
        raise RetryableError(f"fact {key!r} of {scope!r} is being written by others: ask again")

    async def history(self, scope: str, key: str, limit: int) -> list[FactEvent]:
        """The last ``limit`` versions of a fact, oldest first; empty for an unknown one."""
        subject = _subject(scope, key)
        found: deque[FactEvent] = deque(maxlen=limit)
        start = 1
        while page := await self._bus.read(subjects.MEMORY, start, _PAGE, subject):
            found.extend(_fact(message.data, subject) for message in page)
            start = page[-1].seq + 1
        return list(found)

    async def _last(self, subject: str) -> Standing | None:
        message = await self._bus.last(subjects.MEMORY, subject)
        if message is None:
            return None
        message.require_published()
        return Standing(message.seq, _fact(message.data, subject))

    async def _put(self, subject: str, fact: FactEvent, expected: int) -> int | None:
        """The sequence of the version once it is stored, or ``None`` for a lost race."""
        data = _encode(fact)
        try:
            (seq,) = await self._committer.commit([Message(subject, data, expected)])
        except ConflictError:
            # A publish whose ack was lost is stored all the same, and another copy may have written on top of it:
            # the first message behind what was expected tells.
            behind = await self._bus.read(subjects.MEMORY, expected + 1, 1, subject)
            return behind[0].seq if behind and behind[0].data == data else None
        return seq


def _subject(scope: str, key: str) -> str:
    return subjects.fact(scope_token(scope), fact_id(scope, key))


def _fact(data: bytes, subject: str) -> FactEvent:
    try:
        return _decode(data)
    except msgspec.DecodeError as error:
        raise TerminalError(f"{subject} does not hold a fact: {error}") from error
