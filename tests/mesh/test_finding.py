"""What can be seen in text: places, limits, languages."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.finding import Finder, find, sure
from mesh.language import language_of

ORDER = Finder("order", r"#?\b(W[0-9]{7})\b")
SOON = Finder("urgency", r"\burgent\b", "high", 0.5)


def seen(text: str, *finders: Finder) -> list[tuple[str, str, str]]:
    """Name, value and the text at the place of all that is found, but the language."""
    found = find(msgspec.json.encode({"a": {"b": text}}), ("/a/b",), finders or (ORDER, SOON))
    return [(each.name, each.value, text[each.start : each.end]) for each in found if each.name != "language"]


def test_a_match_has_its_value_and_its_place() -> None:
    assert seen("my order #W1234567 is Urgent") == [
        ("order", "W1234567", "W1234567"),
        ("urgency", "high", "Urgent"),
    ]


def test_what_is_no_text_or_not_there_is_passed_over() -> None:
    for data in (b"{}", b'{"a": 1}', b'{"a": {"b": 5}}', b'{"a": {"b": null}}', b"[]"):
        assert find(data, ("/a/b",), (ORDER,)) == ()


def test_only_one_certain_value_is_sure() -> None:
    found = find(msgspec.json.encode({"t": "W1234567, again W1234567; urgent"}), ("/t",), (ORDER, SOON))
    assert (sure(found, "order"), sure(found, "urgency"), sure(found, "nothing")) == ("W1234567", "", "")
    found = find(msgspec.json.encode({"t": "W1234567 or W7654321"}), ("/t",), (ORDER,))
    assert sure(found, "order") == ""


def test_a_flood_of_matches_is_bounded() -> None:
    assert len(seen("W1234567 " * 100_000, ORDER)) == 20


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("I want to return the shoes of my last order, please.", "en"),
        ("Ich möchte die Schuhe aus meiner letzten Bestellung zurückgeben.", "de"),
        ("Je voudrais retourner les chaussures de ma commande.", "fr"),
        ("Ik wil graag de schoenen van mijn bestelling terugsturen.", "nl"),
        ("ok", ""),
        ("12345 67890 12345", ""),
    ],
)
def test_a_language_is_told_where_there_is_enough_text(text: str, language: str) -> None:
    assert language_of(text)[0] == language


@given(st.text(max_size=300))
def test_any_text_is_searched(text: str) -> None:
    for name, value, place in seen(text, ORDER):
        assert (name, value) == ("order", place)
