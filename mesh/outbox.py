"""The outbox: results obtained while the bus is away, kept on local disk and committed when it is back.

The rule: a result is kept before it is committed and dropped after, so its effect is never repeated for want of it.
"""

from collections.abc import Sequence

import structlog

from mesh import metrics, records, subjects
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
    """Keeps writes on local disk until they are on the bus."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint

    async def keep(self, write: Write) -> None:
        """Put a write on local disk."""
        await self._checkpoint.put(message_of(write))
        metrics.OUTBOX_PENDING.inc()

    async def kept(self, subject: str) -> AnyRecord | None:
        """The record that waits for this subject, or ``None``."""
        found = next((message for message in await self._checkpoint.outbox() if message.subject == subject), None)
        return records.decode(found.data) if found else None

    def committed(self, records: Sequence[AnyRecord]) -> None:
        """These are on the bus."""
        for record in records:
            self._checkpoint.drop(subjects.of(record))
            metrics.OUTBOX_PENDING.dec()
