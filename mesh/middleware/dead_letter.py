"""Isolates what a stage cannot handle: into quarantine with the reason, so that it never blocks another."""

import structlog

from mesh import metrics
from mesh.errors import ConflictError, RetryableError, TerminalError
from mesh.journal import Committer
from mesh.quarantine import Reason, set_aside
from mesh.runtime import Handler, Middleware, Outputs, Work

log = structlog.get_logger(__name__)


def dead_letter(committer: Committer, *, max_attempts: int) -> Middleware:
    """Quarantine at once what is terminal, and after ``max_attempts`` what fails in a way nobody foresaw.

    While the bus takes no records a handler can fail for that alone: then no attempt is the last.
    """

    def layer(handler: Handler) -> Handler:
        async def isolated(work: Work) -> Outputs:
            try:
                return await handler(work)
            except (RetryableError, ConflictError):
                raise
            except TerminalError as error:
                reason = str(error)
            except Exception as error:
                if work.attempt < max_attempts or committer.is_waiting:
                    log.exception("handler_failed", stage=work.stage, seq=work.seq, attempt=work.attempt)
                    raise RetryableError(f"{type(error).__name__}: {error}") from error
                reason = f"{type(error).__name__}: {error} (after {work.attempt} attempts)"
            metrics.DEAD_LETTERS.labels(stage=work.stage).inc()
            log.error("dead_lettered", stage=work.stage, subject=work.subject, seq=work.seq, reason=reason)
            item = set_aside(work, Reason.DEAD_LETTER, reason)
            await committer.commit([item])
            return ()

        return isolated

    return layer
