"""What perception makes of an event's bytes: whatever is wrong is found here, and said so that it can be mended."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.admission import Accepted, Rejected, read
from mesh.canonical import task_id
from mesh.quarantine import Reason
from tests.ledger_pack.pack import pack

PACKS = {"ledger": pack}
GOOD: dict[str, Any] = {
    "specversion": "1.0",
    "id": "e1",
    "source": "https://ledger.example",
    "type": "ledger.entry.requested",
    "data": {"account": "a", "amount": 100, "kind": "post"},
}


def event(**changes: Any) -> bytes:
    """The good event with changes; ``None`` leaves an attribute out."""
    return msgspec.json.encode({name: value for name, value in (GOOD | changes).items() if value is not None})


def test_a_good_event_is_accepted_under_its_task_and_entity() -> None:
    found = read(event(), {}, PACKS)
    assert isinstance(found, Accepted)
    assert (found.domain, found.task_id) == ("ledger", task_id("https://ledger.example", "e1"))
    assert found.entity == found.task_id
    about = read(event(subject="order 1"), {}, PACKS)
    assert isinstance(about, Accepted)
    assert about.entity == "order 1"


def test_binary_mode_says_the_same() -> None:
    headers = {f"ce-{name}": str(GOOD[name]) for name in ("specversion", "id", "source", "type")}
    found = read(msgspec.json.encode(GOOD["data"]), headers, PACKS)
    structured = read(event(), {}, PACKS)
    assert isinstance(found, Accepted)
    assert isinstance(structured, Accepted)
    assert (found.task_id, found.digest) == (structured.task_id, structured.digest)


def test_the_digest_is_of_what_is_said_not_of_how_it_is_written() -> None:
    spaced = msgspec.json.format(event(), indent=4)
    turned = msgspec.json.encode(dict(reversed(GOOD.items())))
    digests = {
        found.digest for data in (event(), spaced, turned) if isinstance(found := read(data, {}, PACKS), Accepted)
    }
    assert len(digests) == 1
    other = read(event(data={**GOOD["data"], "amount": 101}), {}, PACKS)
    assert isinstance(other, Accepted)
    assert other.digest not in digests


BAD: list[tuple[str, bytes, Reason, str]] = [
    ("no JSON", b"hello", Reason.MALFORMED, "not a CloudEvent in JSON"),
    ("no UTF-8", b'{"id": "\xff"}', Reason.MALFORMED, "not a CloudEvent in JSON"),
    ("nothing", b"", Reason.MALFORMED, "not a CloudEvent in JSON"),
    ("a list", b"[1]", Reason.MALFORMED, "not a CloudEvent in JSON"),
    ("a deep one", b"[" * 40_000, Reason.MALFORMED, "not a CloudEvent in JSON"),
    ("too large", event(data={**GOOD["data"], "memo": "x" * 65_536}), Reason.MALFORMED, "65536 are allowed"),
    ("no id", event(id=None), Reason.MALFORMED, "/id: is required"),
    ("an empty id", event(id=""), Reason.MALFORMED, "/id: must be 1 to"),
    ("a control character", event(source="a\nb"), Reason.MALFORMED, "/source: must be"),
    ("another version", event(specversion="0.3"), Reason.MALFORMED, "/specversion"),
    ("a time without offset", event(time="2026-01-01T00:00:00"), Reason.MALFORMED, "/time"),
    ("not JSON data", event(datacontenttype="text/plain"), Reason.MALFORMED, "/datacontenttype"),
    ("binary data", event(data_base64="aGVsbG8="), Reason.MALFORMED, "/data_base64"),
    ("an attribute in capitals", event(Extra="x"), Reason.MALFORMED, "/Extra"),
    ("a type of one token", event(type="ledger"), Reason.MALFORMED, "/type"),
    ("no data", event(data=None), Reason.MALFORMED, "/data"),
    ("data without a field", event(data={"account": "a"}), Reason.MALFORMED, "amount"),
    ("data of another type", event(data={**GOOD["data"], "amount": "1"}), Reason.MALFORMED, "$.amount"),
    ("an unknown field", event(data={**GOOD["data"], "more": 1}), Reason.MALFORMED, "more"),
    ("an unknown type", event(type="ledger.other"), Reason.UNKNOWN_TYPE, "pack ledger knows ledger.entry.requested"),
    ("an unknown domain", event(type="shop.sold"), Reason.UNKNOWN_TYPE, "no pack for 'shop'"),
]


@pytest.mark.parametrize(("name", "data", "reason", "detail"), BAD, ids=[name for name, *_ in BAD])
def test_what_is_wrong_is_said(name: str, data: bytes, reason: Reason, detail: str) -> None:
    found = read(data, {}, PACKS)
    assert isinstance(found, Rejected)
    assert found.reason is reason
    assert detail in found.detail


def test_what_could_be_read_of_its_identity_is_kept() -> None:
    found = read(event(data=None), {}, PACKS)
    assert isinstance(found, Rejected)
    assert (found.event_id, found.event_source) == ("e1", "https://ledger.example")


@given(st.binary(max_size=200), st.dictionaries(st.sampled_from(["ce-specversion", "ce-id", "traceparent"]), st.text()))
def test_any_bytes_are_accepted_or_rejected_and_never_raise(data: bytes, headers: dict[str, str]) -> None:
    assert isinstance(read(data, headers, PACKS), Accepted | Rejected)
