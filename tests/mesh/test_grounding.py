"""What counts as standing in what a model was shown."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.grounding import Sources, leaves_of

SHOWN: list[Any] = [
    "Return order #W6067464, the Electric  Kettle, to 12 Mill Lane; it cost 49.90.",
    {"order": {"items": [{"item_id": "9624127908", "price": 129.5}], "method": "credit_card_4190576"}},
]


@pytest.mark.parametrize(
    "value",
    [
        "#W6067464",
        "#w6067464",
        "electric kettle",
        "9624127908",
        49.9,
        "49.90",
        129.5,
        "129.50",
        "12 Mill Lane",
        "",
        " .",
    ],
)
def test_what_stands_there_as_a_whole_is_grounded(value: str | float) -> None:
    assert Sources(SHOWN).holds(value)


@pytest.mark.parametrize(
    "value",
    ["#W606746", "W60674640", "962412790", "Kettl", 49, 9.9, 129, "credit_card_41905", "13 Mill Lane", "4190576"],
)
def test_what_stands_there_only_in_part_or_nowhere_is_made_up(value: str | float) -> None:
    assert not Sources(SHOWN).holds(value)


def test_a_sentence_is_held_to_its_numbers_ids_and_addresses() -> None:
    sources = Sources([*SHOWN, "ann@example.com"])
    assert sources.claims_missing("Your order #W6067464 (49.90) goes to ann@example.com.") == []
    said = "Order #W1111111: 500 USD, write to eve@example.org or https://evil.example/x"
    assert sources.claims_missing(said) == ["#W1111111", "500", "eve@example.org", "https://evil.example/x"]


def test_a_word_of_thirty_thousand_letters_is_told_at_once() -> None:
    started = time.process_time()
    assert Sources(SHOWN).claims_missing("a" * 30_000 + " 7") == ["7"]
    assert time.process_time() - started < 1  # one pattern for word and claim took 15 s


texts = st.text("abcXYZ019 #-_.äß", max_size=20)
values = st.recursive(texts | st.integers(-999, 999), lambda inner: st.lists(inner) | st.dictionaries(texts, inner))


@given(values)
def test_every_leaf_of_what_was_shown_is_grounded_in_it(shown: Any) -> None:
    sources = Sources([shown])
    assert all(sources.holds(leaf) for _, leaf in leaves_of(shown))


@given(st.text("ab ", min_size=1, max_size=12), st.text("cd", min_size=1, max_size=6))
def test_what_shares_no_word_with_it_is_not(shown: str, made_up: str) -> None:
    assert not Sources([shown]).holds(made_up)
