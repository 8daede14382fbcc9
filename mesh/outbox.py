"""The outbox: results that are not committed yet, in memory, and on local disk where their loss would matter.

The rule: what is kept on disk before it is committed is dropped after; no effect is repeated for want of a result.
"""

from collections.abc import Sequence

import structlog

from mesh import metrics, subjects
from mesh.checkpoint import Checkpoint
from mesh.errors import ConflictError
from mesh.journal import Committer, Write, message_of
from mesh.records import AnyRecord

log = structlog.get_logger(__name__)


async def replay_outbox(checkpoint: Checkpoint, committer: Committer) -> int:
    """Commit what an earlier life of this process left behind; how many messages there were."""
    left = await checkpoint.outbox()
    metrics.OUTBOX_PENDING.set(len(left))
    for message in left:
        try:
            await committer.commit([message])
            log.info("outbox_replayed", subject=message.subject)
        except ConflictError as error:
            log.info("outbox_superseded", subject=message.subject, error=str(error))
        checkpoint.drop(message.subject)
        metrics.OUTBOX_PENDING.dec()
    return len(left)


class Outbox:
    """Holds writes until they are on the bus. What the disk holds of an earlier life is ``replay_outbox``'s."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._held: dict[str, AnyRecord] = {}
        self._on_disk: set[str] = set()

    def hold(self, write: Write) -> None:
        """Remember a write for as long as this process lives."""
        self._held[subjects.of(write.record)] = write.record

    async def keep(self, write: Write) -> None:
        """Put a write on local disk."""
        self.hold(write)
        await self._checkpoint.put(message_of(write))
        self._on_disk.add(subjects.of(write.record))
        metrics.OUTBOX_PENDING.inc()

    def held(self, subject: str) -> AnyRecord | None:
        """The record that waits for this subject, or ``None``."""
        return self._held.get(subject)

    def committed(self, records: Sequence[AnyRecord]) -> None:
        """These are on the bus."""
        for subject in map(subjects.of, records):
            self._held.pop(subject, None)
            if subject in self._on_disk:
                self._on_disk.discard(subject)
                self._checkpoint.drop(subject)
                metrics.OUTBOX_PENDING.dec()
