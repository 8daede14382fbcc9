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
        if await self._bus.last(subjects.ORIGINALS, _last_part(digest, len(data))) is None:
            parts = [data[start : start + PART_BYTES] for start in range(0, max(len(data), 1), PART_BYTES)]
            messages = [
                Message(subjects.original(digest, f"{number}~{len(parts)}"), part)
                for number, part in enumerate(parts, 1)
            ]
            # The last part comes last: where it stands, all do.
            for start in range(0, len(messages) - 1, _AT_ONCE):
                some = messages[start : min(start + _AT_ONCE, len(messages) - 1)]
                await asyncio.gather(*(self._committer.commit([message]) for message in some))
            await self._committer.commit(messages[-1:])
        return digest

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


def _last_part(digest: str, size: int) -> str:
    count = max(1, -(-size // PART_BYTES))
    return subjects.original(digest, f"{count}~{count}")
