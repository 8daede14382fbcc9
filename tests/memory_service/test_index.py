"""The index: any text is a query, and scopes are kept apart."""

import sqlite3
from datetime import UTC, datetime

from hypothesis import example, given
from hypothesis import strategies as st

from memory_service.index import SCHEMA, Bm25Index, match_expression, span
from mesh.facts import FactEvent, FactStatus, Provenance


def _fact(scope: str, key: str, text: str) -> FactEvent:
    return FactEvent(
        scope=scope,
        key=key,
        text=text,
        status=FactStatus.CURRENT,
        version=1,
        provenance=Provenance(writer="test/1", source="a test"),
        at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def _index(*facts: FactEvent) -> Bm25Index:
    database = sqlite3.connect(":memory:")
    database.executescript(SCHEMA)
    index = Bm25Index(database)
    for fact in facts:
        index.put(fact)
    return index


KNOWN = _index(_fact("a", "k", "text near the column"), _fact("a/b", "k", "other words"))

SYNTAX = st.lists(st.sampled_from(['"', "'", "NEAR(", "AND", "OR", "NOT", "*", "^", ":", "-", "+", "(", ")", "{", "}"]))


@given(st.one_of(st.text(), SYNTAX.map(" ".join), SYNTAX.map("".join)))
@example('text" OR words:')
@example("key : text")
@example("\0")
@example("NEAR(text column, 2)")
def test_no_text_raises(query: str) -> None:
    assert all(hit.score == hit.score for hit in KNOWN.search("/", query, 5))


@given(st.text(alphabet=st.characters(categories=["Lu", "Ll", "Nd"], max_codepoint=0x24F), min_size=1, max_size=20))
def test_a_word_of_the_text_finds_the_fact(word: str) -> None:
    index = _index(_fact("a", "k", f"before {word} after"))
    assert [hit.fact_id for hit in index.search("a", word, 5)] == [_fact("a", "k", "").id]


def test_long_queries_are_cut() -> None:
    expression = match_expression(" ".join(f"word{number}" for number in range(1000)))
    assert expression.count(" OR ") == 63


@given(st.text(), st.text())
def test_a_scope_spans_itself_and_a_prefix_what_is_under_it(one: str, other: str) -> None:
    low, high = (part.encode("utf-8", "surrogatepass") for part in span(f"x{one}"))
    text = f"x{other}".encode("utf-8", "surrogatepass")
    named = f"x{one}".encode("utf-8", "surrogatepass")
    expected = text.startswith(named) if named.endswith(b"/") else text == named
    assert (low <= text < high) is expected or b"\0" in text
    assert low <= named < high


def test_a_new_version_takes_the_place_of_the_old_one_and_a_dropped_fact_is_gone() -> None:
    index = _index(_fact("a", "k", "old words"), _fact("a", "k", "new text"))
    assert index.search("a", "old", 5) == []
    assert len(index.search("a", "new", 5)) == 1
    index.drop(_fact("a", "k", "").id)
    index.drop(_fact("a", "k", "").id)
    assert index.search("/", "new k", 5) == []
