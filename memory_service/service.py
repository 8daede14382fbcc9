"""The verbs of memory: checked, written to ``MEMORY``, answered from the view.

The rule: what was written can be recalled from this copy when the answer goes out; every answer has a bounded size.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

import msgspec

from memory_service import checks, rights
from memory_service.admitting import Admitted, SlotState, admit
from memory_service.erasing import Eraser
from memory_service.histories import Histories
from memory_service.probing import Prober
from memory_service.retrieval.budget import within_budget
from memory_service.rights import Voice
from memory_service.session_service import SessionMemory, is_of_session, refuse_session
from memory_service.store import Entry, FactStore
from memory_service.table import source_token
from memory_service.view import FactView
from memory_service.voices import Voices
from mesh import faultpoints, subjects
from mesh.clock import now
from mesh.errors import BusUnavailableError, TerminalError
from mesh.facts import Asserted, Claim, Judged, Level, RecalledFact, Resolved, Retracted, Revoked, Slot
from mesh.memory import (
    ChangeAnswer,
    FactsPage,
    FactsRequest,
    ForgetRequest,
    Grounds,
    HistoryLine,
    HistoryRequest,
    MemoryStatus,
    ProbeReport,
    ProbeRequest,
    Question,
    RecallAnswer,
    RecallRequest,
    ReindexRequest,
    RelayRequest,
    RememberAnswer,
    RememberRequest,
    ResolveRequest,
    RetractRequest,
    SignedRequest,
    StandingRequest,
    StatusRequest,
    WhyRequest,
)
from mesh.records import Json
from mesh.service import Offered, Verb, described

S = TypeVar("S", bound=msgspec.Struct)
T = TypeVar("T")

WRITE_LIMIT_S = 5.0  # callers wait 3 s; what comes later must not keep a slot for ever
ERASE_LIMIT_S = 25.0  # the bytes of many events, and an index made anew; what takes longer goes on behind
ANSWER_BYTES = 512 * 1024  # half of the payload that a NATS server takes by default

_encode = msgspec.json.Encoder().encode


class Memory:
    """Remembers, recalls, judges, retracts and forgets."""

    def __init__(
        self,
        store: FactStore,
        view: FactView,
        voices: Voices,
        histories: Histories,
        eraser: Eraser,
        sessions: SessionMemory,
        prober: Prober,
        *,
        write_limit_s: float = WRITE_LIMIT_S,
    ) -> None:
        self._store = store
        self._view = view
        self._voices = voices
        self._histories = histories
        self._eraser = eraser
        self._sessions = sessions
        self._prober = prober
        self._write_limit_s = write_limit_s

    def verbs(self) -> Mapping[str, tuple[type, Verb]]:
        """What the service answers."""
        return {
            "remember": (RememberRequest, self.remember),
            "recall": (RecallRequest, self.recall),
            "standing": (StandingRequest, self.standing),
            "facts": (FactsRequest, self.facts),
            "history": (HistoryRequest, self.history),
            "why": (WhyRequest, self.why),
            "retract": (RetractRequest, self.retract),
            "resolve": (SignedRequest, self.resolve),
            "revoke": (SignedRequest, self.revoke),
            "forget": (SignedRequest, self.forget),
            "relay": (RelayRequest, self.relay),
            "reindex": (ReindexRequest, self.reindex),
            "status": (StatusRequest, self.status),
            "probe": (ProbeRequest, self.probe),
        }

    async def remember(self, request: RememberRequest) -> RememberAnswer:
        """Record claims, all or none; what was said before makes no new fact."""
        for claim in request.claims:
            checks.check_claim(claim)
        checks.check_size("by", request.by, checks.SOURCE_BYTES)
        voice = self._voices.of(request.signed, "remember", request, by=request.by)
        rights.check_claims(voice, request.claims)
        if any(claim.scope.level is Level.SESSION for claim in request.claims):
            return await self._limited(self._sessions.remember(request.claims, voice), "the facts were")
        await self._check_grounds(request.claims)
        by_slot: dict[str, list[Claim]] = {}
        for claim in request.claims:
            by_slot.setdefault(claim.slot.id, []).append(claim)
        slots = [claims[0].slot for claims in by_slot.values()]
        admitted: list[Admitted] = []

        def change(states: Sequence[SlotState]) -> list[Entry]:
            at = now()
            admitted[:] = [admit(state, by_slot[state.slot.id], voice.name, at) for state in states]
            if any(new.facts for new in admitted):
                self._voices.check_unused(request.signed)
            return [
                Entry(state.slot, _asserted(new, voice, request.signed), state.seq)
                for state, new in zip(states, admitted, strict=True)
                if new.facts
            ]

        await self._limited(self._store.write(slots, change), "the facts were")
        ids = {slot.id: iter(new.ids) for slot, new in zip(slots, admitted, strict=True)}
        judged = [self._judged(next(ids[claim.slot.id])) for claim in request.claims]
        return RememberAnswer(facts=tuple(fitting(judged)), added=sum(len(new.facts) for new in admitted))

    async def recall(self, request: RecallRequest) -> RecallAnswer:
        """The facts that stand, for each question."""
        for question in request.questions:
            checks.check_question(question)
        seq = self._view.projection.seq
        found = [await self._recall(question) for question in request.questions]
        left = ANSWER_BYTES
        fitted = []
        for facts in found:
            part = fitting(facts, left)
            left -= sum(len(_encode(fact)) for fact in part)
            fitted.append(tuple(part))
        return RecallAnswer(facts=tuple(fitted), seq=seq)

    async def standing(self, request: StandingRequest) -> tuple[Judged, ...]:
        """What is made of these facts now, with all that was recorded before the question."""
        await self._view.projection.fresh()
        of_sessions = [fact_id for fact_id in request.ids if is_of_session(fact_id)]
        found = await self._sessions.standing(of_sessions) if of_sessions else []
        return tuple(fitting([*self._view.standing(request.ids), *found]))

    async def facts(self, request: FactsRequest) -> FactsPage:
        """A page of judged facts, with value and provenance."""
        checks.check_scope(request.scope)
        if request.scope.level is Level.SESSION:
            return await self._sessions.facts(request)
        page = self._view.page(request)
        facts = fitting(page.facts)
        if len(facts) == len(page.facts):
            return page
        last = facts[-1].fact
        return FactsPage(facts=tuple(facts), next=(last.subject, last.predicate, last.version))

    async def history(self, request: HistoryRequest) -> tuple[HistoryLine, ...]:
        """All that was recorded of a slot, oldest first; raises ``TerminalError`` when nothing was."""
        refuse_session(request.slot.scope, "history")
        lines = await self._histories.of(request.slot, request.limit)
        if not lines:
            slot = request.slot
            raise TerminalError(f"nothing is known of {slot.predicate!r} of {slot.subject!r} in {slot.scope.text}")
        return tuple(reversed(fitting(reversed(lines))))

    async def why(self, request: WhyRequest) -> Grounds:
        """What a fact rests on; raises ``TerminalError`` for an unknown one."""
        await self._known((request.id,))
        grounds = self._view.grounds(request.id)
        if grounds is None:
            raise TerminalError(f"no fact {request.id!r}: its id is in the answer of recall, facts or history")
        return grounds

    async def retract(self, request: RetractRequest) -> ChangeAnswer:
        """Retract facts; what is retracted already stays so."""
        checks.check_size("reason", request.reason, checks.REASON_BYTES)
        voice = self._voices.of(request.signed, "retract", request, by=request.by)
        if all(is_of_session(fact_id) for fact_id in request.ids):
            retracting = self._sessions.retract(request.ids, voice, request.reason)
            return await self._limited(retracting, "the retraction was")
        await self._known(request.ids)
        slots: dict[str, Slot] = {}
        ids: dict[str, list[str]] = {}
        for fact_id in request.ids:
            fact = self._judged(fact_id).fact
            rights.check_retraction(voice, [fact])
            slots[fact.slot.id] = fact.slot
            ids.setdefault(fact.slot.id, []).append(fact_id)

        def change(states: Sequence[SlotState]) -> list[Entry]:
            at, entries = now(), []
            for state in states:
                standing = {one.fact.id for one in state.held if one.retracted is None}
                if left := tuple(fact_id for fact_id in ids[state.slot.id] if fact_id in standing):
                    event = Retracted(
                        at=at, by=voice.name, signed=request.signed, slot=state.slot, ids=left, reason=request.reason
                    )
                    entries.append(Entry(state.slot, event, state.seq))
            if entries:
                self._voices.check_unused(request.signed)
            return entries

        seq = await self._limited(self._store.write(list(slots.values()), change), "the retraction was")
        return self._changed(seq, request.ids)

    async def resolve(self, request: SignedRequest) -> ChangeAnswer:
        """Have a steward's choice stand in a slot."""
        voice, said = self._voices.steward(request.signed, "resolve", ResolveRequest)
        slot = said.slot
        refuse_session(slot.scope, "choice of a person")

        def change(states: Sequence[SlotState]) -> list[Entry]:
            (state,) = states
            if state.version != said.seen:
                raise TerminalError(
                    f"{slot.predicate!r} of {slot.subject!r} stands at version {state.version}, not at the "
                    f"{said.seen} that you saw: look again (`workmesh memory contested`), then repeat"
                )
            living = [one.fact.id for one in state.held if one.retracted is None]
            if said.chosen and said.chosen not in living:
                raise TerminalError(f"fact {said.chosen!r} is none of this slot, or retracted: choose {living}")
            event = Resolved(
                at=now(),
                by=voice.name,
                signed=request.signed,
                slot=slot,
                chosen=said.chosen,
                over=tuple(fact_id for fact_id in living if fact_id != said.chosen),
                reason=said.reason,
            )
            return [Entry(slot, event, state.seq)]

        seq = await self._limited(self._store.write([slot], change), "the choice was")
        return self._changed(seq, [judged.fact.id for judged in self._view.slot(slot)])

    async def revoke(self, request: SignedRequest) -> ChangeAnswer:
        """Believe a source no more: all that it said, and what was derived from it, is retracted."""
        voice, said = self._voices.revoker(request.signed)
        checks.check_size("source", said.source, checks.SOURCE_BYTES)
        ids = self._view.table.of_source(said.source)
        ids += [fact_id for fact_id, _ in self._view.table.derived(ids)]
        event = Revoked(at=now(), by=voice.name, signed=request.signed, source=said.source, reason=said.reason)
        subject = subjects.fact("source", source_token(said.source), "-")
        seq = await self._limited(self._store.append(subject, event), "the revocation was")
        return self._changed(seq, ids)

    async def forget(self, request: SignedRequest) -> ChangeAnswer:
        """Forget a subject for good; answers once nothing of it is left in ``MEMORY`` and in this copy."""
        voice, said = self._voices.steward(request.signed, "forget", ForgetRequest)
        return await self._forget(voice, said, request.signed)

    async def relay(self, request: RelayRequest) -> ChangeAnswer:
        """Forget what a steward had forgotten at the hub."""
        voice, said = self._voices.relayed(request)
        return await self._forget(voice, said, request.signed)

    async def _forget(self, voice: Voice, said: ForgetRequest, signed: Json) -> ChangeAnswer:
        checks.check_name("subject", said.subject)
        checks.check_scope(said.scope)
        if said.scope.level is Level.SESSION:
            return await self._limited(self._sessions.forget(said), "the subject was")
        forgetting = self._eraser.forget(said, voice.name, signed)
        return await self._limited(forgetting, "the subject was", ERASE_LIMIT_S)

    async def reindex(self, request: ReindexRequest) -> MemoryStatus:
        """Begin to build the index anew; answers go on meanwhile."""
        self._view.retriever.rebuild()
        return await self.status(StatusRequest())

    async def status(self, request: StatusRequest) -> MemoryStatus:
        """How this copy is."""
        return self._view.status()

    async def probe(self, request: ProbeRequest) -> ProbeReport:
        """Ask questions with known answers, now."""
        return await self._prober.probe()

    async def _recall(self, question: Question) -> list[RecalledFact]:
        if question.scope.level is Level.ORGANISATION:
            return await self._view.recall(question)
        found = await self._sessions.recall(question)
        if question.token_budget:
            found = found[: within_budget((fact.text for fact in found), question.token_budget)]
        return found

    async def _check_grounds(self, claims: Sequence[Claim]) -> None:
        await self._known(ground for claim in claims for ground in claim.derived_from)
        for claim in claims:
            for ground in claim.derived_from:
                if self._view.table.slot_of(ground) is None:
                    raise TerminalError(f"{claim.predicate!r} of {claim.subject!r} rests on {ground!r}, unknown here")

    async def _known(self, ids: Iterable[str]) -> None:
        """Have the view catch up if it does not know one of these: another copy may just have written it."""
        if any(self._view.table.slot_of(fact_id) is None for fact_id in ids):
            await self._view.projection.fresh()

    def _judged(self, fact_id: str) -> Judged:
        judged = self._view.judged(fact_id)
        if judged is None:
            raise TerminalError(f"no fact {fact_id!r}: it was forgotten, or never was")
        return judged

    def _changed(self, seq: int, ids: Sequence[str]) -> ChangeAnswer:
        return ChangeAnswer(seq=seq, changed=len(ids), facts=tuple(fitting(self._view.standing(ids[:100]))))

    async def _limited(self, writing: Awaitable[T], what: str, limit_s: float = 0.0) -> T:
        limit_s = limit_s or self._write_limit_s
        try:
            async with asyncio.timeout(limit_s):
                await faultpoints.reach("memory.before_commit")
                found = await writing
                await faultpoints.reach("memory.before_answer")
        except TimeoutError as error:
            raise BusUnavailableError(
                f"{what} not confirmed within {limit_s:g} s: it may be written; asking again is safe"
            ) from error
        return found


def offered() -> Offered:
    """What the service answers, read from its methods: the class stands for what is opened when it runs."""
    return described(Memory.verbs(cast(Any, Memory)))


def _asserted(new: Admitted, voice: Voice, signed: Json) -> Asserted:
    return Asserted(at=new.facts[0].recorded_at, by=voice.name, signed=signed, facts=new.facts)


def fitting(items: Iterable[S], size: int = ANSWER_BYTES) -> list[S]:
    """The first items that fit into ``size`` bytes of an answer; at least one."""
    found: list[S] = []
    for item in items:
        size -= len(_encode(item))
        if found and size < 0:
            break
        found.append(item)
    return found
