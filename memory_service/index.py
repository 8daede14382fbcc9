"""Finding facts by words: one small interface, and BM25 in SQLite's FTS5 behind it.

The rule: an index is derived. It is fed by the projection, in its order, and holds nothing that ``MEMORY`` does not.
"""

import re
import sqlite3
import unicodedata
from typing import NamedTuple, Protocol

from mesh.facts import FactEvent

_WORD = re.compile(r"\w+")
_WORDS_MAX = 64  # of one query; more only repeat what it is about

# unicode61 folds case; remove_diacritics 2 folds all accents (https://www.sqlite.org/fts5.html#unicode61_tokenizer).
SCHEMA = """
CREATE TABLE IF NOT EXISTS indexed (row INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, scope TEXT NOT NULL);
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5 (key, text, tokenize = 'unicode61 remove_diacritics 2');
"""


class Hit(NamedTuple):
    """A fact that was found, and how well it matches: higher is better."""

    fact_id: str
    score: float


class Index(Protocol):
    """Finds current facts by words."""

    def put(self, fact: FactEvent) -> None:
        """Have this version found, and no earlier one of the same fact."""
        ...

    def drop(self, fact_id: str) -> None:
        """Have the fact not found any more; nothing happens when it is not there."""
        ...

    def search(self, scope: str, query: str, limit: int) -> list[Hit]:
        """Up to ``limit`` facts of ``scope`` (a prefix ends in ``/``), best first; any text is a query."""
        ...


class Bm25Index:
    """BM25 over key and text. It writes on the connection it is given, so inside the projection's transaction."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def put(self, fact: FactEvent) -> None:
        """Index this version in place of the one before."""
        self.drop(fact.id)
        cursor = self._database.execute("INSERT INTO indexed (id, scope) VALUES (?, ?)", (fact.id, fact.scope))
        values = (cursor.lastrowid, fact.key, fact.text)
        self._database.execute("INSERT INTO words (rowid, key, text) VALUES (?, ?, ?)", values)

    def drop(self, fact_id: str) -> None:
        """Take the fact out of the index."""
        row = self._database.execute("SELECT row FROM indexed WHERE id = ?", (fact_id,)).fetchone()
        if row is not None:
            self._database.execute("DELETE FROM words WHERE rowid = ?", row)
            self._database.execute("DELETE FROM indexed WHERE row = ?", row)

    def search(self, scope: str, query: str, limit: int) -> list[Hit]:
        """The best facts by BM25; SQLite gives it negative (the better, the lower), so the score is ``-bm25``."""
        expression = match_expression(query)
        if not expression:
            return []
        rows = self._database.execute(
            "SELECT indexed.id, -bm25(words) FROM words JOIN indexed ON indexed.row = words.rowid "
            "WHERE words MATCH ? AND scope >= ? AND scope < ? ORDER BY bm25(words), indexed.id LIMIT ?",
            (expression, *span(scope), limit),
        )
        return [Hit(*row) for row in rows]


def match_expression(query: str) -> str:
    """An FTS5 expression that matches any word of the text, or "" when it has none. No text is read as syntax."""
    words = dict.fromkeys(_WORD.findall(unicodedata.normalize("NFC", query)))
    return " OR ".join(f'"{word}"' for word in list(words)[:_WORDS_MAX])


def span(scope: str) -> tuple[str, str]:
    """The half-open range of scopes that this one names: itself, all under a prefix ``a/``, or all (``/``)."""
    if scope == "/":
        return "", "\U0010ffff"
    if scope.endswith("/"):
        return scope, scope[:-1] + chr(ord("/") + 1)
    return scope, scope + "\0"
