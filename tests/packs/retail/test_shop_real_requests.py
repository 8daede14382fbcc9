"""Every request of the shared data over HTTP comes to exactly what is expected of it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from packs.retail.shop.process import ShopProcess

CODES = {
    "order belongs to another customer": "not_owner",
    "non-pending order cannot be cancelled": "not_pending",
    "non-delivered order cannot be returned": "not_delivered",
    "payment method not found": "payment_method_not_found",
    "order not found": "order_not_found",
    "insufficient gift card balance to pay for the new item": "insufficient_gift_card",
    "insufficient gift card balance to pay for the order": "insufficient_gift_card",
}


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _body(event: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in event["data"].items() if k != "message"} | {"kind": event["type"].split(".")[1]}


def _to_the_cent(value: Any) -> Any:
    """Give the value with every number as whole cents, so that float noise in the data does not count."""
    if isinstance(value, dict):
        return {k: _to_the_cent(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_to_the_cent(v) for v in value]
    return round(value * 100) if isinstance(value, int | float) and not isinstance(value, bool) else value


@pytest.fixture
def client(start_shop: Callable[..., ShopProcess], retail_data: Path) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=start_shop(data=retail_data).url, trust_env=False) as client:
        yield client


@pytest.mark.timeout(60)
def test_every_completed_request_gives_the_expected_order_and_amount(client: httpx2.Client, retail_data: Path) -> None:
    before = client.get("/export").json()
    cases = zip(_lines(retail_data / "events.jsonl"), _lines(retail_data / "expected.jsonl"), strict=True)
    completed = [(event, expected) for event, expected in cases if expected["outcome"] == "completed"]
    assert completed
    for event, expected in completed:
        answer = client.post("/changes", json=_body(event), headers={"Idempotency-Key": event["id"]})
        assert answer.status_code == 200, (event, answer.text)
        assert answer.json()["amount"] == round(expected["amount"] * 100), event
        assert _to_the_cent(answer.json()["gift_cards"]) == _to_the_cent(expected["gift_cards"]), event
    after = client.get("/export").json()
    wanted = {expected["order"]["order_id"]: expected["order"] for _, expected in completed}
    for order_id, order in after["orders"].items():
        assert _to_the_cent(order) == _to_the_cent(wanted.get(order_id, before["orders"][order_id]))
    balances = {card: balance for _, expected in completed for card, balance in expected["gift_cards"].items()}
    for user_id, user in after["users"].items():
        for card, method in user["payment_methods"].items():
            old = before["users"][user_id]["payment_methods"][card]
            kept = old | ({"balance": balances[card]} if card in balances else {})
            assert _to_the_cent(method) == _to_the_cent(kept)


def test_every_refused_request_is_refused_for_its_reason_and_changes_nothing(
    client: httpx2.Client, retail_data: Path
) -> None:
    before = client.get("/export").json()
    cases = zip(_lines(retail_data / "events.jsonl"), _lines(retail_data / "expected.jsonl"), strict=True)
    refused = [(event, expected) for event, expected in cases if expected["outcome"] == "refused"]
    assert refused
    for event, expected in refused:
        answer = client.post("/changes", json=_body(event), headers={"Idempotency-Key": event["id"]})
        assert (answer.status_code, answer.json()["error"]) == (409, CODES[expected["reason"]]), event
        assert client.get(f"/changes/{event['id']}").status_code == 404
    assert client.get("/export").json() == before


def test_the_export_of_an_untouched_shop_is_its_input(client: httpx2.Client, retail_data: Path) -> None:
    exported = client.get("/export").json()
    assert exported["orders"] == json.loads((retail_data / "orders.json").read_text())
    assert exported["users"] == json.loads((retail_data / "users.json").read_text())


def test_malformed_requests_are_never_applied(client: httpx2.Client, retail_data: Path) -> None:
    cases = zip(_lines(retail_data / "events.jsonl"), _lines(retail_data / "expected.jsonl"), strict=True)
    for event, expected in cases:
        if expected["outcome"] == "rejected":
            answer = client.post("/changes", json=_body(event), headers={"Idempotency-Key": event["id"]})
            assert answer.status_code in {400, 409}, event
    assert client.get("/changes").json() == {"changes": []}
