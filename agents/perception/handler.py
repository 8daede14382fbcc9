"""The perception stage: one event in; a context, a quarantined item, or nothing (a duplicate) out."""

from collections.abc import Mapping
from datetime import UTC, datetime

import structlog

from mesh import metrics, subjects, tracing
from mesh.admission import Accepted, Rejected, read
from mesh.event_index import EventIndex, First
from mesh.finding import URGENCY, sure
from mesh.journal import Journal, Message, Write
from mesh.pack import Pack
from mesh.quarantine import Reason, set_aside
from mesh.records import Context, Event
from mesh.runtime import Handler, NotYetError, Outputs, Work

log = structlog.get_logger(__name__)

# Longer than a killed copy's ack wait: as a rule the first event comes again by then.
_WAITS, _WAIT_S = 10, 0.5


def perceiving(packs: Mapping[str, Pack], index: EventIndex, journal: Journal) -> Handler:
    """The handler of the perception stage."""

    async def perceive(work: Work) -> Outputs:
        item = read(work.data, work.headers, packs)
        if isinstance(item, Rejected):
            return (_quarantine(work, item),)
        first = await index.first(item, work.message())
        if first is None:
            # The index read it with an older pack. Those after it do not know of it, so it must come anew.
            detail = f"the type {item.event.type} was not known here when the event came: release it"
            return (_quarantine(work, Rejected(Reason.UNKNOWN_TYPE, detail, item.event.id, item.event.source)),)
        if first.seq == work.seq:
            return (Write(_context(work, item, first.after, index.earlier(item, work.message()))),)
        if first.is_same(item.digest, item.event.original):
            if await journal.record(subjects.record("context", item.domain, item.task_id, "-")) is None:
                return _in_place_of(work, item, first)
            log.info("duplicate_event", event_id=item.event.id, source=item.event.source, first_seq=first.seq)
            return ()
        detail = (
            f"event {item.event.id!r} of {item.event.source!r} came before at {first.seq} with other content: "
            "the first one stands; send a change under an id of its own"
        )
        return (_quarantine(work, Rejected(Reason.CONFLICT, detail, item.event.id, item.event.source)),)

    return perceive


def _in_place_of(work: Work, item: Accepted, first: First) -> Outputs:
    """A duplicate takes the place of a first event that led to nothing: a copy with older packs set that one aside."""
    if work.attempt < _WAITS:
        raise NotYetError(f"the first event of task {item.task_id} has no context yet", delay_s=_WAIT_S)
    log.warning("duplicate_taken", event_id=item.event.id, source=item.event.source, first_seq=first.seq)
    return (Write(_context(work, item, first.after)),)


def _context(work: Work, item: Accepted, after: str, earlier: tuple[str, ...] = ()) -> Context:
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
            channel=event.channel,
            original=event.original,
            traceparent=event.traceparent if tracing.is_valid(event.traceparent) else "",
        ),
        data=event.data,
        entity=item.entity,
        after=after,
        urgency=sure(item.found, URGENCY) or item.kind.urgency,
        taint=item.kind.taint,
        entity_kind=item.kind.entity_kind(event.subject),
        found=item.found,
        case=item.case,
        earlier=earlier,
    )


def _quarantine(work: Work, item: Rejected) -> Message:
    metrics.QUARANTINED.labels(reason=item.reason).inc()
    log.warning("event_quarantined", reason=item.reason, detail=item.detail, event_id=item.event_id, seq=work.seq)
    return set_aside(work, item.reason, item.detail, event_id=item.event_id, event_source=item.event_source)
