"""The perception stage: one event in; a context, a quarantined item, or nothing (a duplicate) out."""

from collections.abc import Mapping
from datetime import UTC, datetime

import structlog

from agents.perception.index import EventIndex
from agents.perception.reading import Accepted, Rejected, read
from mesh import metrics, tracing
from mesh.journal import Message, Write
from mesh.pack import Pack
from mesh.quarantine import Reason, quarantined
from mesh.records import Context, Event
from mesh.runtime import Handler, NotYetError, Outputs, Work

log = structlog.get_logger(__name__)


def perceiving(packs: Mapping[str, Pack], index: EventIndex) -> Handler:
    """The handler of the perception stage."""

    async def perceive(work: Work) -> Outputs:
        item = read(work.data, work.headers, packs)
        if isinstance(item, Rejected):
            return (_quarantine(work, item),)
        first = await index.first(item.task_id, work.seq)
        if first is None:
            raise NotYetError(f"the index has not accepted task {item.task_id} yet", delay_s=0.2)
        if first.seq == work.seq:
            return (Write(_context(work, item, first.after)),)
        if first.digest == item.digest:
            log.info("duplicate_event", event_id=item.event.id, source=item.event.source, first_seq=first.seq)
            return ()
        detail = (
            f"event {item.event.id!r} of {item.event.source!r} came before at {first.seq} with other content: "
            "the first one stands; send a change under an id of its own"
        )
        return (_quarantine(work, Rejected(Reason.CONFLICT, detail, item.event.id, item.event.source)),)

    return perceive


def _context(work: Work, item: Accepted, after: str) -> Context:
    event = item.event
    trace = tracing.root(item.task_id, event.traceparent)
    return Context(
        header=work.header(item.task_id, item.domain, trace),
        event=Event(
            id=event.id,
            source=event.source,
            type=event.type,
            time=event.time,
            digest=item.digest,
            seq=work.seq,
            accepted_at=datetime.fromtimestamp(work.stored_at, UTC),
            subject=event.subject,
        ),
        data=event.data,
        entity=item.entity,
        after=after,
        urgency=item.kind.urgency,
        taint=item.kind.taint,
    )


def _quarantine(work: Work, item: Rejected) -> Message:
    metrics.QUARANTINED.labels(reason=item.reason).inc()
    log.warning("event_quarantined", reason=item.reason, detail=item.detail, event_id=item.event_id, seq=work.seq)
    return quarantined(
        stage=work.stage,
        reason=item.reason,
        detail=item.detail,
        stream=work.stream,
        subject=work.subject,
        seq=work.seq,
        data=work.data,
        headers=work.headers,
        attempts=work.attempt,
        event_id=item.event_id,
        event_source=item.event_source,
    )
