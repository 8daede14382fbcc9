import math
import sqlite3
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from memory_service.retrieval.documents import Document, Where
from memory_service.retrieval.lexical import SCHEMA, Lexical, search
from memory_service.retrieval.words import query_words
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
    assert len(query_words(" ".join(f"word{number}" for number in range(1000)))) == 64


def test_stop_words_of_a_query_count_only_when_there_is_nothing_else() -> None:
    assert query_words("What did the weather do?") == ["weather"]
    assert query_words("to be or not to be") == ["to", "be", "or", "not"]


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


def test_a_new_version_takes_the_place_of_the_old_one_and_a_dropped_document_is_gone() -> None:
    database = _database(_document("1", "old words"), _document("1", "new text"))
    assert found(database, "old", Where("s")) == []
    assert found(database, "new", Where("s")) == ["1"]
    index = Lexical(database)
    assert index.drop("1") is not None
    assert index.drop("1") is None
    assert found(database, "new", Where("s")) == []


STEPS = st.lists(
    st.tuples(st.integers(0, 5), st.lists(st.sampled_from("ant bee cow dog eel fox".split()), max_size=8)), max_size=40
)


@given(STEPS, st.lists(st.sampled_from("ant bee cow dog eel fox gnu".split()), max_size=4))
def test_the_scores_are_those_of_bm25_over_what_stands(steps: list[tuple[int, list[str]]], query: list[str]) -> None:
    database, stands = _database(), dict[str, list[str]]()
    index = Lexical(database)
    for number, words in steps:
        if words:
            index.put(_document(str(number), " ".join(words)))
            stands[str(number)] = words
        else:
            index.drop(str(number))
            stands.pop(str(number), None)
    names = dict(database.execute("SELECT row, id FROM document").fetchall())
    scores = {names[row]: score for row, score in search(database, " ".join(query), Where("s"), 10).items()}
    expected = {name: naive(words, query, list(stands.values())) for name, words in stands.items()}
    assert scores == pytest.approx({name: score for name, score in expected.items() if score})
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    left = database.execute("SELECT coalesce(sum(length(data)), 0) FROM posting").fetchone()
    assert left == (8 * sum(len(set(words)) for words in stands.values()),)


def naive(words: list[str], query: list[str], documents: list[list[str]]) -> float:
    mean = sum(map(len, documents)) / len(documents)
    total = 0.0
    for word in set(query):
        holding = sum(word in each for each in documents)
        times = words.count(word)
        rarity = math.log(1 + (len(documents) - holding + 0.5) / (holding + 0.5))
        total += rarity * times * 1.9 / (times + 0.9 * (0.6 + 0.4 * len(words) / mean))
    return total


def test_many_documents_with_one_word_are_all_found_and_can_all_be_dropped() -> None:
    database = _database(*(_document(str(number), f"common {number}") for number in range(500)))
    assert len(search(database, "common", Where("s"), 1000)) == 500
    assert found(database, "common 321", Where("s"))[0] == "321"
    index = Lexical(database)
    for number in range(500):
        index.drop(str(number))
    assert search(database, "common", Where("s"), 10) == {}
    assert database.execute("SELECT count(*) FROM posting").fetchone() == (0,)


def test_a_row_is_numbered_once_even_when_the_last_one_is_dropped() -> None:
    database = _database(_document("1", "a"))
    index = Lexical(database)
    first = index.drop("1")
    index.put(_document("1", "b"))
    assert first is not None
    assert index.drop("1") == first + 1


@pytest.mark.parametrize("documents", [1, 400])
def test_after_a_checkpoint_no_file_has_a_word_of_what_was_dropped(tmp_path: Path, documents: int) -> None:
    database = open_database(tmp_path / "a.db", SCHEMA)
    index = Lexical(database)
    for number in range(documents):
        index.put(_document(f"keep{number}", f"common words of number{number} zebra{number}"))
        if number % 50 == 0:
            index.put(_document(f"go{number}", f"xylophonist{number} quarrelled", "customer/wolfeschlegel"))
    for number in range(0, documents, 50):
        index.drop(f"go{number}")
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"zebra" in files
    for trace in (b"xylophon", b"quarrel", b"wolfeschlegel"):
        assert trace not in files
    assert len(search(database, "zebra0 common", Where("s"), 10)) == min(documents, 10)
    database.close()
