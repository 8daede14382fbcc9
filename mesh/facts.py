"""Facts as memory keeps and answers them, and what is asked of memory over the bus (`svc.memory.<verb>`).

The rule: every fact says where it came from, and a status is a judgement at a time, never a change of the fact.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec

from mesh.canonical import token
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
        parts = [self.level, self.domain, self.tenant, *([self.session] if self.level is Level.SESSION else [])]
        return "/".join(part or _NONE for part in parts)

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


class Request(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what is asked of memory."""


class RememberRequest(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Remember these, all or none. ``by`` is who says so; an authority above 1 must be ``signed`` for."""

    claims: Annotated[tuple[Claim, ...], msgspec.Meta(min_length=1, max_length=256)]
    by: str
    signed: Json = NULL


class RememberAnswer(Struct, frozen=True, kw_only=True):
    """The fact that each claim became, or already was, in their order; ``added`` counts the new ones."""

    facts: tuple[Judged, ...]
    added: int


class Question(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked of one scope: a subject (a prefix ends in ``/``), a predicate, words, or several of them.

    ``token_budget`` bounds the texts of the answer together (0: no bound). ``valid_at`` asks for what was true then,
    ``known_at`` for what memory held then.
    """

    scope: Scope = Scope()
    subject: str = ""
    predicate: str = ""
    query: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 10
    token_budget: Annotated[int, msgspec.Meta(ge=0)] = 0
    min_authority: Authority = 0
    valid_at: Moment | None = None
    known_at: Moment | None = None


class RecallRequest(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Several questions at once; the answer is a ``RecallAnswer``."""

    questions: Annotated[tuple[Question, ...], msgspec.Meta(min_length=1, max_length=32)]


class RecallAnswer(Struct, frozen=True, kw_only=True):
    """The facts for each question, best first. ``seq`` is how far in ``MEMORY`` the answer reaches."""

    facts: tuple[tuple[RecalledFact, ...], ...]
    seq: int = 0


class StandingRequest(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether facts still stand as they were cited; the answer has what became of each, unknown ids left out."""

    ids: Annotated[tuple[str, ...], msgspec.Meta(max_length=256)]


class FactsRequest(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A page of judged facts of a scope by subject and predicate, behind ``after``; ``status`` None is current."""

    scope: Scope = Scope()
    subject: str = ""
    status: FactStatus | None = FactStatus.CURRENT
    after: tuple[str, str, int] = ("", "", 0)
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 50


class FactsPage(Struct, frozen=True, kw_only=True):
    """A page; ``next`` asks for the one behind it, and is None on the last."""

    facts: tuple[Judged, ...]
    next: tuple[str, str, int] | None = None


class HistoryRequest(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that was recorded of one slot, oldest first: ``HistoryLine`` each."""

    slot: Slot
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100


class HistoryLine(Struct, frozen=True, kw_only=True):
    """An event of a slot in words, and what is made now of the facts that it added."""

    seq: int
    at: Moment
    by: str
    what: str
    facts: tuple[Judged, ...] = ()
    reason: str = ""


class WhyRequest(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a fact rests on; the answer is a ``Grounds``."""

    id: str


class Grounds(Struct, frozen=True, kw_only=True):
    """A fact, where in ``MEMORY`` it stands, and the facts that it rests on; its ``evidence`` names the records."""

    judged: Judged
    seq: int
    grounds: tuple["Grounds", ...] = ()


class RetractRequest(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Retract facts of one slot. Facts of an authority above 1 need it ``signed``."""

    ids: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=256)]
    by: str
    reason: str = ""
    signed: Json = NULL


class ResolveRequest(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A steward's choice in a slot: ``chosen`` ("" for none) stands, all others that are there now do not."""

    slot: Slot
    chosen: str
    seen: int  # the last version that the person saw
    reason: str = ""


class RevokeRequest(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A steward's word that a source is not to be believed."""

    source: str
    reason: str = ""


class ForgetRequest(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A steward's word that a subject is to be forgotten in this scope, text and all."""

    scope: Scope
    subject: str
    reason: str = ""


class SignedRequest(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request that is nothing without its signature: the envelope over a ``Word`` that holds it."""

    signed: Json


class ChangeAnswer(Struct, frozen=True, kw_only=True):
    """What an act changed: the facts as they are judged now (the first of them), and how many in all."""

    seq: int
    changed: int
    facts: tuple[Judged, ...] = ()


class ReindexRequest(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Build the index anew from what ``MEMORY`` holds; answers go on meanwhile."""


class StatusRequest(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How memory is; the answer is a ``MemoryStatus``."""


class MemoryStatus(Struct, frozen=True, kw_only=True):
    """Of the copy that answers: facts kept, slots that are contested, how far it reads, and how its index is.

    ``index`` says how words are answered: ``lexical``, ``building``, ``ready``, ``rebuilding`` or ``damaged``.
    ``indexed`` of ``documents`` have their vectors.
    """

    facts: int
    contested: int
    seq: int
    model: str
    index: str
    indexed: int
    documents: int


class ProbeRequest(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask the probes now; the answer is a ``ProbeReport``."""


class ProbeReport(Struct, frozen=True, kw_only=True):
    """How well questions with known answers were answered: the share found in the first ten, and their order.

    ``stale_hits`` are facts that were answered and did not stand any more.
    """

    at: Moment
    probes: int
    recall_10: float
    ndcg_10: float
    stale_hits: int
    p99_ms: float


class Changed(Struct, frozen=True, kw_only=True):
    """``memory.changed.<scope>.<subject>.<predicate>``: what stands there may differ from before ``seq``.

    A predicate of ``-`` is all of the subject.
    """

    seq: int


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
