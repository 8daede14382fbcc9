"""Obligations: which there are, what their values mean, and what is done to a tool's output."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.obligations import KNOWN, ObligationError, check, missing, parse, redacted, values
from mesh.records import Obligation
from mesh.redaction import HIDDEN

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def paths(value: Any, prefix: str = "") -> list[str]:
    """The pointers to everything inside a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, inner in items:
        pointer = f"{prefix}/{str(key).replace('~', '~0').replace('/', '~1')}"
        found += [pointer, *paths(inner, pointer)]
    return found


@pytest.mark.parametrize(
    "text", ["notify:treasury", "notify:the owner", "notify:ann@example.com", "redact:/card/number", "receipt:/a~1b/0"]
)
def test_an_obligation_says_name_and_value(text: str) -> None:
    found = parse(text)
    assert f"{found.name}:{found.value}" == text and found.step == ""
    assert found.name in KNOWN


@pytest.mark.parametrize(
    "text",
    [
        "", "sing", "sing:a song", "notify", "notify:", "notify: ann", "notify:a\nb", "notify:" + "a" * 129, "redact",
        "redact:", "redact:card", "redact:/a~2", "receipt:", "receipt:id", "receipt:/a~", "Notify:ann",
    ],
)  # fmt: skip
def test_what_nobody_could_carry_out_is_refused(text: str) -> None:
    with pytest.raises(ObligationError):
        parse(text)


def test_an_obligation_without_a_step_is_on_every_step() -> None:
    on = [Obligation(name="notify", value="a"), Obligation(name="notify", value="b", step="pay")]
    assert values([*on, *on], "notify", "pay") == ("a", "b")
    assert values(on, "notify", "ship") == ("a",)
    assert values(on, "redact", "pay") == ()
    for each in on:
        check(each)


@given(JSON, st.data())
def test_what_is_redacted_is_gone_and_nothing_else(value: Any, data: st.DataObject) -> None:
    there = paths(value)
    pointer = data.draw(st.sampled_from(there)) if there else "/nowhere"
    left = json.loads(bytes(redacted(raw(value), [pointer])))
    if not there:
        assert left == value
        return
    assert missing(raw(left), [pointer]) == ()
    assert not any(path.startswith(f"{pointer}/") for path in paths(left))
    others = [path for path in there if not path.startswith(f"{pointer}/") and not pointer.startswith(f"{path}/")]
    for path in others:
        assert _at(left, path) == (HIDDEN if path == pointer else _at(value, path))


def _at(value: Any, pointer: str) -> Any:
    for token in pointer.split("/")[1:]:
        token = token.replace("~1", "/").replace("~0", "~")
        value = value[int(token)] if isinstance(value, list) else value[token]
    return value


@pytest.mark.parametrize("pointer", ["/none", "/list/2", "/list/-1", "/list/01", "/list/x", "/text/0", "/text/a/b"])
def test_what_is_not_there_is_neither_redacted_nor_a_receipt(pointer: str) -> None:
    value = raw({"list": [1, 2], "text": "abc"})
    assert json.loads(bytes(redacted(value, [pointer]))) == {"list": [1, 2], "text": "abc"}
    assert missing(value, [pointer]) == (pointer,)


@pytest.mark.parametrize("empty", [None, "", [], {}])
def test_an_empty_value_is_no_receipt(empty: Any) -> None:
    assert missing(raw({"id": empty}), ["/id"]) == ("/id",)


@pytest.mark.parametrize("full", [0, False, "R-1", [0], {"a": None}])
def test_any_other_value_is_one(full: Any) -> None:
    assert missing(raw({"id": full}), ["/id"]) == ()
