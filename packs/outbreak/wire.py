"""What the registry answers, in the words that both sides of the line use."""

import hashlib
from collections.abc import Sequence
from enum import StrEnum

import msgspec

from packs.outbreak.verdict import Said


class ClaimState(StrEnum):
    """Where a number stands. Only ``standing`` ones are judged; none is ever deleted."""

    STANDING = "standing"
    CONTESTED = "contested"
    SUPERSEDED = "superseded"
    REJECTED = "rejected"


class AlertState(StrEnum):
    """Where an alert stands; ``in_review`` says that a number under it was corrected."""

    PUBLISHED = "published"
    IN_REVIEW = "in_review"
    WITHDRAWN = "withdrawn"


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A number and where it comes from."""

    week: str
    source: str
    revision: int
    count: int
    document: str
    row: str
    received: str
    state: ClaimState


class AlertLine(msgspec.Struct, frozen=True, kw_only=True):
    """An alert in short."""

    alert: str
    place: str
    disease: str
    week: str
    state: AlertState
    approved_by: tuple[str, ...] = ()
    withdrawn_by: tuple[str, ...] = ()
    reason: str = ""


class SeriesView(msgspec.Struct, frozen=True, kw_only=True):
    """A series up to a week: what stands and what is contested, its digest, its alerts, what authorities said."""

    found: bool
    digest: str = ""
    standing: tuple[Claim, ...] = ()
    contested: tuple[Claim, ...] = ()
    alerts: tuple[AlertLine, ...] = ()
    said: tuple[Said, ...] = ()


class WeekView(msgspec.Struct, frozen=True, kw_only=True):
    """What bears on a number that comes in; ``channel`` is where the source's events come from."""

    found: bool
    source_known: bool = False
    channel: str = ""
    ceiling: int = 0
    last_received: str = ""
    claims: tuple[Claim, ...] = ()


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A change that took effect; ``state`` is of the number or alert that it was about."""

    key: str
    seq: int
    kind: str
    about: str
    state: str
    replayed: bool = False


class LogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the registry's log."""

    seq: int
    key: str
    kind: str
    about: str
    at: str


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """A letter in the registry's outbox, one a subscriber."""

    seq: int
    alert: str
    to: str
    subject: str
    body: str


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """All numbers (as ``place/disease``), alerts and notices."""

    claims: dict[str, tuple[Claim, ...]]
    alerts: tuple[AlertLine, ...]
    notices: tuple[Notice, ...]


class Refusal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a request changed nothing: a code, and words."""

    error: str = ""
    detail: str = ""


def series_digest(claims: Sequence[Claim], said: Sequence[Said]) -> str:
    """The digest of all that a week is judged by, provenance included."""
    content = msgspec.json.encode({"claims": list(claims), "said": list(said)}, order="deterministic")
    return "sha256:" + hashlib.sha256(content).hexdigest()
