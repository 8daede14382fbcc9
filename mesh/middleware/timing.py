"""Counts and times each delivery, and writes its one canonical log line."""

import time

import structlog

from mesh import metrics
from mesh.errors import ConflictError, RetryableError
from mesh.runtime import Handler, NotYetError, Outputs, Work

log = structlog.get_logger(__name__)


def timing(handler: Handler) -> Handler:
    """One log line and one sample a delivery, whatever comes of it."""
    deliveries = metrics.Bound(metrics.DELIVERIES)
    handler_seconds = metrics.Bound(metrics.HANDLER_SECONDS)

    async def timed(work: Work) -> Outputs:
        started = time.perf_counter()
        result = "failed"
        if work.attempt > 1:
            metrics.REDELIVERIES.labels(stage=work.stage).inc()
        try:
            outputs = await handler(work)
            result = "done"
        except NotYetError:
            result = "waits"
            raise
        except RetryableError:
            result = "retried"
            raise
        except ConflictError:
            result = "lost_race"
            raise
        finally:
            seconds = time.perf_counter() - started
            deliveries.of(work.stage, result).inc()
            handler_seconds.of(work.stage).observe(seconds)
            log.debug(
                "delivery_handled",
                stage=work.stage,
                subject=work.subject,
                seq=work.seq,
                attempt=work.attempt,
                result=result,
                ms=seconds * 1000,
            )
        return outputs

    return timed
