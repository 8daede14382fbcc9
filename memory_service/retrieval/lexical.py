"""Finding documents by words: BM25 over an inverted index in SQLite.

The rule: it writes on the connection it is given, inside the caller's transaction; what is dropped is found no more at
once, and with ``secure_delete`` its words are overwritten in the file.

The index is made of plain tables and not of FTS5, whose ``bm25()`` takes 3 microseconds a match: a question over
100,000 documents took 180 ms there and takes a few here (decision 0032).
"""

import sqlite3
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memory_service.retrieval.documents import Document, Where
from memory_service.retrieval.words import query_words, words_of

# A row is numbered once: it is also what the vector index knows a document by.
SCHEMA = """
PRAGMA secure_delete = ON;
PRAGMA cache_size = -16000;
CREATE TABLE IF NOT EXISTS document (
    row INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL,
    scope TEXT NOT NULL, subject TEXT NOT NULL, predicate TEXT NOT NULL, text TEXT NOT NULL, seq INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS document_by_subject ON document (scope, subject);
CREATE TABLE IF NOT EXISTS scope (
    number INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, documents INTEGER NOT NULL, words INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS posting (
    scope INTEGER NOT NULL, word TEXT NOT NULL, block INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (scope, word, block)
) WITHOUT ROWID;
"""

_Numbers = NDArray[Any]

K1, B = 0.9, 0.4  # better on short texts than Lucene's 1.2 and 0.75 (decision 0034), as in Anserini
_ENTRY = np.dtype([("row", "<u4"), ("times", "<u2"), ("length", "<u2")])
_MOST = 0xFFFF
_BLOCK_BITS = 8  # the entries of 256 rows stand together: at most 2 KB to write anew for a further one
_DENSE = 1 << 22  # rows apart, up to which a plain array of scores is made


class Bm25(NamedTuple):
    """The two constants of BM25: how soon repetition counts no more, and how far length does."""

    k1: float = K1
    b: float = B


USUAL = Bm25()


class Lexical:
    """The inverted index, by scope."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def put(self, document: Document) -> int | None:
        """Index this document in place of the one before; the row of that one, if there was one."""
        gone = self.drop(document.id)
        row = self._database.execute(
            "INSERT INTO document (id, scope, subject, predicate, text, seq) VALUES (?, ?, ?, ?, ?, ?)", document
        ).lastrowid
        counts = _counted(document)
        length = sum(counts.values())
        scope = self._count(document.scope, 1, length)
        entries = np.zeros(len(counts), _ENTRY)
        entries["row"], entries["length"] = row, min(length, _MOST)
        entries["times"] = np.fromiter(counts.values(), np.int64, len(counts)).clip(max=_MOST)
        data, size, block = entries.tobytes(), _ENTRY.itemsize, int(row or 0) >> _BLOCK_BITS
        self._database.executemany(
            "INSERT INTO posting VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE "
            "SET data = CAST(data || excluded.data AS BLOB)",
            [(scope, word, block, data[at * size : (at + 1) * size]) for at, word in enumerate(counts)],
        )
        return gone

    def drop(self, document_id: str) -> int | None:
        """Take the document out; its row, or ``None`` when it is not there."""
        found = self._database.execute(
            "SELECT row, id, scope, subject, predicate, text, seq FROM document WHERE id = ?", (document_id,)
        ).fetchone()
        if found is None:
            return None
        row, document = int(found[0]), Document(*found[1:])
        counts = _counted(document)
        scope = self._count(document.scope, -1, -sum(counts.values()))
        for word in counts:
            self._remove(scope, word, row)
        self._database.execute("DELETE FROM document WHERE row = ?", (row,))
        self._database.execute("DELETE FROM scope WHERE number = ? AND documents = 0", (scope,))
        return row

    def _count(self, scope: str, documents: int, words: int) -> int:
        (number,) = self._database.execute(
            "INSERT INTO scope (name, documents, words) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE "
            "SET documents = documents + excluded.documents, words = words + excluded.words RETURNING number",
            (scope, documents, words),
        ).fetchone()
        return int(number)

    def _remove(self, scope: int, word: str, row: int) -> None:
        block = (scope, word, row >> _BLOCK_BITS)
        (data,) = self._database.execute(
            "SELECT data FROM posting WHERE scope = ? AND word = ? AND block = ?", block
        ).fetchone()
        entries = np.frombuffer(data, _ENTRY)
        left = entries[entries["row"] != row].tobytes()
        if left:
            self._database.execute(
                "UPDATE posting SET data = ? WHERE scope = ? AND word = ? AND block = ?", (left, *block)
            )
        else:
            self._database.execute("DELETE FROM posting WHERE scope = ? AND word = ? AND block = ?", block)


def search(database: sqlite3.Connection, query: str, where: Where, limit: int, bm25: Bm25 = USUAL) -> dict[int, float]:
    """Rows with their BM25, best first, newer first among equals. Any text is a query.

    BM25 as in Lucene: ``ln(1 + (N - n + 0.5) / (n + 0.5))`` for the rarity of a word, so that none counts against.
    """
    scope = database.execute("SELECT number, documents, words FROM scope WHERE name = ?", (where.scope,)).fetchone()
    if scope is None:
        return {}
    number, documents, words = scope
    mean = words / documents or 1.0
    rows, scores = [], []
    for word in query_words(query):
        blocks = database.execute("SELECT data FROM posting WHERE scope = ? AND word = ?", (number, word)).fetchall()
        entries = np.frombuffer(b"".join(data for (data,) in blocks), _ENTRY)
        if entries.size:
            rarity = np.log1p((documents - entries.size + 0.5) / (entries.size + 0.5))
            times = entries["times"].astype(np.float32)
            norm = bm25.k1 * (1 - bm25.b + bm25.b / mean * entries["length"].astype(np.float32))
            rows.append(entries["row"].astype(np.int64))
            scores.append(rarity * times * (bm25.k1 + 1) / (times + norm))
    if not rows:
        return {}
    return _best(*_summed(np.concatenate(rows), np.concatenate(scores)), _allowed(database, where), limit)


def condition_of(where: Where) -> tuple[str, list[str]]:
    """The filter as SQL over ``document``, and its values."""
    condition, values = "scope = ?", [where.scope]
    if where.subject.endswith("/"):
        condition += " AND subject >= ? AND subject < ?"
        values += [where.subject, where.subject[:-1] + chr(ord("/") + 1)]
    elif where.subject:
        condition += " AND subject = ?"
        values.append(where.subject)
    if where.predicate:
        condition += " AND predicate = ?"
        values.append(where.predicate)
    return condition, values


def _counted(document: Document) -> Counter[str]:
    return Counter(words_of(f"{document.subject} {document.predicate} {document.text}"))


def _summed(rows: _Numbers, scores: _Numbers) -> tuple[_Numbers, _Numbers]:
    """Each row once, with the sum of its scores."""
    low, high = int(rows.min()), int(rows.max())
    if high - low < _DENSE:
        sums = np.bincount(rows - low, scores)
        found = np.flatnonzero(sums > 0)
        return found + low, sums[found]
    each, places = np.unique(rows, return_inverse=True)
    return each, np.bincount(places, scores)


def _allowed(database: sqlite3.Connection, where: Where) -> _Numbers | None:
    """The rows that a filter lets through; ``None`` is all of the scope."""
    if not where.subject and not where.predicate:
        return None
    condition, values = condition_of(where)
    rows = database.execute(f"SELECT row FROM document WHERE {condition}", values).fetchall()
    return np.fromiter((row for (row,) in rows), np.int64, len(rows))


def _best(rows: _Numbers, scores: _Numbers, allowed: _Numbers | None, limit: int) -> dict[int, float]:
    if allowed is not None:
        passes = np.isin(rows, allowed)
        rows, scores = rows[passes], scores[passes]
    if rows.size > limit:
        least = np.partition(scores, -limit)[-limit]
        passes = scores >= least
        rows, scores = rows[passes], scores[passes]
    order = np.lexsort((-rows, -scores))[:limit]
    return dict(zip(rows[order].tolist(), scores[order].tolist(), strict=True))
