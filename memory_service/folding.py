"""Events of ``MEMORY`` taken into the tables and the index, one after the other.

The rule: nothing here asks for the time of day or for anything but the event and the tables, so that a rebuild gives
the same; only what the index holds as findable is judged at the event's own time.
"""

import base64
from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

import msgspec

from memory_service.rules import judge, judge_at_its_time
from memory_service.table import FactTable, micros
from mesh.facts import AnyFactEvent, Asserted, Erased, Fact, FactStatus, Resolved, Retracted, Revoked, Word

_encode = msgspec.json.Encoder(order="sorted").encode

PAST = 1  # in the index, among what does not stand
FOUND = 2  # in the index, among what stands or will


class FactIndex(Protocol):
    """Where facts are found by words."""

    def put(self, fact: Fact, seq: int, *, stands: bool) -> None:
        """Have this fact found, among what stands or among the past, and in no other place."""
        ...

    def drop(self, fact_id: str) -> None:
        """Have it not found any more."""
        ...


class Folding:
    """Applies events to a table and an index on the same connection, within the caller's transaction."""

    def __init__(self, table: FactTable, index: FactIndex) -> None:
        self._table = table
        self._index = index

    def apply(self, event: AnyFactEvent, seq: int) -> set[str]:
        """Take one event in; the ids of the slots that it touched."""
        self._use_word(event, seq)
        match event:
            case Asserted():
                touched = self._asserted(event, seq)
            case Retracted():
                self._table.touch(event.slot, seq)
                touched = self._retract(event.ids, event, seq, event.reason) | {event.slot.id}
            case Resolved():
                touched = self._resolved(event, seq)
            case Revoked():
                touched = self._revoked(event, seq)
            case Erased():
                return self._erased(event, seq)
        for slot_id in touched:
            self._reindex(slot_id, event.at)
        return touched

    def _use_word(self, event: AnyFactEvent, seq: int) -> None:
        """Note the nonce of the word that the event rests on: it counts once."""
        if (nonce := nonce_of(event.signed)) != "":
            self._table.database.execute("INSERT OR IGNORE INTO used_word VALUES (?, ?)", (nonce, seq))

    def _asserted(self, event: Asserted, seq: int) -> set[str]:
        for fact in event.facts:
            self._table.put(fact, seq)
            if (mark := self._table.is_revoked(fact.source.uri)) is not None:
                self._table.mark(fact.id, "retracted", event, seq, _revoked(mark.by, mark.reason), by=mark.by)
            elif (ground := self._fallen(fact.derived_from)) is not None:
                self._table.mark(fact.id, "undermined", event, seq, "", by=ground)
        return {fact.slot.id for fact in event.facts}

    def _fallen(self, grounds: Iterable[str]) -> str | None:
        """The first ground that does not hold any more, or never was."""
        for ground in grounds:
            held = self._table.fact(ground)
            if held is None or held.retracted is not None or held.undermined is not None:
                return ground
        return None

    def _retract(self, ids: Iterable[str], event: AnyFactEvent, seq: int, reason: str) -> set[str]:
        known = [fact_id for fact_id in ids if self._table.slot_of(fact_id) is not None]
        for fact_id in known:
            self._table.mark(fact_id, "retracted", event, seq, reason)
        derived = self._table.derived(known)
        for fact_id, ground in derived:
            self._table.mark(fact_id, "undermined", event, seq, reason, by=ground)
        return self._slots([*known, *(fact_id for fact_id, _ in derived)])

    def _resolved(self, event: Resolved, seq: int) -> set[str]:
        over = [held for fact_id in event.over if (held := self._table.fact(fact_id)) is not None]
        for held in over:
            self._table.mark(held.fact.id, "settled", event, seq, event.reason)
        if event.chosen:
            authority = max((held.fact.source.authority for held in over), default=0)
            sources = _encode(sorted({held.fact.source.uri for held in over})).decode()
            self._table.mark(event.chosen, "chosen", event, seq, event.reason, choice=sources, authority=authority)
        self._table.touch(event.slot, seq)
        return {event.slot.id}

    def _revoked(self, event: Revoked, seq: int) -> set[str]:
        self._table.database.execute(
            "INSERT OR IGNORE INTO revoked VALUES (?, ?, ?, ?, ?)",
            (event.source, seq, micros(event.at), event.by, event.reason),
        )
        reason = _revoked(event.by, event.reason)
        roots = self._table.of_source(event.source)
        everything = [*roots, *(fact_id for fact_id, _ in self._table.derived(roots))]
        for fact_id in everything:
            self._table.mark(fact_id, "retracted", event, seq, reason)
        return self._slots(everything)

    def _erased(self, event: Erased, seq: int) -> set[str]:
        ids = self._table.erase(event.scope_token, event.subject_token, seq)
        for fact_id in ids:
            self._index.drop(fact_id)
        derived = [(fact, ground) for fact, ground in self._table.derived(ids) if self._table.slot_of(fact)]
        for fact_id, ground in derived:
            self._table.mark(fact_id, "undermined", event, seq, "its ground was forgotten", by=ground)
        for ground in ids:
            self._table.database.execute("DELETE FROM rests WHERE ground = ?", (ground,))
        touched = self._slots(fact_id for fact_id, _ in derived)
        for slot_id in touched:
            self._reindex(slot_id, event.at)
        return touched

    def _slots(self, ids: Iterable[str]) -> set[str]:
        return {slot for fact_id in ids if (slot := self._table.slot_of(fact_id)) is not None}

    def _reindex(self, slot_id: str, at: datetime) -> None:
        """Have the index hold what stands now or will; count what is contested."""
        database = self._table.database
        held = self._table.held(slot_id)
        was = dict(database.execute("SELECT id, found FROM fact WHERE slot = ?", (slot_id,)).fetchall())
        contested = 0
        alone = len(held) == 1 and not held[0].is_acted_on
        now = {} if alone else judge(held, at)
        for one in held:
            fact = one.fact
            if alone:
                status = FactStatus.CURRENT
            else:
                status = (now.get(fact.id) or judge_at_its_time(held, one, at)).status
            contested += status is FactStatus.CONTESTED
            stands = status is FactStatus.CURRENT
            place = FOUND if stands else 0 if status is FactStatus.RETRACTED else PAST
            if was.get(fact.id) == place:
                continue
            if place:
                self._index.put(fact, one.seq, stands=stands)
            else:
                self._index.drop(fact.id)
            database.execute("UPDATE fact SET found = ? WHERE id = ?", (place, fact.id))
        database.execute("UPDATE slot SET contested = ? WHERE id = ?", (contested, slot_id))


def nonce_of(signed: msgspec.Raw) -> str:
    """The nonce of the word in an envelope; "" where there is none. The word was checked when it was said."""
    if len(bytes(signed)) <= len(b"null"):
        return ""
    payload = msgspec.json.decode(signed, type=_Sealed).payload
    return msgspec.json.decode(base64.b64decode(payload), type=Word).nonce


class _Sealed(msgspec.Struct):
    payload: str


def _revoked(by: str, reason: str) -> str:
    return f"{by} revoked its source" + (f": {reason}" if reason else "")
