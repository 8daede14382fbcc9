"""Facts as memory keeps, judges and answers them.

The rule: every fact says where it came from, and a status is a judgement at a time, never a change of the fact.
"""

from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Annotated

import msgspec

from mesh import canonical
from mesh.errors import SignatureError, TerminalError
from mesh.records import NULL, Causation, Json, Struct

STEWARD_ROLE = "memory_steward"
"""The role of people who resolve, revoke and forget."""
SOURCE_ROLE = "memory_source"
"""The role of the key of a canonical system; it speaks for sources whose uri begins with its name and a colon."""

CANONICAL = 3
Authority = Annotated[int, msgspec.Meta(ge=0, le=CANONICAL)]
"""0 text from outside or a guess, 1 what an agent observed, 2 a person or a document, 3 the canonical system."""
Confidence = Annotated[float, msgspec.Meta(ge=0, le=1)]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]

NAME_BYTES = 256  # a subject, a predicate, a part of a scope; bus subjects carry only digests of them
_NONE = "-"

# The tokens of one fact are asked for some twenty times on its way in.
token = lru_cache(16_384)(canonical.token)


class Level(StrEnum):
    """Whose memory: the organisation's, kept; or a session's, which ends with it."""

    ORGANISATION = "organisation"
    SESSION = "session"


class Scope(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a fact holds. Facts of different scopes never meet: not in a conflict, not in an answer."""

    level: Level = Level.ORGANISATION
    domain: str = ""
    tenant: str = ""
    session: str = ""

    @property
    def text(self) -> str:
        """``organisation/<domain>/<tenant>`` or ``session/<domain>/<tenant>/<session>``, with ``-`` for none."""
        return _scope_text(self.level, self.domain, self.tenant, self.session)

    @property
    def token(self) -> str:
        """The scope as one token of a bus subject."""
        return token("scope", self.text, bits=80)


class Cardinality(StrEnum):
    """How many values of a predicate can be true of a subject at once."""

    ONE = "one"
    MANY = "many"


class ValueType(StrEnum):
    """What the JSON of a value is: ``decimal`` is a string, ``money`` has ``amount`` (minor units) and ``currency``."""

    TEXT = "text"
    INTEGER = "integer"
    DECIMAL = "decimal"
    BOOLEAN = "boolean"
    TIME = "time"
    MONEY = "money"
    REFERENCE = "reference"
    OBJECT = "object"


class SourceKind(StrEnum):
    """What a fact came from."""

    SYSTEM = "system"
    DOCUMENT = "document"
    PERSON = "person"
    AGENT = "agent"
    MODEL = "model"


class Source(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a fact came from. ``digest`` is of its content; a source may correct what it said with another digest."""

    uri: str
    digest: str = ""
    kind: SourceKind = SourceKind.AGENT
    authority: Authority = 1


class FactStatus(StrEnum):
    """What memory makes of a fact at a time."""

    CURRENT = "current"
    SUPERSEDED = "superseded"
    CONTESTED = "contested"
    RETRACTED = "retracted"


class Claim(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody asserts. ``valid_from`` None is now; ``valid_to`` None has no end.

    ``text`` is what it is found by ("" is made of subject, predicate and value). ``derived_from`` are ids of facts that
    it rests on. ``expected`` is the version that must stand (0: none yet); None takes any.
    """

    subject: str
    predicate: str
    value: Json
    source: Source
    scope: Scope = Scope()
    type: ValueType = ValueType.TEXT
    text: str = ""
    cardinality: Cardinality = Cardinality.ONE
    evidence: tuple[Causation, ...] = ()
    derived_from: tuple[str, ...] = ()
    confidence: Confidence = 1.0
    valid_from: Moment | None = None
    valid_to: Moment | None = None
    expected: int | None = None

    @property
    def slot(self) -> "Slot":
        """What it is about."""
        return Slot(scope=self.scope, subject=self.subject, predicate=self.predicate)


class Slot(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Scope, subject and predicate: only facts of one slot can conflict."""

    scope: Scope
    subject: str
    predicate: str

    @property
    def tokens(self) -> tuple[str, str, str]:
        """Scope, subject and predicate as tokens of a bus subject; they tell no name."""
        return (
            self.scope.token,
            subject_token(self.scope, self.subject),
            token("predicate", self.predicate, bits=80),
        )

    @property
    def id(self) -> str:
        """The slot as one token; that of a session tells where it is kept."""
        if self.scope.level is Level.SESSION:
            return "~".join(self.tokens)
        return token("slot", self.scope.text, self.subject, self.predicate, bits=100)


class Fact(Struct, frozen=True, kw_only=True):
    """A fact as it was recorded; it never changes. ``version`` counts the facts of its slot from 1.

    ``supersedes`` is the fact that stood when this one took its place, or "".
    """

    id: str
    version: int
    scope: Scope
    subject: str
    predicate: str
    type: ValueType
    value: Json
    text: str
    cardinality: Cardinality
    source: Source
    asserted_by: str
    recorded_at: Moment
    valid_from: Moment
    valid_to: Moment | None = None
    evidence: tuple[Causation, ...] = ()
    derived_from: tuple[str, ...] = ()
    confidence: Confidence = 1.0
    supersedes: str = ""

    @property
    def slot(self) -> Slot:
        """What it is about."""
        return Slot(scope=self.scope, subject=self.subject, predicate=self.predicate)


class Word(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a key signs to have more done than anybody may: the verb and its request, once, until it expires."""

    verb: str
    request: Json
    person: str
    role: str = ""
    reason: str = ""
    nonce: str
    at: Moment
    expires_at: Moment


class FactEvent(Struct, frozen=True, kw_only=True, tag_field="event"):
    """An entry of ``MEMORY``. ``signed`` is the envelope of the ``Word`` that it needed, if any."""

    at: Moment
    by: str
    signed: Json = NULL


class Asserted(FactEvent, frozen=True, kw_only=True, tag="asserted"):
    """New facts of one slot."""

    facts: tuple[Fact, ...]


class Retracted(FactEvent, frozen=True, kw_only=True, tag="retracted"):
    """Facts of one slot that should never have been held true; what was derived from them is contested."""

    slot: Slot
    ids: tuple[str, ...]
    reason: str = ""


class Resolved(FactEvent, frozen=True, kw_only=True, tag="resolved"):
    """A person's choice among the facts of one slot: ``chosen`` ("" is none of them) over the others."""

    slot: Slot
    chosen: str
    over: tuple[str, ...]
    reason: str = ""


class Revoked(FactEvent, frozen=True, kw_only=True, tag="revoked"):
    """All that a source said, before and after, is retracted, and so is what was derived from it."""

    source: str
    reason: str = ""


class Erased(FactEvent, frozen=True, kw_only=True, tag="erased"):
    """A subject is forgotten for good, text and all; only its token stays, and how many events there were."""

    scope_token: str
    subject_token: str
    events: int
    reason: str = ""


AnyFactEvent = Asserted | Retracted | Resolved | Revoked | Erased


class Judged(Struct, frozen=True, kw_only=True):
    """A fact with what memory makes of it: why, and by which other facts."""

    fact: Fact
    status: FactStatus
    reason: str = ""
    by: tuple[str, ...] = ()


class RecalledFact(Struct, frozen=True, kw_only=True):
    """A current fact as memory answers it. ``score`` is how well it fits the words, 0 to 1 (0 without words)."""

    id: str
    version: int
    scope: str
    subject: str
    predicate: str
    text: str
    source: str
    value: Json = NULL
    status: FactStatus = FactStatus.CURRENT
    authority: int = 1
    confidence: float = 1.0
    valid_from: Moment | None = None
    valid_to: Moment | None = None
    score: float = 0.0


@lru_cache(1024)
def _scope_text(level: Level, domain: str, tenant: str, session: str) -> str:
    parts = [level, domain, tenant, *([session] if level is Level.SESSION else [])]
    return "/".join(part or _NONE for part in parts)


def subject_token(scope: Scope, subject: str) -> str:
    """The subject of facts as one token of a bus subject."""
    return token("subject", scope.text, subject, bits=100)


def parse_scope(text: str) -> Scope:
    """The scope that ``Scope.text`` writes; raises ``TerminalError`` for another text."""
    level, *parts = text.split("/")
    wanted = {Level.ORGANISATION: 2, Level.SESSION: 3}.get(level)  # type: ignore[call-overload]
    if wanted is None or len(parts) != wanted:
        raise TerminalError(
            f"{text!r} is no scope: write organisation/DOMAIN/TENANT or session/DOMAIN/TENANT/SESSION, - for none"
        )
    domain, tenant, *session = ("" if part == _NONE else part for part in parts)
    return Scope(level=Level(level), domain=domain, tenant=tenant, session=session[0] if session else "")


def check_word(word: Word, verb: str, at: datetime) -> None:
    """Raises ``SignatureError`` unless the word is for this verb, and not over."""
    if word.verb != verb:
        raise SignatureError(f"{word.person} signed {word.verb!r}, not {verb!r}")
    if not word.at <= word.expires_at or at > word.expires_at:
        raise SignatureError(f"the word of {word.person} expired at {word.expires_at.isoformat()}: sign anew")
