"""Which requests the retail pack takes, held against the shared data and the edges of each bound."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mesh.admission import Accepted, Rejected, read
from mesh.quarantine import Reason
from packs.retail.events import EVENTS
from tests.packs.retail.storefront import PACKS, lines

RETURN: dict[str, Any] = {
    "order_id": "#W1234567",
    "user_id": "ann_1",
    "item_ids": ["1"],
    "payment_method_id": "paypal_1",
}
SWAP = RETURN | {"new_item_ids": ["2"]}
CANCEL: dict[str, Any] = {"order_id": "#W1234567", "user_id": "ann_1", "reason": "no longer needed"}
ADDRESS: dict[str, Any] = {
    "order_id": "#W1234567",
    "user_id": "ann_1",
    "address1": "1 Kiln Row",
    "address2": "",
    "city": "Galena",
    "country": "USA",
    "state": "IL",
    "zip": "61036",
}
PAYMENT: dict[str, Any] = {"order_id": "#W1234567", "user_id": "ann_1", "payment_method_id": "paypal_1"}
GOOD = {
    "retail.return.requested": RETURN,
    "retail.exchange.requested": SWAP,
    "retail.cancel.requested": CANCEL,
    "retail.change-items.requested": SWAP,
    "retail.change-address.requested": ADDRESS,
    "retail.change-payment.requested": PAYMENT,
}


def _read(kind: str, data: dict[str, Any]) -> Accepted | Rejected:
    event = {"specversion": "1.0", "id": "1", "source": "/test", "type": kind, "data": data}
    return read(json.dumps(event).encode(), {}, PACKS)


def test_every_line_of_the_shared_data_is_accepted_or_rejected_as_expected(retail_data: Path) -> None:
    raw = (retail_data / "events.jsonl").read_bytes().splitlines()
    reasons = {"malformed": Reason.MALFORMED, "unknown event type": Reason.UNKNOWN_TYPE}
    rejected = 0
    for line, expected in zip(raw, lines(retail_data / "expected.jsonl"), strict=True):
        outcome = read(line, {}, PACKS)
        if expected["outcome"] == "rejected":
            assert isinstance(outcome, Rejected), line
            assert outcome.reason is reasons[expected["reason"]], (line, outcome)
            assert outcome.event_id == expected["id"]
            rejected += 1
        else:
            assert isinstance(outcome, Accepted), (line, outcome)
            assert (outcome.domain, outcome.entity) == ("retail", json.loads(line)["subject"])
    assert rejected == 9


@pytest.mark.parametrize("kind", GOOD)
def test_each_kind_takes_unknown_fields_and_the_customers_words(kind: str) -> None:
    assert isinstance(_read(kind, GOOD[kind]), Accepted)
    assert isinstance(_read(kind, GOOD[kind] | {"channel": {"app": 7}, "message": "Please! \u2764"}), Accepted)


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize(
    "bad",
    [
        {"order_id": "#W123456"},
        {"order_id": "#W12345678"},
        {"order_id": "#W1234567\n"},
        {"order_id": "#W\u0661234567"},
        {"order_id": None},
        {"user_id": ""},
        {"user_id": 7},
        {"user_id": "ann\n1"},
        {"user_id": "a" * 101},
        {"message": ["text"]},
        {"message": "x" * 10_001},
    ],
)
def test_what_all_kinds_share_is_held_to_its_bounds(kind: str, bad: dict[str, Any]) -> None:
    outcome = _read(kind, GOOD[kind] | bad)
    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.MALFORMED
    assert next(iter(bad)) in outcome.detail


@pytest.mark.parametrize("kind", GOOD)
def test_no_field_but_the_message_may_be_left_out(kind: str) -> None:
    for name in GOOD[kind]:
        short = {key: value for key, value in GOOD[kind].items() if key != name}
        outcome = _read(kind, short)
        assert isinstance(outcome, Rejected), name
        assert name in outcome.detail


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        ("retail.return.requested", {"item_ids": []}),
        ("retail.return.requested", {"item_ids": ["1"] * 101}),
        ("retail.return.requested", {"item_ids": "1"}),
        ("retail.return.requested", {"item_ids": [1]}),
        ("retail.return.requested", {"payment_method_id": None}),
        ("retail.exchange.requested", {"new_item_ids": ["1", "2"]}),
        ("retail.exchange.requested", {"new_item_ids": []}),
        ("retail.change-items.requested", {"item_ids": ["1", "2"]}),
        ("retail.cancel.requested", {"reason": "changed my mind"}),
        ("retail.cancel.requested", {"reason": "No longer needed"}),
        ("retail.change-address.requested", {"city": ""}),
        ("retail.change-address.requested", {"address2": None}),
        ("retail.change-address.requested", {"zip": 61036}),
        ("retail.change-address.requested", {"address1": "x" * 201}),
        ("retail.change-payment.requested", {"payment_method_id": "a b"}),
    ],
)
def test_what_a_kind_asks_for_is_held_to_its_bounds(kind: str, bad: dict[str, Any]) -> None:
    outcome = _read(kind, GOOD[kind] | bad)
    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.MALFORMED


def test_a_hundred_items_are_not_too_many() -> None:
    assert isinstance(_read("retail.return.requested", RETURN | {"item_ids": ["1"] * 100}), Accepted)


def test_what_the_customer_typed_is_tainted_and_nothing_else() -> None:
    typed = {"message", "address", "address1", "address2", "city", "country", "state", "zip"}
    for kind in EVENTS:
        fields = {field.name for field in msgspec.structs.fields(kind.data)}
        assert {pointer.removeprefix("/") for pointer in kind.taint} == fields & typed, kind.name
