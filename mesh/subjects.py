"""The names on the bus: streams, subjects, buckets, durable consumers. Everything that is a name is made here."""

import re
from typing import Final
from urllib.parse import quote

from mesh.records import WHOLE_TASK, AnyRecord

EVENTS: Final = "EVENTS"
JOURNAL: Final = "JOURNAL"
QUARANTINE: Final = "QUARANTINE"
MEMORY: Final = "MEMORY"
AUDIT: Final = "AUDIT"
ORIGINALS: Final = "ORIGINALS"
SITES: Final = "SITES"
"""The stream of a hub that holds what is sent down to its sites, and what they made of it."""

POLICY_BUCKET: Final = "POLICY"
TRUST_BUCKET: Final = "TRUST"
WORKING_BUCKET: Final = "WORKING"
SESSION_BUCKET: Final = "SESSION"
REGISTRY_BUCKET: Final = "REGISTRY"
MODELS_BUCKET: Final = "MODELS"
INTAKE_BUCKET: Final = "INTAKE"

KINDS: Final = (
    "context",
    "prompt",
    "completion",
    "plan",
    "decision",
    "approval",
    "effect",
    "result",
    "outcome",
    "lesson",
)

_TOKEN = re.compile(r"[A-Za-z0-9_\-~=]{1,64}")
_TYPE = re.compile(r"[A-Za-z0-9_\-]{1,64}(\.[A-Za-z0-9_\-]{1,64}){1,7}")

CHANGES: Final = "memory.changed.>"
"""All hints that something in memory changed, which no stream holds."""

UNREADABLE_EVENT: Final = "event.unreadable.-"

# Headers of a released input: where the original stands.
ORIGIN_STREAM: Final = "Workmesh-Stream"
ORIGIN_SUBJECT: Final = "Workmesh-Subject"
ORIGIN_SEQUENCE: Final = "Workmesh-Sequence"
KEPT: Final = "Workmesh-Kept"
"""Header of a released arrival that is too large to come along: its digest in ``ORIGINALS``."""

UPLINKED: Final = (JOURNAL, AUDIT)
"""The streams of a site that a hub keeps a copy of (``mesh.uplink``): those from which nothing is ever erased."""

_STREAMS: Final = {
    "event": EVENTS,
    "task": JOURNAL,
    "release": JOURNAL,
    "control": JOURNAL,
    "limit": JOURNAL,
    "spend": JOURNAL,
    "quarantine": QUARANTINE,
    "fact": MEMORY,
    "audit": AUDIT,
    "original": ORIGINALS,
}


def stream_of(subject: str) -> str:
    """The stream that holds a subject; raises ``ValueError`` for one that no stream holds."""
    try:
        return _STREAMS[subject.partition(".")[0]]
    except KeyError:
        raise ValueError(f"no stream holds {subject}") from None


def heads(stream: str) -> list[str]:
    """The subject filters of a stream."""
    return [f"{head}.>" for head, name in _STREAMS.items() if name == stream]


def event(event_type: str) -> str:
    """``event.<domain>.<type>`` of a CloudEvents type such as ``retail.return.requested``.

    A type that cannot be a subject goes to ``event.unreadable.-``, from where perception quarantines it.
    """
    return f"event.{event_type}" if _TYPE.fullmatch(event_type) else UNREADABLE_EVENT


def domain_of(event_type: str) -> str:
    """The domain: the first token of the event's type."""
    return event_type.partition(".")[0]


def record(kind: str, domain: str, task_id: str, step: str) -> str:
    """``task.<kind>.<domain>.<task_id>.<step>``; raises ``ValueError`` when a part is not one subject token."""
    for part in (kind, domain, task_id, step):
        if not _TOKEN.fullmatch(part):
            raise ValueError(f"{part!r} cannot be one token of a subject: use A-Z a-z 0-9 _ - ~ =, at most 64")
    return f"task.{kind}.{domain}.{task_id}.{step}"


def of(item: AnyRecord) -> str:
    """The subject that this record is written to."""
    return record(item.kind, item.header.domain, item.header.task_id, item.token)


def whole_task(task_id: str, domain: str = "*") -> str:
    """The filter that matches all records of a task."""
    return f"task.*.{domain}.{task_id}.*"


def matches(flt: str, subject: str) -> bool:
    """Whether a subject matches a filter that has ``*`` for whole tokens, and no ``>``."""
    if "*" not in flt:
        return flt == subject
    wanted, tokens = flt.split("."), subject.split(".")
    return len(wanted) == len(tokens) and all(a in ("*", b) for a, b in zip(wanted, tokens, strict=True))


def kind(name: str) -> str:
    """The filter that matches all records of one kind."""
    return f"task.{name}.>"


def record_filter(kind: str, token: str = WHOLE_TASK) -> str:
    """The filter that matches the records of one kind and one last token, of all tasks."""
    return f"task.{kind}.*.*.{token}"


def released(stage: str) -> str:
    """The filter of inputs that a person released to this stage after mending."""
    return f"release.{stage}.>"


def control(what: str, *scope: str) -> str:
    """Where an act of governance stands: ``control.<what>.<scope>``; a name such as ``retail.undo`` is one token."""
    tokens = (quote(name, safe="").replace(".", "%2E").replace("~", "%7E") for name in scope)
    return ".".join(("control", what, *tokens))


def limit(domain: str, name: str, key: str) -> str:
    """Where what was taken of a limit over time stands, for one key (a token)."""
    return f"limit.{domain}.{name}.{key}"


def spend(domain: str, day: str) -> str:
    """Where stands what a domain spends on models on a day (``YYYY-MM-DD``, UTC)."""
    return f"spend.{domain}.{day}"


def quarantine(stage: str, item_id: str) -> str:
    """Where a stage puts what it could not accept."""
    return f"quarantine.{stage}.{item_id}"


def fact(scope_token: str, subject_token: str, predicate_token: str) -> str:
    """Where the events of one slot of memory stand (``mesh.facts.Slot.tokens``)."""
    return f"fact.{scope_token}.{subject_token}.{predicate_token}"


def memory_changed(scope_token: str, subject_token: str, predicate_token: str = WHOLE_TASK) -> str:
    """Where memory says that a slot, or (``-``) all of a subject, may differ from before."""
    return f"memory.changed.{scope_token}.{subject_token}.{predicate_token}"


def original(digest: str, part: str) -> str:
    """Where a part of what came in stands, under the SHA-256 (hex) of the whole; ``*`` is any part."""
    return f"original.{digest}.{part}"


def service(name: str, verb: str) -> str:
    """The request subject of a service's verb, such as ``svc.memory.recall``."""
    return f"svc.{name}.{verb}"


def site_name(public_key: str) -> str:
    """A site as its hub names it: by the key of its uplink, so that no other key can write in its name."""
    return public_key[:16]


def site_stream(site: str, stream: str) -> str:
    """The stream of a hub that holds the copy of a site's stream."""
    return f"SITE_{site}_{stream}"


def down(site: str, what: str, domain: str) -> str:
    """Where a hub puts a ``bundle`` or an ``active`` (an activation) of a domain for one site."""
    return f"down.{site}.{what}.{domain}"


def told(site: str, domain: str) -> str:
    """Where a site tells its hub which bundle is in force in a domain, and what it refused."""
    return f"told.{site}.active.{domain}"


def site_subject(site: str, stream: str, subject: str) -> str:
    """Where a hub keeps the copy of a site's message."""
    return f"site.{site}.{stream}.{subject}"
