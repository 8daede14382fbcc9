"""What could not be accepted: kept with the reason and the original bytes, until a person releases it.

The rule: nothing is dropped; an item can be released after mending, and then runs as if it came now.
"""

import base64
from datetime import datetime
from enum import StrEnum

import msgspec

from mesh import subjects
from mesh.bus import Bus, StoredMessage
from mesh.canonical import digest_bytes, token
from mesh.clock import now
from mesh.errors import WorkmeshError
from mesh.journal import Committer, Message
from mesh.runtime import Work


class Reason(StrEnum):
    """Why something is in quarantine, as a class to count by."""

    MALFORMED = "malformed"
    UNKNOWN_TYPE = "unknown_type"
    CONFLICT = "conflict"
    DEAD_LETTER = "dead_letter"
    REFUSED_PERMIT = "refused_permit"
    REFUSED_WORD = "refused_word"


class Released(msgspec.Struct, frozen=True, kw_only=True):
    """The note of a release: by whom, when, and of which refusal (its ``at``; a later one of that input waits).

    ``mended`` is the digest of what was released in place of the original, if a person has changed it.
    """

    person: str
    at: datetime
    refused_at: datetime
    mended: str = ""


class Quarantined(msgspec.Struct, frozen=True, kw_only=True):
    """One item: which stage refused what, why, and the original bytes (base64).

    What did not come by a stream has none, and ``subject`` names it at its source. Where the original is large,
    ``kept`` is its digest in ``ORIGINALS`` instead.
    """

    stage: str
    reason: Reason
    detail: str
    stream: str
    subject: str
    seq: int
    original: str
    headers: dict[str, str]
    attempts: int
    at: datetime
    event_id: str = ""
    event_source: str = ""
    kept: str = ""

    @property
    def id(self) -> str:
        """A function of what was refused and by whom, so a redelivery finds its item there."""
        return item_id(self.stage, self.stream or self.subject, self.seq)

    @property
    def data(self) -> bytes:
        """The original bytes."""
        return base64.b64decode(self.original)


_INTAKE = "intake"
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Quarantined)
_note_decoder = msgspec.json.Decoder(Released)


def item_id(stage: str, stream: str, seq: int) -> str:
    """The id of the item for this input of this stage."""
    return token("quarantine", stage, stream, str(seq), bits=80)


def set_aside(work: Work, reason: Reason, detail: str, *, event_id: str = "", event_source: str = "") -> Message:
    """The input of a stage as an item of ``QUARANTINE``."""
    return quarantined(
        stage=work.stage,
        reason=reason,
        detail=detail,
        stream=work.stream,
        subject=work.subject,
        seq=work.seq,
        data=work.data,
        headers=work.headers,
        attempts=work.attempt,
        event_id=event_id,
        event_source=event_source,
    )


def quarantined(
    *,
    stage: str,
    reason: Reason,
    detail: str,
    stream: str,
    subject: str,
    seq: int,
    data: bytes,
    headers: dict[str, str] | None = None,
    attempts: int = 1,
    event_id: str = "",
    event_source: str = "",
    kept: str = "",
) -> Message:
    """The item as a message for ``QUARANTINE``, created only if absent.

    A second refusal of the same input is the same item: whoever wrote it first stands, so nothing is expected here.
    """
    item = Quarantined(
        stage=stage,
        reason=reason,
        detail=detail,
        stream=stream,
        subject=subject,
        seq=seq,
        original=base64.b64encode(data).decode(),
        headers=headers or {},
        attempts=attempts,
        at=now(),
        event_id=event_id,
        event_source=event_source,
        kept=kept,
    )
    return Message(subjects.quarantine(stage, item.id), _encoder.encode(item), expected=None)


def decode(message: StoredMessage) -> Quarantined:
    """The item in a message of ``QUARANTINE``."""
    return _decoder.decode(message.data)


async def waiting(bus: Bus) -> list[Quarantined]:
    """All items that have not been released, oldest first; a second refusal of one input counts once."""
    items: dict[str, Quarantined] = {}
    seq = 1
    while page := await bus.read(subjects.QUARANTINE, seq, 256):
        for message in page:
            if message.subject.startswith("quarantine.released."):
                released = items.get(message.subject.rpartition(".")[2])
                # A stage can refuse the input again before the note of its release is stored: that refusal waits.
                if released is not None and released.at <= _note_decoder.decode(message.data).refused_at:
                    del items[released.id]
            else:
                item = decode(message)
                items[item.id] = item
        seq = page[-1].seq + 1
    return list(items.values())


async def find(bus: Bus, item: str) -> Quarantined | None:
    """The item of this id; ``None`` when it does not wait (any more)."""
    return next((each for each in await waiting(bus) if each.id == item), None)


def is_mendable(item: Quarantined) -> bool:
    """Whether a person may change what is released: what came from outside, as text, and is here whole."""
    if item.kept or not (item.stream == subjects.EVENTS or (item.stream == "" and item.stage == _INTAKE)):
        return False
    try:
        item.data.decode()
    except UnicodeDecodeError:
        return False
    return True


async def release(committer: Committer, item: Quarantined, *, person: str, mended: bytes | None = None) -> None:
    """Give the original, or what a person has ``mended`` of it, to its stage again; on record with that name.

    An event goes back onto its own subject, or that of the type it has now; a record of the journal, and what came to
    intake, to the stage that refused it. Raises ``WorkmeshError`` for what takes nothing back or cannot be mended.
    """
    if mended is not None and not is_mendable(item):
        raise WorkmeshError(f"quarantined item {item.id} can be released only as it is")
    data = item.data if mended is None else mended
    headers = {name: value for name, value in item.headers.items() if not name.lower().startswith("nats-")}
    if item.stream == subjects.EVENTS:
        again = Message(_event_subject(item, data), data, None, headers=headers)
    elif item.stream in ("", subjects.JOURNAL):
        headers |= {
            subjects.ORIGIN_STREAM: item.stream,
            subjects.ORIGIN_SUBJECT: item.subject,
            subjects.ORIGIN_SEQUENCE: str(item.seq),
        }
        if item.kept:
            headers[subjects.KEPT] = item.kept
        subject = f"release.{item.stage}.{item.id}.{now():%Y%m%dT%H%M%S%f}"
        again = Message(subject, data, None, headers=headers)
    else:
        raise WorkmeshError(f"quarantined item {item.id} came from {item.stream}, which takes nothing back")
    await committer.commit([again])
    changed = digest_bytes(data) if data != item.data else ""
    note = Released(person=person, at=now(), refused_at=item.at, mended=changed)
    await committer.commit([Message(f"quarantine.released.{item.id}", _encoder.encode(note), None)])


class _Typed(msgspec.Struct):
    type: str = ""


def _event_subject(item: Quarantined, data: bytes) -> str:
    """Where an event goes: mended, it may have another type than its subject says."""
    if data == item.data:
        return item.subject
    try:
        found = msgspec.json.decode(data, type=_Typed).type
    except msgspec.DecodeError:
        found = ""
    return subjects.event(found) if found else item.subject
