"""The pack's own sample is what its generator makes, and the shop does what it expects."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2

from packs.retail.sample.generate import FOLDER, build, main
from packs.retail.shop.process import ShopProcess


def _lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / name).read_text().splitlines()]


def test_the_files_are_what_the_generator_makes(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 0
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == build() == {name: (FOLDER / name).read_bytes() for name in made}


def test_the_sample_holds_every_kind_of_request_and_of_outcome() -> None:
    expected = _lines("expected.jsonl")
    outcomes = Counter(line["outcome"] for line in expected)
    assert outcomes.keys() == {"completed", "refused", "rejected", "duplicate", "conflict"}
    assert Counter(line.get("reason") for line in expected)["above the limit"] == 1
    assert sum(line.get("amount", 0) > 500 for line in expected) == 12
    completed = {line["id"] for line in expected if line["outcome"] == "completed"}
    kinds = {event["type"] for event in _lines("events.jsonl") if event["id"] in completed}
    assert len(kinds) == 6


def test_each_order_and_each_gift_card_matters_to_one_request_only() -> None:
    cases = list(zip(_lines("events.jsonl"), _lines("expected.jsonl"), strict=True))
    requests = [event for event, line in cases if line["outcome"] in {"completed", "refused"}]
    assert max(Counter(event["subject"] for event in requests).values()) == 1
    moved = Counter(card for _, line in cases for card in line.get("gift_cards", {}))
    assert max(moved.values()) == 1


def test_the_shop_does_with_the_sample_what_is_expected(start_shop: Callable[..., ShopProcess]) -> None:
    cases = list(zip(_lines("events.jsonl"), _lines("expected.jsonl"), strict=True))
    with httpx2.Client(base_url=start_shop().url, trust_env=False) as shop:
        for event, line in reversed(cases):
            body = {k: v for k, v in event["data"].items() if k != "message"} | {"kind": event["type"].split(".")[1]}
            if line["outcome"] not in {"completed", "refused"} or line.get("reason") == "above the limit":
                continue
            answer = shop.post("/changes", json=body, headers={"Idempotency-Key": event["id"]})
            if line["outcome"] == "refused":
                assert answer.status_code == 409, (event, answer.text)
                continue
            assert answer.status_code == 200, (event, answer.text)
            assert answer.json()["amount"] == round(line["amount"] * 100)
            assert answer.json()["gift_cards"] == line["gift_cards"]
            assert shop.get("/lookup", params={"order": body["order_id"]}).json()["order"] == line["order"]
