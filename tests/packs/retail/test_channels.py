"""What can be seen in real customers' words: how often it means what it says."""

from collections import Counter
from pathlib import Path

import msgspec

from mesh.finding import find
from packs.retail.events import EVENTS, MESSAGE, MessageReceived
from tests.packs.retail.storefront import lines

KIND = {kind.name: kind for kind in EVENTS}[MESSAGE]


def test_a_case_is_told_where_it_is_certain_and_confidences_are_what_was_counted(retail_data: Path) -> None:
    seen, right, cases = Counter[str](), Counter[str](), Counter[bool]()
    for event in lines(retail_data / "events.jsonl"):
        data = event.get("data")
        if not isinstance(data, dict) or not isinstance(data.get("message"), str):
            continue
        found = find(msgspec.json.encode({"message": data["message"]}), ("/message",), KIND.finds)
        kind = event["type"].split(".")[1]
        for intent in {each.value for each in found if each.name == "intent"}:
            seen[intent] += 1
            right[intent] += intent == kind
        assert KIND.case is not None
        said = MessageReceived(user_id="u", message=data["message"] or "-")
        if case := KIND.case(said, found):
            cases[case == f"{kind}/{data['order_id'].removeprefix('#')}/u"] += 1
    stated = {finder.value: finder.confidence for finder in KIND.finds if finder.name == "intent"}
    assert {intent: round(right[intent] / seen[intent], 2) for intent in seen} == stated
    assert cases[True] >= 200
    assert cases[False] == 0
