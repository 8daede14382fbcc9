"""The verbs of memory for facts of a session, which are kept in the bucket and end with it.

The rule: the same claims, rules and judgements as for the organisation; what a session does not keep (a history, a
person's choice) is refused by name.
"""

from collections.abc import Sequence

from memory_service import rights
from memory_service.admitting import SlotState, admit
from memory_service.recalling import recalled
from memory_service.rights import Voice
from memory_service.sessions import Kept, Sessions, with_facts, without
from mesh.clock import now
from mesh.errors import TerminalError
from mesh.facts import Claim, Fact, Judged, Level, RecalledFact, Scope
from mesh.memory import ChangeAnswer, FactsPage, FactsRequest, ForgetRequest, Question, RememberAnswer


class SessionMemory:
    """Remembers, recalls, retracts and forgets in sessions."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def remember(self, claims: Sequence[Claim], voice: Voice) -> RememberAnswer:
        """Keep claims, slot by slot; what was said before makes no new fact."""
        by_slot: dict[str, list[Claim]] = {}
        for claim in claims:
            if claim.scope.level is not Level.SESSION:
                raise TerminalError("a request is about sessions or about the organisation: make it two")
            by_slot.setdefault(claim.slot.id, []).append(claim)
        ids: dict[str, tuple[str, ...]] = {}
        added = 0
        for of_slot in by_slot.values():
            new: list[Fact] = []

            def change(state: SlotState, of_slot: list[Claim] = of_slot, new: list[Fact] = new) -> Kept | None:
                admitted = admit(state, of_slot, voice.name, now())
                ids[state.slot.id] = admitted.ids
                new[:] = admitted.facts
                return with_facts(state, admitted.facts) if admitted.facts else None

            await self._sessions.write(of_slot[0].slot, change)
            added += len(new)
        nexts = {slot_id: iter(found) for slot_id, found in ids.items()}
        judged = await self._sessions.standing(next(nexts[claim.slot.id]) for claim in claims)
        return RememberAnswer(facts=tuple(judged), added=added)

    async def recall(self, question: Question) -> list[RecalledFact]:
        """The facts of a session that stand."""
        found = await self._sessions.recall(question)
        return [recalled(one.fact, score) for one, score in found[: question.limit]]

    async def facts(self, request: FactsRequest) -> FactsPage:
        """The judged facts of a session, which are few: one page."""
        found = await self._sessions.judged(request.scope, request.subject)
        wanted = [one for one in found if request.status in (None, one.status)]
        return FactsPage(facts=tuple(sorted(wanted, key=lambda one: (one.fact.subject, one.fact.predicate))))

    async def standing(self, ids: Sequence[str]) -> list[Judged]:
        """What is made of these facts now."""
        return await self._sessions.standing(ids)

    async def retract(self, ids: Sequence[str], voice: Voice, reason: str) -> ChangeAnswer:
        """Retract facts of sessions."""
        known = await self._sessions.standing(ids)
        for judged in known:
            rights.check_retraction(voice, [judged.fact])

            def change(state: SlotState, fact_id: str = judged.fact.id) -> Kept | None:
                living = {one.fact.id for one in state.held if one.retracted is None}
                return without(state, [fact_id], voice.name, reason) if fact_id in living else None

            await self._sessions.write(judged.fact.slot, change)
        after = await self._sessions.standing([judged.fact.id for judged in known])
        return ChangeAnswer(seq=0, changed=len(known), facts=tuple(after))

    async def forget(self, said: ForgetRequest) -> ChangeAnswer:
        """Forget a subject of a session at once."""
        return ChangeAnswer(seq=0, changed=await self._sessions.forget(said.scope, said.subject))


def is_of_session(fact_id: str) -> bool:
    """Whether this is the id of a session's fact."""
    return "~" in fact_id


def refuse_session(scope: Scope, what: str) -> None:
    """Raises ``TerminalError`` for a session's scope."""
    if scope.level is Level.SESSION:
        raise TerminalError(f"a session keeps no {what}: ask for its facts, or remember for the organisation")
