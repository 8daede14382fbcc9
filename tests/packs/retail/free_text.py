"""The real requests as free text: what their words alone say, what a competent model makes of it, what must come of it.

The rule: a request is known when the message asks for exactly one thing and names the order, each item by a name (and
options) that only items of one id in that order have, each new item by options that exactly one variant of the same
product has, the method of payment by its id, and the reason. For all else a person is asked. Nothing of the structured
requests is looked at but the expected outcome of the same line.
"""

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from mesh.scripted.conversations import Conversation, Turn, When

TYPE = "retail.message.received"
UNCLEAR = {"intent": "unclear", "order_id": ""}

_REQUESTS = re.compile(
    r"(?P<cancel>Cancel order (?=#W\d{7}))|(?P<give_back>Return (?=#W\d{7}))"
    r"|For #W\d{7}, (?P<kind>change address to|change payment to|exchange|modify) "
)
_CANCEL = re.compile(r"Cancel order (#W\d{7}) because (no longer needed|ordered by mistake)\.")
_RETURN = re.compile(r"Return (#W\d{7}) via (\w+): (.+)$")
_SWAP = re.compile(r"For (#W\d{7}), (exchange|modify) (.+); via (\w+)\.")
_PAIR = re.compile(r"([^;{}]+?) (\{[^}]*\}) to (\{[^}]*\})(?:; |$)")
_SWAPS = {"exchange": "retail.exchange.requested", "modify": "retail.change-items.requested"}


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a model makes of a message: the type of the request and its data, but for the customer and the message."""

    type: str
    data: dict[str, Any]


class Expectation(msgspec.Struct, frozen=True, kw_only=True):
    """What must come of a line: ``outcome`` is that of ``expected`` (its line), or ``person``, ``why`` in words.

    Then ``request`` is what is known all the same.
    """

    id: str
    outcome: str
    expected: dict[str, Any]
    request: Request | None = None
    why: str = ""


class Unclear(Exception):
    """The message is not enough; says why. ``request`` is what is known of it, where it is one request."""

    def __init__(self, why: str, request: Request | None = None) -> None:
        super().__init__(why)
        self.request = request


class Shop:
    """The shop's exports, as its reads would show them to a model."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.orders = self._read("orders.json")
        self.products = self._read("products.json")

    def _read(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self._folder / name).read_text(encoding="utf-8"))
        return found

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The lines of a file."""
        return [json.loads(line) for line in (self._folder / name).read_text(encoding="utf-8").splitlines()]


def events(folder: Path) -> list[dict[str, Any]]:
    """The real requests with only ``user_id`` and ``message`` left; what is no request stays as it is."""
    shop = Shop(folder)
    pairs = zip(shop.lines("events.jsonl"), shop.lines("expected.jsonl"), strict=True)
    return [event if expected["outcome"] == "rejected" else _bare(event) for event, expected in pairs]


def expectations(folder: Path) -> list[Expectation]:
    """What must come of each of ``events``, in the same order."""
    shop = Shop(folder)
    return [
        _expected(event, expected, shop)
        for event, expected in zip(events(folder), shop.lines("expected.jsonl"), strict=True)
    ]


def conversations(folder: Path) -> list[Conversation]:
    """What a competent model answers to ``classify``, ``extract`` and ``judge`` for each message.

    A prompt is told by the message as it stands in the JSON of its user turn, and by what its schema asks for.
    """
    said: dict[str, list[Conversation]] = {}
    for event, expectation in zip(events(folder), expectations(folder), strict=True):
        if expectation.outcome not in ("rejected", "conflict"):
            message = event["data"]["message"]
            said.setdefault(message, list(_said(message, expectation)))
    return [each for conversations in said.values() for each in conversations]


def understand(message: str, customer: str, shop: Shop) -> Request:
    """What a message asks for; raises ``Unclear`` where it is not enough."""
    asked = list(_REQUESTS.finditer(message))
    if not asked:
        raise Unclear("names no order and nothing that is to be done with it")
    if len(asked) > 1:
        raise Unclear(f"asks for {len(asked)} things at once")
    if found := _CANCEL.search(message):
        order_id, reason = found.groups()
        return Request(type="retail.cancel.requested", data={"order_id": order_id, "reason": reason})
    if found := _RETURN.search(message):
        order_id, method, names = found.groups()
        items = _named(names, _items(order_id, customer, shop))
        data = {"order_id": order_id, "item_ids": items, "payment_method_id": method}
        return Request(type="retail.return.requested", data=data)
    if found := _SWAP.search(message):
        order_id, kind, pairs, method = found.groups()
        known = {"order_id": order_id, "payment_method_id": method}
        try:
            old, new = _swapped(pairs, _items(order_id, customer, shop), shop)
        except Unclear as error:
            partly = Request(type=_SWAPS[kind], data={**known, "item_ids": [], "new_item_ids": []})
            raise Unclear(str(error), partly) from error
        return Request(type=_SWAPS[kind], data={**known, "item_ids": old, "new_item_ids": new})
    raise Unclear("is in words that no rule here reads")


def _bare(event: dict[str, Any]) -> dict[str, Any]:
    data = {key: event["data"][key] for key in ("user_id", "message")}
    return event | {"type": TYPE, "subject": f"message/{event['id']}", "data": data}


def _expected(event: dict[str, Any], expected: dict[str, Any], shop: Shop) -> Expectation:
    outcome = expected["outcome"]
    if outcome in ("rejected", "conflict"):
        return Expectation(id=event["id"], outcome=outcome, expected=expected)
    try:
        request = understand(event["data"]["message"], event["data"]["user_id"], shop)
    except Unclear as error:
        asked = outcome if outcome == "duplicate" else "person"
        return Expectation(id=event["id"], outcome=asked, expected=expected, why=str(error), request=error.request)
    return Expectation(id=event["id"], outcome=outcome, expected=expected, request=request)


def _items(order_id: str, customer: str, shop: Shop) -> list[dict[str, Any]]:
    """The items of an order, which the shop shows to its customer only."""
    order = shop.orders.get(order_id)
    if order is None or order["user_id"] != customer:
        raise Unclear(f"names {order_id}, which is no order of this customer")
    items: list[dict[str, Any]] = order["items"]
    return items


def _named(text: str, items: list[dict[str, Any]]) -> list[str]:
    """The ids of items by their names, and by their options where those are told."""
    found: list[str] = []
    for (name, options), count in Counter(_names(text)).items():
        wanted = ast.literal_eval(options) if options else {}
        fit = [item["item_id"] for item in items if item["name"] == name and wanted.items() <= item["options"].items()]
        if len(fit) != count:
            raise Unclear(f"names {count} {name}, of which the order has {len(fit)}")
        found += fit
    return found


def _names(text: str) -> Iterator[tuple[str, str]]:
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, _, options = part.partition(" {")
        yield name, f"{{{options}" if options else ""


def _swapped(text: str, items: list[dict[str, Any]], shop: Shop) -> tuple[list[str], list[str]]:
    old, new = [], []
    for name, told, wanted in _PAIR.findall(text):
        options, change = ast.literal_eval(told), ast.literal_eval(wanted)
        if not change:
            raise Unclear(f"does not say what it wants instead of the {name}")
        fit = [item for item in items if item["name"] == name and item["options"] == options]
        if len({item["item_id"] for item in fit}) != 1:
            raise Unclear(f"names a {name} that is not in the order")
        variants = shop.products[fit[0]["product_id"]]["variants"].values()
        instead = [variant["item_id"] for variant in variants if variant["options"] == options | change]
        if len(instead) != 1:
            raise Unclear(f"wants a {name} of which there are {len(instead)}")
        old.append(fit[0]["item_id"])
        new.append(instead[0])
    return old, new


def _said(message: str, expectation: Expectation) -> Iterator[Conversation]:
    request, title = expectation.request, f"{expectation.id}: {message[:60]}"
    shown = f'"message":{json.dumps(message, ensure_ascii=False)}'

    def answers(role: str, answer: dict[str, Any]) -> Conversation:
        when = When(asks=tuple(answer), user=shown)
        return Conversation(conversation=f"{title} ({role})", when=when, says=(Turn(answer=answer),))

    if request is None:
        yield answers("classify", UNCLEAR | {"note": f"It {expectation.why}."})
        return
    order_id = {"order_id": request.data["order_id"]}
    yield answers("classify", {"intent": request.type, **order_id, "note": ""})
    fields = {name: value for name, value in request.data.items() if name not in order_id}
    yield answers("extract", {**fields, "missing": expectation.why and f"It {expectation.why}."})
    if not expectation.why:
        yield answers("judge", {"agrees": True, "why": "The steps are what the message asks for."})
