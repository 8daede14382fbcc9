"""Finding documents by words: BM25 in SQLite's FTS5.

The rule: it writes on the connection it is given, inside the caller's transaction. What is dropped is found no more at
once; ``purge`` removes the last trace of its words from the file, as SQLite before 3.42 cannot do that on each delete.
"""

import re
import sqlite3
import unicodedata
from hashlib import blake2b
from typing import NamedTuple

from memory_service.retrieval.documents import Document, Where

_WORD = re.compile(r"\w+")
_WORDS_MAX = 64  # of one query; more only repeat what it is about
_SECURE_DELETE_SINCE = (3, 42, 0)  # https://www.sqlite.org/fts5.html#the_secure_delete_configuration_option
_MERGE_PAGES = 64  # of one step of a purge: a few milliseconds

# unicode61 folds case; remove_diacritics 2 folds all accents (https://www.sqlite.org/fts5.html#unicode61_tokenizer);
# porter takes the endings of English words off. A row number is used once: it is also what the vector index knows.
SCHEMA = """
PRAGMA secure_delete = ON;
CREATE TABLE IF NOT EXISTS document (
    row INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL,
    scope TEXT NOT NULL, subject TEXT NOT NULL, predicate TEXT NOT NULL, seq INTEGER NOT NULL
);
CREATE VIRTUAL TABLE IF NOT EXISTS word USING fts5 (
    place, subject, predicate, text, tokenize = 'porter unicode61 remove_diacritics 2'
);
CREATE VIRTUAL TABLE IF NOT EXISTS word_count USING fts5vocab ('word', 'row');
"""


class Found(NamedTuple):
    """A row of ``document`` with its id."""

    row: int
    id: str


class Lexical:
    """BM25 over subject, predicate and text, within a scope."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._is_secure = sqlite3.sqlite_version_info >= _SECURE_DELETE_SINCE
        if self._is_secure:
            database.execute("INSERT INTO word (word, rank) VALUES ('secure-delete', 1)")

    def put(self, document: Document) -> int | None:
        """Index this document in place of the one before; the row of that one, if there was one."""
        gone = self.drop(document.id)
        cursor = self._database.execute(
            "INSERT INTO document (id, scope, subject, predicate, seq) VALUES (?, ?, ?, ?, ?)",
            (document.id, document.scope, document.subject, document.predicate, document.seq),
        )
        self._database.execute(
            "INSERT INTO word (rowid, place, subject, predicate, text) VALUES (?, ?, ?, ?, ?)",
            (cursor.lastrowid, _place(document.scope), document.subject, document.predicate, document.text),
        )
        return gone

    def drop(self, document_id: str) -> int | None:
        """Take the document out; its row, or ``None`` when it is not there."""
        found = self._database.execute("SELECT row FROM document WHERE id = ?", (document_id,)).fetchone()
        if found is None:
            return None
        self._database.execute("DELETE FROM word WHERE rowid = ?", found)
        self._database.execute("DELETE FROM document WHERE row = ?", found)
        row: int = found[0]
        return row

    def purge(self) -> bool:
        """One step of removing what was dropped from the file; whether it was the last."""
        if self._is_secure:
            return True
        before = self._database.total_changes
        self._database.execute("INSERT INTO word (word, rank) VALUES ('merge', ?)", (_MERGE_PAGES,))
        return self._database.total_changes - before < 2  # as the documentation of 'merge' says to tell the end

    def begin_purge(self) -> None:
        """Have the steps of the purge end with one segment, in which nothing that was dropped is left."""
        if not self._is_secure:
            self._database.execute("INSERT INTO word (word, rank) VALUES ('merge', ?)", (-_MERGE_PAGES,))


def search(database: sqlite3.Connection, query: str, where: Where, limit: int) -> dict[int, float]:
    """Rows with their BM25, best first. Any text is a query; none of it is read as syntax."""
    words = words_of(query)
    if not words:
        return {}
    any_word = " OR ".join(f'"{word}"' for word in words)
    expression = f'place : "{_place(where.scope)}" AND {{subject predicate text}} : ({any_word})'
    condition, values = condition_of(where)
    # SQLite gives BM25 negative: the better, the lower. The scope's own mark counts nothing.
    rows = database.execute(
        "SELECT document.row, -bm25(word, 0.0, 1.0, 1.0, 1.0) AS score FROM word JOIN document "
        f"ON document.row = word.rowid WHERE word MATCH ? AND {condition} "
        "ORDER BY score DESC, document.row DESC LIMIT ?",
        (expression, *values, limit),
    )
    return dict(rows.fetchall())


def condition_of(where: Where) -> tuple[str, list[str]]:
    """The filter as SQL over ``document``, and its values."""
    condition, values = "document.scope = ?", [where.scope]
    if where.subject.endswith("/"):
        condition += " AND document.subject >= ? AND document.subject < ?"
        values += [where.subject, where.subject[:-1] + chr(ord("/") + 1)]
    elif where.subject:
        condition += " AND document.subject = ?"
        values.append(where.subject)
    if where.predicate:
        condition += " AND document.predicate = ?"
        values.append(where.predicate)
    return condition, values


def words_of(query: str) -> list[str]:
    """The words of a text, each once, as FTS5 would cut them; at most so many as one query may have."""
    words = dict.fromkeys(_WORD.findall(unicodedata.normalize("NFC", query)))
    return list(words)[:_WORDS_MAX]


def _place(scope: str) -> str:
    """One token for a scope, so that the index itself passes over the documents of all others."""
    return "x" + blake2b(scope.encode("utf-8", "surrogatepass"), digest_size=10).hexdigest()
