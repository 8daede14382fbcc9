"""Reading CloudEvents: both modes of the NATS binding, and what is wrong is said with the attribute."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mesh import events
from mesh.events import CloudEvent, MalformedEventError
from tests.mesh.samples import TRACE

EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "e1",
    "source": "/shop",
    "type": "retail.return.requested",
    "subject": "#W1",
    "time": "2026-11-20T12:00:00Z",
    "datacontenttype": "application/json; charset=utf-8",
    "data": {"order": "#W1", "cents": [1, 2.5, None]},
}


def structured(**changes: Any) -> bytes:
    """The event in structured mode; a change to ``...`` leaves the attribute out."""
    return msgspec.json.encode({name: value for name, value in (EVENT | changes).items() if value is not ...})


def binary(**changes: str) -> tuple[bytes, dict[str, str]]:
    """The event in binary mode: the data, and the headers with changes."""
    attributes = {name: value for name, value in EVENT.items() if name not in ("data", "datacontenttype")}
    headers = {f"ce-{name}": value for name, value in (attributes | changes).items()}
    return msgspec.json.encode(EVENT["data"]), {**headers, "Content-Type": EVENT["datacontenttype"]}


def refused(data: bytes, headers: dict[str, str] | None = None) -> MalformedEventError:
    """Why the event is refused."""
    with pytest.raises(MalformedEventError) as caught:
        events.read(data, headers)
    return caught.value


def test_a_structured_event_is_read() -> None:
    event = events.read(structured())
    assert (event.id, event.source, event.type, event.subject) == ("e1", "/shop", "retail.return.requested", "#W1")
    assert event.time == datetime(2026, 11, 20, 12, tzinfo=UTC)
    assert msgspec.json.decode(event.data) == EVENT["data"]


def test_a_binary_event_says_the_same_as_the_structured_one() -> None:
    event = events.read(*binary())
    assert event == events.read(structured(data=EVENT["data"]))
    assert event.content_digest() == events.read(structured()).content_digest()


def test_header_names_are_taken_in_any_case_and_values_are_unescaped() -> None:
    data, headers = binary(subject="%23W1%20%C3%A9", id="e%25")
    event = events.read(data, {name.upper(): value for name, value in headers.items()})
    assert (event.subject, event.id) == ("#W1 é", "e%")


def test_an_event_without_data_has_none() -> None:
    assert bytes(events.read(structured(data=...)).data) == b"null"
    assert bytes(events.read(b"", binary()[1]).data) == b"null"


def test_the_trace_comes_from_the_event_or_else_from_the_header() -> None:
    other = TRACE.replace("ab", "12")
    assert events.read(structured(), {"traceparent": TRACE}).traceparent == TRACE
    assert events.read(structured(traceparent=other), {"Traceparent": TRACE}).traceparent == other
    assert events.read(structured(traceparent=None)).traceparent == ""


def test_the_trace_is_no_part_of_what_an_event_says_and_all_else_is() -> None:
    plain = events.read(structured())
    assert events.read(structured(traceparent=TRACE)).content_digest() == plain.content_digest()
    others: tuple[dict[str, Any], ...] = (
        {"id": "e2"},
        {"subject": ""},
        {"time": None},
        {"data": {}},
        {"dataschema": "x"},
    )
    for changes in others:
        assert events.read(structured(**changes)).content_digest() != plain.content_digest()


def test_extension_attributes_are_accepted() -> None:
    assert events.read(structured(partitionkey="k", retries=3, flag=True)).id == "e1"


def test_an_attribute_that_is_null_is_as_if_left_out() -> None:
    for name in ("subject", "time", "datacontenttype", "dataschema"):
        assert events.read(structured(**{name: None})) == events.read(structured(**{name: ...}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, bad) for name in ("specversion", "id", "source", "type") for bad in (..., None, 1, "", ["x"])),
        ("specversion", "0.3"),
        ("id", "x" * 1025),
        ("id", "a\nb"),
        ("source", "a\x7fb"),
        ("type", "nodomain"),
        ("type", "retail.*"),
        ("type", "retail.>"),
        ("type", "retail.a b"),
        ("type", "retail." + "x" * 65),
        ("type", "retail.x\n"),
        ("type", ".".join("abcdefghi")),
        ("subject", 5),
        ("subject", "x" * 1025),
        ("subject", "a\tb"),
        ("time", "yesterday"),
        ("time", "2026-11-20T12:00:00"),
        ("time", 17),
        ("datacontenttype", "text/plain"),
        ("datacontenttype", "application/xml"),
        ("datacontenttype", 3),
        ("dataschema", {}),
        ("traceparent", 3),
        ("data_base64", "aGk="),
        ("Upper", "x"),
        ("under_score", "x"),
    ],
)
def test_a_bad_attribute_is_named(name: str, value: Any) -> None:
    error = refused(structured(**{name: value}))
    assert error.pointer == f"/{name}"
    assert str(error).startswith(f"/{name}: ")


@pytest.mark.parametrize("name", ["id", "source", "type"])
def test_a_bad_attribute_is_named_in_binary_mode_too(name: str) -> None:
    data, headers = binary()
    del headers[f"ce-{name}"]
    assert refused(data, headers).pointer == f"/{name}"
    assert refused(data, headers | {f"ce-{name}": "%0a"}).pointer == f"/{name}"


@pytest.mark.parametrize("data", [b"{", b"\xff", b'"\xff"', b"[1,]", b"nan"])
def test_binary_data_that_is_not_json_is_named(data: bytes) -> None:
    assert refused(data, binary()[1]).pointer == "/data"


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b'"x"', b"1", b"{", b'{"id":"\xff"}', b"\xef\xbb\xbf{}", b"{}x"])
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    refused(data)


def test_an_event_at_the_size_limit_is_read_and_one_past_it_refused() -> None:
    room = events.MAX_EVENT_BYTES - len(structured(data=""))
    assert events.read(structured(data="x" * room)).id == "e1"
    assert "65537 bytes; 65536 are allowed" in str(refused(structured(data="x" * (room + 1))))


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_deep_nesting_is_refused_however_deep(opening: bytes) -> None:
    closing = b"]" if opening == b"[" else b"}"
    for depth in (events.MAX_DEPTH + 1, 900, 10_000):
        nested = opening * depth + b"1" + closing * depth
        whole = structured(data=...)[:-1] + b',"data":' + nested + b"}"
        assert "recursion" in str(refused(whole)).lower() or "nested" in str(refused(whole))
        refused(nested, binary()[1])


def test_data_nested_to_the_limit_is_read_and_so_is_data_that_is_only_wide() -> None:
    depth = events.MAX_DEPTH - 1
    whole = structured(data=...)[:-1] + b',"data":' + b"[" * depth + b"]" * depth + b"}"
    assert events.read(whole).content_digest().startswith("sha256:")
    assert events.read(structured(data=[{}] * 500)).id == "e1"


@given(st.binary(max_size=200), st.dictionaries(st.text(max_size=12), st.text(max_size=20), max_size=4))
def test_arbitrary_bytes_and_headers_only_ever_raise_a_malformed_event_error(
    data: bytes, headers: dict[str, str]
) -> None:
    for told in (headers, {**headers, **binary()[1]}):
        try:
            assert isinstance(events.read(data, told), CloudEvent)
        except MalformedEventError as error:
            assert str(error)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*EVENT, "traceparent", "dataschema", "extra", "Bad"]), JSON, max_size=3))
def test_any_values_of_attributes_only_ever_raise_a_malformed_event_error(changes: dict[str, Any]) -> None:
    try:
        event = events.read(structured(**changes))
    except MalformedEventError as error:
        assert error.pointer.lstrip("/") in {*changes, ""}
    else:
        assert event.content_digest() == events.read(structured(**changes)).content_digest()


@example("\ud800")
@given(st.text(alphabet=st.characters(), max_size=10))
def test_header_text_that_cannot_be_encoded_is_refused_like_any_other(text: str) -> None:
    try:
        events.read(*binary(id=text))
    except MalformedEventError as error:
        assert error.pointer == "/id"


def test_every_event_of_the_shared_retail_data_is_read(retail_data: Path) -> None:
    lines = (retail_data / "events.jsonl").read_bytes().splitlines()
    read = [events.read(line) for line in lines]
    assert len(read) == len(lines) > 0
    assert all(event.type.startswith("retail.") for event in read)
