"""What perception makes of an event's bytes: accepted or rejected, as a pure function of bytes and packs.

The rule: everything that is wrong with an event is found here, and said so that its sender can mend it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from mesh import canonical, events, subjects
from mesh.finding import find
from mesh.pack import EventType, Pack
from mesh.quarantine import Reason
from mesh.record import Found


@dataclass(frozen=True, slots=True)
class Accepted:
    """A valid event of a known type. ``entity`` orders the tasks that concern one thing.

    ``found`` is what can be seen in its text, ``case`` the request that it seems to be.
    """

    event: events.CloudEvent
    kind: EventType
    task_id: str
    domain: str
    entity: str
    digest: str
    found: tuple[Found, ...] = ()
    case: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """What is wrong with an event, and what could be read of its identity.

    ``pointer`` (JSON pointer) is where it is wrong, "" for the whole.
    """

    reason: Reason
    detail: str
    event_id: str = ""
    event_source: str = ""
    pointer: str = ""


class _Identity(msgspec.Struct):
    id: str = ""
    source: str = ""


def read(data: bytes, headers: Mapping[str, str], packs: Mapping[str, Pack]) -> Accepted | Rejected:
    """Hold an event against the envelope's rules and its pack's type."""
    try:
        event = events.read(data, headers)
    except events.MalformedEventError as error:
        identity = _identity(data)
        return Rejected(Reason.MALFORMED, str(error), identity.id, identity.source, error.pointer)
    domain = subjects.domain_of(event.type)
    pack = packs.get(domain)
    kind = pack.event_type(event.type) if pack else None
    if kind is None:
        known = f"pack {domain} knows {', '.join(t.name for t in pack.events)}" if pack else f"no pack for {domain!r}"
        return Rejected(
            Reason.UNKNOWN_TYPE, f"unknown event type {event.type!r}: {known}", event.id, event.source, "/type"
        )
    try:
        said = msgspec.json.decode(event.data, type=kind.data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Rejected(Reason.MALFORMED, f"/data: {error}", event.id, event.source, "/data" + _pointer(error))
    task = canonical.task_id(event.source, event.id)
    found = find(event.data, kind.taint, kind.finds)
    case = kind.case(said, found) if kind.case else ""
    return Accepted(
        event, kind, task, domain, event.subject or task, event.content_digest(kind.provenance), found, case
    )


def _pointer(error: Exception) -> str:
    """The JSON pointer of the place that msgspec names, such as ``$.items[0].id``."""
    _, known, place = str(error).rpartition(" - at `$")
    if not known:
        return ""
    return re.sub(r"\.|\[(\.\.\.|\d+)\]", lambda found: f"/{found[1] or ''}", place.rstrip("`")).replace("...", "-")


def _identity(data: bytes) -> _Identity:
    try:
        return msgspec.json.decode(data, type=_Identity)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Identity()
