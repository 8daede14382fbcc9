"""Writes the sample's files; the same program always writes the same bytes.

Run `python -m packs.retail.sample.generate [FOLDER]`. What must come of each request is computed by the shop's rules.
"""

import json
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from packs.retail.sample.catalogue import products, users
from packs.retail.sample.stories import ABOVE_LIMIT, Stories, Story, tell
from packs.retail.shop.documents import Order, User, Variant, variants_of
from packs.retail.shop.rules import RuleViolation, apply_request, balance_number, dollars

FOLDER = Path(__file__).parent
SEED = 20261120
LIMIT_CENTS = 1_000_000  # above 10,000.00 USD the company never does it: the policy's limit, not the shop's

REASONS = {
    "order_not_found": "order not found",
    "not_owner": "order belongs to another customer",
    "not_pending": "the order is not pending",
    "not_delivered": "the order is not delivered",
    "item_not_in_order": "item not in the order",
    "payment_method_not_found": "payment method not found",
    "payment_method_not_allowed": "refund only to the first payment's method or a gift card",
    "variant_not_available": "the new item is not available",
    ABOVE_LIMIT: ABOVE_LIMIT,
    "insufficient_gift_card": "insufficient gift card balance",
}

# what is not a request, by what is wrong with it
MALFORMED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("return", {"order_id": "#W5550001"}),
    ("cancel", {}),
    ("return", {"user_id": 12, "order_id": ["#W5550001"], "item_ids": "all of them", "payment_method_id": None}),
    ("return", {"user_id": "USER", "order_id": "#W5550001", "item_ids": [], "payment_method_id": "credit_card_1"}),
    ("cancel", {"user_id": "USER", "order_id": "#W5550001", "reason": "the moon was full"}),
    (
        "exchange",
        {
            "user_id": "USER",
            "order_id": "#W5550001",
            "item_ids": ["1"],
            "new_item_ids": ["2", "3"],
            "payment_method_id": "credit_card_1",
        },
    ),
)


def build() -> dict[str, bytes]:
    """Give every file's content by its name."""
    chance = random.Random(SEED)
    goods, people = products(chance), users(chance, 30)
    stories = Stories(chance, goods, people)
    told = tell(stories)
    lines, expected = _requests(told, stories.orders, stories.users, variants_of(goods))
    _oddities(lines, expected, told, sorted(people)[0])
    return {
        "orders.json": _by_id(stories.orders),
        "users.json": _by_id(stories.users),
        "products.json": _by_id(goods),
        "events.jsonl": _lines(lines),
        "expected.jsonl": _lines(expected),
    }


def _requests(
    told: list[Story], orders: Mapping[str, Order], people: Mapping[str, User], variants: Mapping[str, Variant]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    lines, expected = [], []
    for n, story in enumerate(told):
        event = _event(n, n, story.kind, story.data | {"message": story.message})
        outcome = _outcome(story, orders, people, variants)
        if (outcome["outcome"], outcome.get("reason")) != (story.outcome, REASONS.get(story.code)):
            raise RuntimeError(f"story {n} ({story.kind}) was meant as {story.outcome} {story.code}, is {outcome}")
        lines.append(event)
        expected.append({"id": event["id"]} | outcome)
    return lines, expected


def _outcome(
    story: Story, orders: Mapping[str, Order], people: Mapping[str, User], variants: Mapping[str, Variant]
) -> dict[str, Any]:
    request = story.request()
    try:
        applied = apply_request(request, orders.get(request.order_id), people.get(request.user_id), variants)
    except RuleViolation as violation:
        return {"outcome": "refused", "reason": REASONS[violation.code]}
    if applied.amount > LIMIT_CENTS:
        return {"outcome": "refused", "reason": ABOVE_LIMIT}
    return {
        "outcome": "completed",
        "amount": dollars(applied.amount),
        "order": msgspec.to_builtins(applied.order),
        "gift_cards": {card: balance_number(balance) for card, balance in applied.gift_cards.items()},
    }


def _oddities(lines: list[dict[str, Any]], expected: list[dict[str, Any]], told: list[Story], stranger: str) -> None:
    """Append what is not a fresh request: malformed, of an unknown type, repeated, repeated with other content."""
    first = len(lines)
    odd = [(f"{kind}.requested", data, "malformed") for kind, data in MALFORMED]
    odd.append(("serenade.requested", {"user_id": "USER", "order_id": "#W5550001"}, "unknown event type"))
    for n, (event_type, data, reason) in enumerate(odd, start=first):
        data = {key: stranger if value == "USER" else value for key, value in data.items()}
        lines.append(_event(n, n, event_type.removesuffix(".requested"), data))
        expected.append({"id": lines[-1]["id"], "outcome": "rejected", "reason": reason})
    for n in (3, 11, 19, 27, 35, 3):
        lines.append(lines[n])
        expected.append({"id": lines[n]["id"], "outcome": "duplicate"})
    for n in (8, 21):
        other = told[n].data | {"user_id": stranger, "message": "not what was said before"}
        lines.append(_event(n, n, told[n].kind, other))
        expected.append({"id": lines[n]["id"], "outcome": "conflict"})


def _event(n: int, second: int, kind: str, data: dict[str, Any]) -> dict[str, Any]:
    order_id = data.get("order_id", "-")
    return {
        "specversion": "1.0",
        "id": f"sample-{n:04}",
        "source": "/storefront",
        "type": f"retail.{kind}.requested",
        "subject": order_id if isinstance(order_id, str) else str(order_id),
        "time": f"2026-11-20T08:{second // 60:02}:{second % 60:02}Z",
        "datacontenttype": "application/json",
        "data": data,
    }


def _by_id(documents: Mapping[str, msgspec.Struct]) -> bytes:
    """Write an object with one compact entry a line, sorted by id."""
    entries = (f"{json.dumps(key)}:{msgspec.json.encode(documents[key]).decode()}" for key in sorted(documents))
    return ("{\n" + ",\n".join(entries) + "\n}\n").encode()


def _lines(records: list[dict[str, Any]]) -> bytes:
    return b"".join(msgspec.json.encode(record) + b"\n" for record in records)


def main(argv: list[str]) -> int:
    """Write the files to the folder named, or next to this module."""
    folder = Path(argv[0]) if argv else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in build().items():
        (folder / name).write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
