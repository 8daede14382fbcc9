"""The sample's messages: what its model answers to them is what the shop does with them, or what a person is asked."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from mesh.scripted.asked import read
from mesh.scripted.conversations import Turn, load
from mesh.scripted.replies import Refused
from mesh.scripted.script import Script
from packs.retail.events import EVENTS
from packs.retail.sample.cases import FILE, build
from packs.retail.sample.generate import FOLDER
from packs.retail.shop.process import ShopProcess


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def model() -> Script:
    script = Script()
    script.add(load(FOLDER / "conversations.yaml"))
    return script


def answer(model: Script, message: str, *properties: str) -> Any:
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in properties}}
    body = {
        "model": "claude-haiku-4-5",
        "max_tokens": 1000,
        "tools": [{"name": "answer", "input_schema": schema}],
        "messages": [{"role": "user", "content": f"The customer writes:\n{message}\nThe end."}],
    }
    _, turn = model.next(read(body))
    assert isinstance(turn, Turn)
    return turn.answer


def fields(kind: str) -> Iterator[str]:
    (event,) = [event for event in EVENTS if event.name == kind]
    yield from (name for name in event.data.__struct_fields__ if name not in ("user_id", "message", "order_id"))
    yield "missing"


def test_the_shop_does_what_is_expected_with_what_the_model_answers(
    model: Script, start_shop: Callable[..., ShopProcess]
) -> None:
    outcomes = []
    with httpx2.Client(base_url=start_shop().url, trust_env=False) as shop:
        for event, expected in zip(lines("messages.jsonl"), lines("messages-expected.jsonl"), strict=True):
            message, customer = event["data"]["message"], event["data"]["user_id"]
            outcomes.append(expected["outcome"])
            sorted_as = answer(model, message, "intent", "order_id", "note")
            known = sorted_as["intent"] not in ("unclear", "other")
            data = answer(model, message, *fields(sorted_as["intent"])) if known else {"missing": "all"}
            assert bool(data.pop("missing")) == (expected["outcome"] == "person")
            if expected["outcome"] == "person":
                continue
            kind = sorted_as["intent"].split(".")[1]
            body = {**data, "order_id": sorted_as["order_id"], "user_id": customer, "kind": kind}
            done = shop.post("/changes", json=body, headers={"Idempotency-Key": event["id"]})
            if expected["outcome"] == "refused":
                assert done.status_code == 409, (event, done.text)
            else:
                assert (done.status_code, done.json()["amount"]) == (200, round(expected["amount"] * 100)), event
    assert {"completed", "refused", "person"} == set(outcomes)


def test_the_cases_of_the_prompts_are_what_the_sample_makes_of_them() -> None:
    assert FILE.read_bytes() == build()


def test_an_unknown_message_is_not_answered_by_accident(model: Script) -> None:
    with pytest.raises(Refused, match="no conversation answers"):
        answer(model, "Please cancel #W9999999, it was ordered by mistake.", "intent", "order_id")
