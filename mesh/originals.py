"""What came in from outside, kept byte for byte in ``ORIGINALS`` under the SHA-256 of the whole.

The rule: a digest that was given out can be read back, until retention or privacy law takes it.
"""

import asyncio
from hashlib import sha256

from mesh import subjects
from mesh.bus import Bus, StoredMessage
from mesh.errors import TerminalError
from mesh.journal import Committer, Message

PART_BYTES = 256 * 1024
_AT_ONCE = 4


class Originals:
    """Keeps and reads originals."""

    def __init__(self, bus: Bus, committer: Committer | None = None) -> None:
        self._bus = bus
        self._committer = committer

    async def keep(self, data: bytes) -> str:
        """Store ``data`` unless it is there; its digest (hex). Waits while the bus is away."""
        assert self._committer is not None, "opened for reading"
        digest = sha256(data).hexdigest()
        count = max(1, -(-len(data) // PART_BYTES))
        if not await self._is_kept(digest, count):
            parts = [data[start : start + PART_BYTES] for start in range(0, max(len(data), 1), PART_BYTES)]
            messages = [
                Message(subjects.original(digest, f"{number}~{count}"), part) for number, part in enumerate(parts, 1)
            ]
            # The first part comes first and the last one last: where both stand, all do, for the oldest goes first.
            await self._committer.commit(messages[:1])
            for start in range(1, len(messages) - 1, _AT_ONCE):
                some = messages[start : min(start + _AT_ONCE, len(messages) - 1)]
                await asyncio.gather(*(self._committer.commit([message]) for message in some))
            if count > 1:
                await self._committer.commit(messages[-1:])
        return digest

    async def _is_kept(self, digest: str, count: int) -> bool:
        for number in {count, 1}:
            if await self._bus.last(subjects.ORIGINALS, subjects.original(digest, f"{number}~{count}")) is None:
                return False
        return True

    async def read(self, digest: str) -> bytes:
        """The bytes under a digest; raises ``TerminalError`` when they are not there, whole and unchanged."""
        found: list[StoredMessage] = []
        seq = 1
        while page := await self._bus.read(subjects.ORIGINALS, seq, _AT_ONCE, subjects.original(digest, "*")):
            found += page
            seq = page[-1].seq + 1
        parts = {int(message.subject.rpartition(".")[2].partition("~")[0]): message.data for message in found}
        data = b"".join(parts[number] for number in sorted(parts))
        if not parts or sha256(data).hexdigest() != digest:
            raise TerminalError(f"original {digest} is not kept here, or not whole")
        return data
