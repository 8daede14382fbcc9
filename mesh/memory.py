"""What is asked of memory over the bus (``svc.memory.<verb>``), and what it answers."""

from typing import Annotated

import msgspec

from mesh.facts import Authority, Claim, FactStatus, Judged, Moment, RecalledFact, Scope, Slot
from mesh.records import NULL, Json, Struct

SAID_BEFORE = "this word was said before: sign anew"
"""The answer to a word that something in memory rests on already."""


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


class RelayRequest(Request, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Forget here what a steward had forgotten at the hub: the steward's envelope, as it is on record there. Its time
    may be over, so a source's key vouches in another, over a word ``relay`` of this request without it."""

    signed: Json
    vouched: Json = NULL


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
