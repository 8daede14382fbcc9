"""The corpus of free text says what it claims: what can be known from the words is what the customer asked for."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from tests.packs.retail.free_text import TYPE, conversations, events, expectations


def test_what_the_words_suffice_for_is_what_was_asked_for(retail_data: Path) -> None:
    asked = [json.loads(line) for line in (retail_data / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    wrong = []
    for event, expectation in zip(asked, expectations(retail_data), strict=True):
        if expectation.request and not expectation.why:
            asked_for = {key: value for key, value in event["data"].items() if key not in ("user_id", "message")}
            if (event["type"], canonical(asked_for)) != (expectation.request.type, canonical(expectation.request.data)):
                wrong.append(expectation.id)
    assert wrong == []


def canonical(data: dict[str, Any]) -> dict[str, Any]:
    """A request without the order of its items, which is nobody's concern as long as pairs stay pairs."""
    ids = data.get("item_ids", [])
    return data | {
        "item_ids": sorted(ids),
        "new_item_ids": sorted(zip(ids, data.get("new_item_ids", ids), strict=True)),
    }


def test_the_numbers_are_what_the_report_says(retail_data: Path) -> None:
    found = expectations(retail_data)
    assert len(found) == len(events(retail_data)) == 503
    known = Counter(each.request.type for each in found if each.request and each.outcome in ("completed", "refused"))
    assert known == {
        "retail.cancel.requested": 56,
        "retail.change-items.requested": 45,
        "retail.exchange.requested": 57,
        "retail.return.requested": 54,
    }
    outcomes = {"completed": 209, "refused": 3, "person": 232, "duplicate": 40, "conflict": 10, "rejected": 9}
    assert Counter(each.outcome for each in found) == outcomes


def test_only_the_customer_and_the_words_are_left(retail_data: Path) -> None:
    told = [event for event in events(retail_data) if event["type"] == TYPE]
    assert {tuple(sorted(event["data"])) for event in told} == {("message", "user_id")}
    assert all(event["subject"] == f"message/{event['id']}" for event in told)


def test_every_message_has_its_conversations(retail_data: Path) -> None:
    said = conversations(retail_data)
    titles = [each.conversation for each in said]
    assert len(set(titles)) == len(titles)
