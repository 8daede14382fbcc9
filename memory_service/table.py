"""Facts, and the acts on them, as tables: what the view holds of ``MEMORY``.

The rule: rows are made from events alone, so the same events give the same rows.
"""

import secrets
import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from memory_service.admitting import SlotState
from memory_service.rules import Choice, Held, Mark
from mesh.canonical import token
from mesh.facts import Fact, FactEvent, Slot

SCHEMA = """
PRAGMA secure_delete = ON;
CREATE TABLE IF NOT EXISTS fact (
    id TEXT PRIMARY KEY, slot TEXT NOT NULL, version INTEGER NOT NULL, seq INTEGER NOT NULL,
    scope TEXT NOT NULL, subject TEXT NOT NULL, predicate TEXT NOT NULL,
    scope_token TEXT NOT NULL, subject_token TEXT NOT NULL,
    source TEXT NOT NULL, authority INTEGER NOT NULL,
    recorded INTEGER NOT NULL, valid_from INTEGER NOT NULL, valid_to INTEGER,
    found INTEGER NOT NULL DEFAULT 0, marked INTEGER NOT NULL DEFAULT 0,
    data BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS fact_by_slot ON fact (slot, authority DESC, valid_from DESC, version DESC);
CREATE INDEX IF NOT EXISTS fact_by_source ON fact (source);
CREATE INDEX IF NOT EXISTS fact_by_token ON fact (scope_token, subject_token);
CREATE TABLE IF NOT EXISTS slot (
    id TEXT PRIMARY KEY, scope TEXT NOT NULL, subject TEXT NOT NULL, predicate TEXT NOT NULL,
    scope_token TEXT NOT NULL, subject_token TEXT NOT NULL,
    seq INTEGER NOT NULL, version INTEGER NOT NULL, contested INTEGER NOT NULL DEFAULT 0, data BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS slot_by_name ON slot (scope, subject, predicate);
CREATE INDEX IF NOT EXISTS slot_by_seq ON slot (scope, seq DESC);
CREATE INDEX IF NOT EXISTS slot_by_token ON slot (scope_token, subject_token);
CREATE INDEX IF NOT EXISTS slot_contested ON slot (scope, subject, predicate) WHERE contested > 0;
CREATE TABLE IF NOT EXISTS mark (
    fact TEXT NOT NULL, kind TEXT NOT NULL, seq INTEGER NOT NULL, at INTEGER NOT NULL, by TEXT NOT NULL,
    reason TEXT NOT NULL, authority INTEGER NOT NULL DEFAULT 0, sources TEXT NOT NULL DEFAULT '[]',
    PRIMARY KEY (fact, kind, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rests (fact TEXT NOT NULL, ground TEXT NOT NULL, PRIMARY KEY (ground, fact)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS revoked (
    source TEXT PRIMARY KEY, seq INTEGER NOT NULL, at INTEGER NOT NULL, by TEXT NOT NULL, reason TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS erased (
    scope_token TEXT NOT NULL, subject_token TEXT NOT NULL, seq INTEGER NOT NULL, swept INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (scope_token, subject_token)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS used_word (nonce TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
"""

LOAD_MAX = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO = timedelta(microseconds=1)

_decode = msgspec.json.Decoder(Fact).decode
_decode_slot = msgspec.json.Decoder(Slot).decode
_encode = msgspec.json.Encoder().encode
_decode_sources = msgspec.json.Decoder(frozenset[str]).decode


class Span(NamedTuple):
    """The half-open range of subjects that a question names."""

    low: str
    high: str


class FactTable:
    """Reads and writes rows on a connection; whoever calls has the transaction."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self.database = database

    # What stands

    def slot(self, slot: Slot) -> SlotState:
        """A slot, with all its facts by version."""
        row = self.database.execute("SELECT seq, version FROM slot WHERE id = ?", (slot.id,)).fetchone()
        seq, version = row or (0, 0)
        return SlotState(slot, self.held(slot.id), seq, version)

    def held(self, slot_id: str, at: datetime | None = None, known_at: datetime | None = None) -> list[Held]:
        """The facts of a slot by version: those that may matter at a moment of validity, and as known at another."""
        where = "slot = ?"
        values: list[str | int] = [slot_id, *([] if at is None else [micros(at)] * 2)]
        if at is not None:
            where += " AND valid_from <= ? AND (valid_to IS NULL OR valid_to > ?)"
        known = None if known_at is None else micros(known_at)
        if known is not None:
            where, values = f"{where} AND recorded <= ?", [*values, known]
        rows = self.database.execute(
            f"SELECT marked, seq, data FROM fact WHERE {where} "
            f"ORDER BY authority DESC, valid_from DESC, version DESC LIMIT {LOAD_MAX}",
            values,
        ).fetchall()
        found = [self._with_marks(_decode(data), seq, marked, known) for marked, seq, data in rows]
        return sorted(found, key=lambda one: one.fact.version)

    def fact(self, fact_id: str) -> Held | None:
        """One fact by its id."""
        row = self.database.execute("SELECT marked, seq, data FROM fact WHERE id = ?", (fact_id,)).fetchone()
        return self._with_marks(_decode(row[2]), row[1], row[0], None) if row else None

    def slot_of(self, fact_id: str) -> str | None:
        """The slot's id of a fact."""
        row = self.database.execute("SELECT slot FROM fact WHERE id = ?", (fact_id,)).fetchone()
        return row[0] if row else None

    def _with_marks(self, fact: Fact, seq: int, marked: int, known: int | None) -> Held:
        if not marked:
            return Held(fact, seq)
        rows = self.database.execute(
            "SELECT kind, seq, at, by, reason, authority, sources FROM mark WHERE fact = ? ORDER BY seq", (fact.id,)
        ).fetchall()
        held = Held(fact, seq)
        for kind, mark_seq, at, by, reason, authority, sources in rows:
            if known is not None and at > known:
                continue
            held = _marked(held, kind, Mark(moment(at), mark_seq, by, reason), authority, sources)
        return held

    def some_slots(self, count: int) -> list[Slot]:
        """Slots of which a fact is found among what stands, from a random place on."""
        start = secrets.token_hex(2)
        sql = (
            "SELECT data FROM slot WHERE id >= ? AND EXISTS "
            "(SELECT 1 FROM fact WHERE fact.slot = slot.id AND found = 2) ORDER BY id LIMIT ?"
        )
        found = self.database.execute(sql, (start, count)).fetchall()
        if len(found) < count:
            found += self.database.execute(sql, ("", count - len(found))).fetchall()
        return list(dict.fromkeys(_decode_slot(row[0]) for row in found))

    def is_revoked(self, source: str) -> Mark | None:
        """The act that revoked a source, if any."""
        row = self.database.execute("SELECT at, seq, by, reason FROM revoked WHERE source = ?", (source,)).fetchone()
        return Mark(moment(row[0]), row[1], row[2], row[3]) if row else None

    def derived(self, ids: Iterable[str]) -> list[tuple[str, str]]:
        """All that rests on these facts, at any distance: (fact, the ground nearest to it)."""
        found: dict[str, str] = {}
        todo = list(ids)
        while todo:
            ground = todo.pop()
            for (fact,) in self.database.execute("SELECT fact FROM rests WHERE ground = ?", (ground,)):
                if fact not in found:
                    found[fact] = ground
                    todo.append(fact)
        return list(found.items())

    # Writing

    def put(self, fact: Fact, seq: int) -> None:
        """Add a fact, and count it in its slot."""
        slot = fact.slot
        scope, subject, _ = slot.tokens
        names = (fact.scope.text, fact.subject, fact.predicate, scope, subject)
        source = (fact.source.uri, fact.source.authority)
        valid_to = None if fact.valid_to is None else micros(fact.valid_to)
        times = (micros(fact.recorded_at), micros(fact.valid_from), valid_to)
        self.database.execute(
            "INSERT OR REPLACE INTO fact VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?)",
            (fact.id, slot.id, fact.version, seq, *names, *source, *times, _encode(fact)),
        )
        if fact.derived_from:
            self.database.executemany(
                "INSERT OR IGNORE INTO rests VALUES (?, ?)", [(fact.id, ground) for ground in fact.derived_from]
            )
        self.touch(slot, seq, fact.version)

    def touch(self, slot: Slot, seq: int, version: int = 0) -> None:
        """Note the last event of a slot."""
        scope, subject, _ = slot.tokens
        self.database.execute(
            "INSERT INTO slot (id, scope, subject, predicate, scope_token, subject_token, seq, version, data) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
            "seq = max(seq, excluded.seq), version = max(version, excluded.version)",
            (slot.id, slot.scope.text, slot.subject, slot.predicate, scope, subject, seq, version, _encode(slot)),
        )

    def mark(
        self, fact_id: str, kind: str, event: FactEvent, seq: int, reason: str, *, by: str = "", choice: str = "",
        authority: int = 0,
    ) -> None:  # fmt: skip
        """Note an act on a fact: ``retracted``, ``undermined``, ``settled`` or ``chosen``."""
        self.database.execute(
            "INSERT OR REPLACE INTO mark VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (fact_id, kind, seq, micros(event.at), by or event.by, reason, authority, choice or "[]"),
        )
        self.database.execute("UPDATE fact SET marked = 1 WHERE id = ?", (fact_id,))

    def of_source(self, source: str) -> list[str]:
        """The ids of all facts from a source."""
        return [row[0] for row in self.database.execute("SELECT id FROM fact WHERE source = ?", (source,))]

    def erase(self, scope_token: str, subject_token: str, seq: int) -> list[str]:
        """Take a subject's facts that were recorded before ``seq`` out of every table; their ids."""
        where = "scope_token = ? AND subject_token = ? AND seq < ?"
        values = (scope_token, subject_token, seq)
        ids = [row[0] for row in self.database.execute(f"SELECT id FROM fact WHERE {where}", values)]
        self.database.execute(f"DELETE FROM fact WHERE {where}", values)
        self.database.execute(f"DELETE FROM slot WHERE {where}", values)
        for fact_id in ids:
            self.database.execute("DELETE FROM mark WHERE fact = ?", (fact_id,))
            self.database.execute("DELETE FROM rests WHERE fact = ?", (fact_id,))
        self.database.execute("INSERT OR REPLACE INTO erased VALUES (?, ?, ?, 0)", (scope_token, subject_token, seq))
        return ids

    def unswept(self) -> list[tuple[str, str, int]]:
        """Erasures that this copy has not seen finished in the stream: scope, subject (tokens), sequence."""
        return self.database.execute("SELECT scope_token, subject_token, seq FROM erased WHERE swept = 0").fetchall()

    def swept(self, scope_token: str, subject_token: str, seq: int) -> None:
        """Note that nothing older than this erasure is left in the stream."""
        self.database.execute(
            "UPDATE erased SET swept = 1 WHERE scope_token = ? AND subject_token = ? AND seq <= ?",
            (scope_token, subject_token, seq),
        )


def _marked(held: Held, kind: str, mark: Mark, authority: int, sources: str) -> Held:
    """The fact with one act more; of choices for and against it the later counts."""
    match kind:
        case "retracted":
            return replace(held, retracted=mark)
        case "undermined":
            return replace(held, undermined=mark, chosen=None)
        case "settled":
            return replace(held, settled=mark, chosen=None)
        case _:
            choice = Choice(mark, authority, _decode_sources(sources))
            return replace(held, undermined=None, settled=None, chosen=choice)


def span(subject: str) -> Span:
    """The subjects that are meant: one, all under a prefix ``a/``, or all ("")."""
    if not subject:
        return Span("", "\U0010ffff")
    if subject.endswith("/"):
        return Span(subject, subject[:-1] + chr(ord("/") + 1))
    return Span(subject, subject + "\0")


def micros(at: datetime) -> int:
    """Microseconds since 1970."""
    return (at - _EPOCH) // _MICRO


def moment(us: int) -> datetime:
    """The time of these microseconds since 1970."""
    return _EPOCH + us * _MICRO


def source_token(source: str) -> str:
    """A source as one token of a bus subject."""
    return token("source", source, bits=100)
