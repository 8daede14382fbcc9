"""Digests and identifiers are functions of content alone."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from mesh import canonical

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


class Pair(msgspec.Struct):
    """A struct with a raw part."""

    b: msgspec.Raw
    a: int = 1


def shuffled(value: Any) -> Any:
    """The same content, its objects' keys the other way round."""
    if isinstance(value, dict):
        return {name: shuffled(inner) for name, inner in reversed(value.items())}
    return [shuffled(inner) for inner in value] if isinstance(value, list) else value


@given(VALUES)
def test_equal_content_has_an_equal_digest_whatever_the_order_of_keys(value: Any) -> None:
    assert canonical.canonical_json(shuffled(value)) == canonical.canonical_json(value)
    assert canonical.digest(shuffled(value)) == canonical.digest(value)


@given(VALUES)
def test_the_canonical_form_is_json_of_the_same_value_and_its_own_canonical_form(value: Any) -> None:
    data = canonical.canonical_json(value)
    assert msgspec.json.decode(data) == value
    assert canonical.canonical_json(msgspec.Raw(data)) == data


@given(VALUES, VALUES)
def test_other_content_has_another_digest(one: Any, other: Any) -> None:
    same = canonical.canonical_json(one) == canonical.canonical_json(other)
    assert (canonical.digest(one) == canonical.digest(other)) is same


def test_white_space_and_order_within_raw_parts_do_not_count() -> None:
    tight, loose = Pair(msgspec.Raw(b'{"y":1,"x":[2]}')), Pair(msgspec.Raw(b' { "x" : [ 2 ],\n "y" : 1 }'))
    assert canonical.canonical_json(tight) == b'{"a":1,"b":{"x":[2],"y":1}}'
    assert canonical.digest(tight) == canonical.digest(loose)


def test_a_digest_names_its_algorithm() -> None:
    empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert canonical.digest_bytes(b"") == empty
    assert canonical.digest("") == canonical.digest_bytes(b'""')


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_a_token_tells_its_parts_apart(one: list[str], other: list[str]) -> None:
    assert (canonical.token(*one) == canonical.token(*other)) is (one == other)


def test_parts_are_length_prefixed() -> None:
    assert canonical.token("ab", "c") != canonical.token("a", "bc")
    assert canonical.token("ab", "") != canonical.token("ab")


@given(st.text(alphabet=st.characters()), st.integers(5, 250))
def test_a_token_is_one_lower_case_subject_token_of_the_length_asked_for(text: str, bits: int) -> None:
    made = canonical.token(text, bits=bits)
    assert len(made) == bits // 5
    assert set(made) <= set("abcdefghijklmnopqrstuvwxyz234567")


def test_the_same_event_is_the_same_task_in_every_version() -> None:
    assert canonical.task_id("/shop", "e1") == "yvfbs55staqg5gigictp7tsdtg"
    assert canonical.task_id("/shop", "e1") != canonical.task_id("/shop", "e2")
    assert canonical.task_id("/shop", "e1") != canonical.task_id("/shope", "1")


def test_an_effect_key_names_the_task_and_the_step() -> None:
    assert canonical.effect_key("t1", "s1") == "wm-t1-s1"
