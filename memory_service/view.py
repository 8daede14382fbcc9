"""The current facts: a projection of ``MEMORY`` in SQLite that can be thrown away and rebuilt.

The rule: a forgotten fact is in neither table nor index.
"""

import sqlite3
from pathlib import Path

import msgspec
import structlog

from memory_service import index
from memory_service.index import Bm25Index, Index, span
from mesh import subjects
from mesh.bus import Bus, StoredMessage
from mesh.checkpoint import open_database
from mesh.facts import FactEvent, FactStatus, RecalledFact
from mesh.projection import Projection

log = structlog.get_logger(__name__)

FACTS = "fact.>"
_SCHEMA = """
PRAGMA secure_delete = ON;
CREATE TABLE IF NOT EXISTS fact (
    id TEXT PRIMARY KEY, scope TEXT NOT NULL, key TEXT NOT NULL, seq INTEGER NOT NULL, data BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS fact_by_name ON fact (scope, key);
"""

_decode = msgspec.json.Decoder(FactEvent).decode


class FactView:
    """Follows ``MEMORY`` and answers from the facts that are in force."""

    def __init__(self, bus: Bus, path: Path) -> None:
        self._database = open_database(path, _SCHEMA + index.SCHEMA)
        self._index: Index = Bm25Index(self._database)
        self.projection = Projection(bus, self._database, subjects.MEMORY, FACTS, self._apply)

    def exact(self, scope: str, key: str, limit: int) -> list[RecalledFact]:
        """The facts of this key, newest first; one, unless ``scope`` is a prefix."""
        rows = self._database.execute(
            "SELECT data FROM fact WHERE scope >= ? AND scope < ? AND key = ? ORDER BY seq DESC LIMIT ?",
            (*span(scope), key, limit),
        )
        return [_recalled(_decode(data)) for (data,) in rows]

    def newest(self, scope: str, limit: int) -> list[RecalledFact]:
        """The facts written last."""
        rows = self._database.execute(
            "SELECT data FROM fact WHERE scope >= ? AND scope < ? ORDER BY seq DESC LIMIT ?", (*span(scope), limit)
        )
        return [_recalled(_decode(data)) for (data,) in rows]

    def search(self, scope: str, query: str, limit: int) -> list[RecalledFact]:
        """The facts that match the words best."""
        found = []
        for hit in self._index.search(scope, query, limit):
            row = self._database.execute("SELECT data FROM fact WHERE id = ?", (hit.fact_id,)).fetchone()
            if row is not None:
                found.append(_recalled(_decode(row[0]), hit.score))
        return found

    def page(self, scope: str, after: tuple[str, str], limit: int) -> list[FactEvent]:
        """Facts by scope and key, behind ``after``."""
        rows = self._database.execute(
            "SELECT data FROM fact WHERE scope >= ? AND scope < ? AND (scope, key) > (?, ?) "
            "ORDER BY scope, key LIMIT ?",
            (*span(scope), *after, limit),
        )
        return [_decode(data) for (data,) in rows]

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _apply(self, database: sqlite3.Connection, message: StoredMessage) -> None:
        try:
            fact = _decode(message.data)
        except msgspec.DecodeError as error:
            log.error("fact_unreadable", subject=message.subject, seq=message.seq, error=str(error))
            return
        if fact.status is FactStatus.FORGOTTEN:
            database.execute("DELETE FROM fact WHERE id = ?", (fact.id,))
            self._index.drop(fact.id)
            return
        database.execute(
            "INSERT OR REPLACE INTO fact VALUES (?, ?, ?, ?, ?)",
            (fact.id, fact.scope, fact.key, message.seq, message.data),
        )
        self._index.put(fact)


def _recalled(fact: FactEvent, score: float = 0.0) -> RecalledFact:
    return RecalledFact(
        id=fact.id,
        scope=fact.scope,
        key=fact.key,
        text=fact.text,
        version=fact.version,
        source=fact.provenance.source,
        score=score,
    )
