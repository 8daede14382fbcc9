"""Session memory: facts that end with their session, in the KV bucket ``SESSION``, under the same rules.

The rule: the value of a key is all of one slot, written by compare-and-set; the bucket's age ends it. There is no view:
what is asked is read from the bucket.
"""

import asyncio
import random
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing

import msgspec

from memory_service.admitting import SlotState
from memory_service.recalling import judged
from memory_service.retrieval import lexical
from memory_service.retrieval.documents import Document, Where
from memory_service.rules import Held, Mark, once, standing
from mesh import subjects
from mesh.bus import Bus, StoredMessage
from mesh.clock import now
from mesh.errors import ConflictError, RetryableError, TerminalError
from mesh.facts import Fact, Judged, Scope, Slot, subject_token
from mesh.memory import Question
from mesh.permissions import kv_stream

STREAM = kv_stream(subjects.SESSION_BUCKET)
_PREFIX = f"$KV.{subjects.SESSION_BUCKET}"
_ATTEMPTS = 32
_BACKOFF_S = 0.002
_CANDIDATES = 400


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """The value of a key: the facts of a slot, and which of them were retracted, when, by whom and why."""

    slot: Slot
    facts: tuple[Fact, ...] = ()
    retracted: dict[str, tuple[float, str, str]] = {}


Change = Callable[[SlotState], Kept | None]

_decode = msgspec.json.Decoder(Kept).decode
_encode = msgspec.json.Encoder().encode


class Sessions:
    """Reads and writes slots of sessions."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def write(self, slot: Slot, change: Change) -> None:
        """Put what ``change`` makes of a slot in its place; ``None`` leaves it. Asked anew after a lost race."""
        for attempt in range(_ATTEMPTS):
            message = await self._bus.last(STREAM, _key(slot))
            kept, seq = _kept(message, slot), message.seq if message else 0
            after = change(_state(kept, seq))
            if after is None or await self._put(slot, after, seq):
                return
            await asyncio.sleep(random.uniform(0, _BACKOFF_S * (attempt + 1)))
        raise RetryableError(f"session slot {slot.id} is being written by others: ask again")

    async def recall(self, question: Question) -> list[tuple[Held, float]]:
        """The facts that stand, with their scores: the best for the words, or else the newest."""
        at = question.valid_at or now()
        found = []
        for state in await self._states(question.scope, question.subject):
            if question.predicate in ("", state.slot.predicate):
                known = [one for one in state.held if _is_known(one, question)]
                found += [one for one in once(standing(known, at)) if _fits(one, question)]
        if not question.query.strip():
            return [(one, 0.0) for one in sorted(found, key=lambda one: one.fact.recorded_at, reverse=True)]
        scores = _scored(found, question)
        ranked = sorted(found, key=lambda one: -scores.get(one.fact.id, 0.0))
        return [(one, scores[one.fact.id]) for one in ranked if one.fact.id in scores]

    async def judged(self, scope: Scope, subject: str) -> list[Judged]:
        """What is made of all facts of a session's subject now; "" is all subjects."""
        at = now()
        return [judged(state.held, one, at) for state in await self._states(scope, subject) for one in state.held]

    async def standing(self, ids: Iterable[str]) -> list[Judged]:
        """What is made of these facts now; unknown and ended ones are left out."""
        at, found = now(), []
        for fact_id in ids:
            message = await self._bus.last(STREAM, f"{_PREFIX}.{fact_id.rpartition('-')[0].replace('~', '.')}")
            if message is None or not message.data:
                continue
            held = _state(_decode(message.data), message.seq).held
            if (one := next((one for one in held if one.fact.id == fact_id), None)) is not None:
                found.append(judged(held, one, at))
        return found

    async def forget(self, scope: Scope, subject: str) -> int:
        """Take a subject's slots out of the bucket, history and all; how many there were."""
        found = await self._messages(scope, subject)
        for message in found:
            # A purge marker rolls up all that the key held (NATS ADR-8).
            headers = {"KV-Operation": "PURGE", "Nats-Rollup": "sub"}
            await self._bus.store(message.subject, b"", headers=headers)
        return len(found)

    async def _put(self, slot: Slot, kept: Kept, seq: int) -> bool:
        try:
            await self._bus.store(_key(slot), _encode(kept), seq)
        except ConflictError:
            return False
        return True

    async def _states(self, scope: Scope, subject: str) -> list[SlotState]:
        found = []
        for message in await self._messages(scope, subject):
            kept = _decode(message.data)
            is_under = kept.slot.subject.startswith(subject) if subject.endswith("/") else True
            if is_under:
                found.append(_state(kept, message.seq))
        return found

    async def _messages(self, scope: Scope, subject: str) -> list[StoredMessage]:
        one = subject_token(scope, subject) if subject and not subject.endswith("/") else "*"
        found = await self._bus.last_of_each(STREAM, [f"{_PREFIX}.{scope.token}.{one}.*"])
        return [message for message in found if message.data]


def with_facts(state: SlotState, new: Sequence[Fact]) -> Kept:
    """The value of a slot with facts more."""
    return Kept(slot=state.slot, facts=(*(one.fact for one in state.held), *new), retracted=_retracted(state.held))


def without(state: SlotState, ids: Sequence[str], by: str, reason: str) -> Kept:
    """The value of a slot with these facts retracted."""
    retracted = _retracted(state.held) | {fact_id: (now().timestamp(), by, reason) for fact_id in ids}
    return Kept(slot=state.slot, facts=tuple(one.fact for one in state.held), retracted=retracted)


def _retracted(held: Sequence[Held]) -> dict[str, tuple[float, str, str]]:
    marks = ((one.fact.id, one.retracted) for one in held)
    return {fact_id: (mark.at.timestamp(), mark.by, mark.reason) for fact_id, mark in marks if mark is not None}


def _state(kept: Kept, seq: int) -> SlotState:
    held = tuple(Held(fact, fact.version, _mark(kept, fact)) for fact in kept.facts)
    return SlotState(kept.slot, held, seq, len(held))


def _mark(kept: Kept, fact: Fact) -> Mark | None:
    if fact.id not in kept.retracted:
        return None
    at, by, reason = kept.retracted[fact.id]
    return Mark(fact.recorded_at.fromtimestamp(at, fact.recorded_at.tzinfo), fact.version, by, reason)


def _kept(message: StoredMessage | None, slot: Slot) -> Kept:
    if message is None or not message.data:
        return Kept(slot=slot)
    message.require_published()
    kept = _decode(message.data)
    if kept.slot != slot:
        raise TerminalError(f"{message.subject} holds another slot than {slot.id}")
    return kept


def _key(slot: Slot) -> str:
    return f"{_PREFIX}.{'.'.join(slot.tokens)}"


def _is_known(one: Held, question: Question) -> bool:
    return question.known_at is None or one.fact.recorded_at <= question.known_at


def _fits(one: Held, question: Question) -> bool:
    return one.fact.source.authority >= question.min_authority


def _scored(found: Sequence[Held], question: Question) -> dict[str, float]:
    """BM25 of a few facts for the words, the best 1."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        database.executescript(lexical.SCHEMA)
        words = lexical.Lexical(database)
        for one in found:
            words.put(Document(one.fact.id, "session", one.fact.subject, one.fact.predicate, one.fact.text))
        hits = lexical.search(database, question.query, Where("session"), _CANDIDATES)
        rows = dict(database.execute("SELECT row, id FROM document").fetchall())
    most = max(hits.values(), default=1.0) or 1.0
    return {rows[row]: score / most for row, score in hits.items()}
