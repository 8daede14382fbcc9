import sqlite3
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from memory_service.retrieval.documents import Document, Where
from memory_service.retrieval.lexical import SCHEMA, Lexical, search, words_of
from mesh.checkpoint import open_database


def _database(*documents: Document) -> sqlite3.Connection:
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.executescript(SCHEMA)
    index = Lexical(database)
    for document in documents:
        index.put(document)
    return database


def _document(name: str, text: str, subject: str = "", predicate: str = "", scope: str = "s") -> Document:
    return Document(name, scope, subject, predicate, text)


def found(database: sqlite3.Connection, query: str, where: Where) -> list[str]:
    names = dict(database.execute("SELECT row, id FROM document").fetchall())
    return [names[row] for row in search(database, query, where, 10)]


KNOWN = _database(_document("1", "text near the column"), _document("2", "other words"))
SYNTAX = st.lists(st.sampled_from(['"', "'", "NEAR(", "AND", "OR", "NOT", "*", "^", ":", "-", "+", "(", ")", "{", "}"]))


@given(st.one_of(st.text(), SYNTAX.map(" ".join), SYNTAX.map("".join)))
@example('text" OR words:')
@example("place : text")
@example("\0")
@example("NEAR(text column, 2)")
def test_no_text_raises(query: str) -> None:
    assert all(score >= 0 for score in search(KNOWN, query, Where("s"), 5).values())


@given(st.text(alphabet=st.characters(categories=["Lu", "Ll", "Nd"], max_codepoint=0x24F), min_size=1, max_size=20))
def test_a_word_of_the_text_finds_the_document(word: str) -> None:
    assert found(_database(_document("1", f"before {word} after")), word, Where("s")) == ["1"]


def test_long_queries_are_cut() -> None:
    assert len(words_of(" ".join(f"word{number}" for number in range(1000)))) == 64


def test_words_are_found_in_any_form_and_by_subject_and_predicate() -> None:
    database = _database(_document("1", "he shipped the parcels", "customer/anna", "deliveries"))
    for query in ("shipping", "parcel", "Anna", "delivery", "CAFÉ shipped"):
        assert found(database, query, Where("s")) == ["1"]
    assert found(database, "nothing of that", Where("s")) == []


def test_filters_let_through_what_they_name() -> None:
    database = _database(
        _document("1", "word", "a/1", "p"),
        _document("2", "word", "a/2", "q"),
        _document("3", "word", "ab", "p"),
        _document("4", "word", "a/1", "p", scope="t"),
    )
    expected = {
        Where("s"): ["1", "2", "3"],
        Where("t"): ["4"],
        Where("s/"): [],
        Where("s", "a/"): ["1", "2"],
        Where("s", "a/1"): ["1"],
        Where("s", "a"): [],
        Where("s", "", "p"): ["1", "3"],
        Where("s", "a/", "q"): ["2"],
    }
    assert {where: sorted(found(database, "word", where)) for where in expected} == expected


def test_a_scope_cannot_be_named_as_a_word() -> None:
    database = _database(_document("1", "word", scope="secret"))
    (mark,) = database.execute("SELECT place FROM word").fetchone()
    database.execute("DELETE FROM document")
    Lexical(database).put(_document("2", "other", scope="open"))
    assert found(database, mark, Where("open")) == []


def test_a_new_version_takes_the_place_of_the_old_one_and_a_dropped_document_is_gone() -> None:
    database = _database(_document("1", "old words"), _document("1", "new text"))
    assert found(database, "old", Where("s")) == []
    assert found(database, "new", Where("s")) == ["1"]
    index = Lexical(database)
    assert index.drop("1") is not None
    assert index.drop("1") is None
    assert found(database, "new", Where("s")) == []


def test_a_row_is_numbered_once_even_when_the_last_one_is_dropped() -> None:
    database = _database(_document("1", "a"))
    index = Lexical(database)
    first = index.drop("1")
    index.put(_document("1", "b"))
    assert first is not None
    assert index.drop("1") == first + 1


@pytest.mark.parametrize("documents", [1, 400])
def test_after_a_purge_no_file_has_a_word_of_what_was_dropped(tmp_path: Path, documents: int) -> None:
    database = open_database(tmp_path / "a.db", SCHEMA)
    index = Lexical(database)
    for number in range(documents):
        index.put(_document(f"keep{number}", f"common words of number{number} zebra{number}"))
        if number % 50 == 0:
            index.put(_document(f"go{number}", f"xylophonist{number} quarrelled", "customer/wolfeschlegel"))
    for number in range(0, documents, 50):
        index.drop(f"go{number}")
    if sqlite3.sqlite_version_info < (3, 42):
        assert b"xylophon" in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    index.begin_purge()
    while not index.purge():
        pass
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"zebra" in files
    for trace in (b"xylophon", b"quarrel", b"wolfeschlegel"):
        assert trace not in files
    assert len(search(database, "zebra0 common", Where("s"), 10)) == min(documents, 10)
    database.close()
