"""What SQLite knows of the vectors: the vectors themselves, how far the index has them, and what it must forget.

The rule: the vector index can be made anew from here without the model, in seconds. A vector stands with the stamp of
its model, and none is read under another.
"""

import sqlite3
import struct
import uuid
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from memory_service.retrieval.documents import Document, Where
from memory_service.retrieval.vectors import Entry

# Vectors as 16 bit floats, as the index has them too.
SCHEMA = """
CREATE TABLE IF NOT EXISTS vector (row INTEGER PRIMARY KEY, model TEXT NOT NULL, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS vector_dropped (row INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS vector_state (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


class Waiting(NamedTuple):
    """A document that has no vector yet."""

    row: int
    document: Document


class Ledger:
    """Reads and writes the tables above; every method is one transaction, or part of the caller's."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    @property
    def model(self) -> str:
        """The stamp of the model that ``embedded`` counts for."""
        return self._get("model")

    @property
    def index_stamp(self) -> str:
        """The stamp of the generation that ``upserted`` counts for."""
        return self._get("index")

    @property
    def embedded(self) -> int:
        """All rows up to this one have a vector, or are gone."""
        return int(self._get("embedded") or 0)

    @property
    def upserted(self) -> int:
        """The index has the vectors of all rows up to this one."""
        return int(self._get("upserted") or 0)

    def use_model(self, stamp: str) -> None:
        """Begin anew when the vectors are another model's."""
        if self.model != stamp:
            self._set(model=stamp, embedded="0")

    def new_generation(self) -> str:
        """A stamp that no index has: of the model, and of this moment."""
        return f"{self.model} {uuid.uuid4().hex}"

    def switched(self, stamp: str, upserted: int) -> None:
        """Note that the index searches this generation now."""
        self._set(index=stamp, upserted=str(upserted))

    def upserted_to(self, row: int) -> None:
        """Note that the index has, on disk, all up to this row."""
        self._set(upserted=str(row))

    def detach(self) -> None:
        """Note that an index, if there is one, is no longer told of changes."""
        if self.index_stamp:
            self._set(index="", upserted="0")
        self._database.execute("DELETE FROM vector_dropped")

    def waiting(self, limit: int) -> list[Waiting]:
        """The next documents without a vector, oldest first."""
        rows = self._database.execute(
            "SELECT row, id, scope, subject, predicate, text, seq FROM document WHERE row > ? ORDER BY row LIMIT ?",
            (self.embedded, limit),
        )
        return [Waiting(row, Document(*rest)) for row, *rest in rows]

    def keep(self, vectors: Iterable[tuple[int, Sequence[float]]], upto: int) -> None:
        """Keep these vectors, but not of documents that were dropped meanwhile."""
        model = self.model
        values = [(row, model, packed(vector), row) for row, vector in vectors]
        self._database.execute("BEGIN IMMEDIATE")
        try:
            self._database.executemany(
                "INSERT OR REPLACE INTO vector SELECT ?, ?, ? WHERE EXISTS (SELECT 1 FROM document WHERE row = ?)",
                values,
            )
            self._set(embedded=str(upto))
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    def drop(self, row: int, *, tell: bool) -> None:
        """Forget a vector; with ``tell``, remember to tell the index."""
        self._database.execute("DELETE FROM vector WHERE row = ?", (row,))
        if tell:
            self._database.execute("INSERT OR IGNORE INTO vector_dropped VALUES (?)", (row,))

    def entries(self, after: int, limit: int) -> list[Entry]:
        """The next vectors of this model for the index, by row."""
        rows = self._database.execute(
            "SELECT vector.row, data, scope, subject, predicate FROM vector JOIN document USING (row) "
            "WHERE vector.row > ? AND vector.row <= ? AND model = ? ORDER BY vector.row LIMIT ?",
            (after, self.embedded, self.model, limit),
        )
        return [Entry(row, unpacked(data), Where(*where)) for row, data, *where in rows]

    def sample(self, limit: int) -> list[Entry]:
        """Some vectors that the index has."""
        rows = self._database.execute(
            "SELECT vector.row, data, scope, subject, predicate FROM vector JOIN document USING (row) "
            "WHERE vector.row <= ? AND model = ? ORDER BY random() LIMIT ?",
            (self.upserted, self.model, limit),
        )
        return [Entry(row, unpacked(data), Where(*where)) for row, data, *where in rows]

    def cosines(self, vector: Sequence[float], rows: Sequence[int]) -> dict[int, float]:
        """The cosine of each of these rows that has a vector, with this one."""
        marks = ",".join("?" * len(rows))
        kept = self._database.execute(
            f"SELECT row, data FROM vector WHERE model = ? AND row IN ({marks})", (self.model, *rows)
        ).fetchall()
        if not kept:
            return {}
        matrix = np.frombuffer(b"".join(data for _, data in kept), "<f2").reshape(len(kept), -1)
        found = matrix.astype(np.float32) @ np.asarray(vector, np.float32)
        return dict(zip((row for row, _ in kept), found.tolist(), strict=True))

    def dropped(self, limit: int = -1) -> list[int]:
        """Rows that the index must forget; -1 is all."""
        return [row for (row,) in self._database.execute("SELECT row FROM vector_dropped LIMIT ?", (limit,))]

    def was_told(self, rows: Sequence[int]) -> None:
        """Note that the index has forgotten these, on disk."""
        self._database.executemany("DELETE FROM vector_dropped WHERE row = ?", [(row,) for row in rows])

    def indexed(self) -> int:
        """How many vectors the index must hold at least; those that it has still to forget come on top."""
        (held,) = self._database.execute(
            "SELECT count(*) FROM vector WHERE row <= ? AND model = ?", (self.upserted, self.model)
        ).fetchone()
        return int(held)

    def lag(self) -> int:
        """Documents that have no vector in the index yet."""
        (behind,) = self._database.execute(
            "SELECT count(*) FROM document WHERE row > ?", (min(self.embedded, self.upserted),)
        ).fetchone()
        return int(behind)

    def _get(self, name: str) -> str:
        row = self._database.execute("SELECT value FROM vector_state WHERE name = ?", (name,)).fetchone()
        return row[0] if row else ""

    def _set(self, **values: str) -> None:
        self._database.executemany("INSERT OR REPLACE INTO vector_state VALUES (?, ?)", list(values.items()))


def packed(vector: Sequence[float]) -> bytes:
    """A vector as it is kept."""
    return struct.pack(f"<{len(vector)}e", *vector)


def unpacked(data: bytes) -> tuple[float, ...]:
    """A vector as it was kept."""
    return struct.unpack(f"<{len(data) // 2}e", data)
