"""Writes the cases of the pack's prompts from the sample's messages, with what the sample's shop answers to each read.

Run `python -m packs.retail.sample.cases [FILE]`; the same program always writes the same bytes.
"""

import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from packs.retail.client import Shop
from packs.retail.order import OrderViewArgs, view
from packs.retail.quote import QuoteArgs, quote
from packs.retail.shop.process import ShopProcess

SAMPLE = Path(__file__).parent
FILE = SAMPLE.parent / "prompts" / "cases" / "messages.yaml"

_ABOUT = "# Made by packs/retail/sample/cases.py from the sample's messages, its model's answers and its shop.\n"
_QUOTED = {field.name for field in msgspec.structs.fields(QuoteArgs)}


def build() -> bytes:
    """The file's content."""
    with tempfile.TemporaryDirectory() as folder, ShopProcess(SAMPLE, Path(folder) / "shop.db") as shop:
        cases = asyncio.run(_cases(shop.url))
    text = yaml.safe_dump(cases, allow_unicode=True, sort_keys=False, width=120)
    return (_ABOUT + text).encode()


async def _cases(shop_url: str) -> list[dict[str, Any]]:
    async with Shop.open(shop_url) as shop:
        return [await _case(shop, *each) for each in zip(_lines("messages"), _lines("messages-expected"), strict=True)]


async def _case(shop: Shop, event: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    message, customer = event["data"]["message"], event["data"]["user_id"]
    title, answers = _answers(message)
    case: dict[str, Any] = {"case": title, "data": event["data"]}
    if order_id := answers["order_id"]:
        case["reads"] = await _reads(shop, order_id, customer, answers)
    if expected["outcome"] == "person":
        return case | {"expect": {"person": answers.get("missing") or answers.get("cannot") or answers["note"]}}
    if expected.get("reason") == "order not found":
        return case | {"expect": {"refusal": expected["reason"]}}
    args = {name: value for name, value in answers.items() if name not in ("intent", "note", "missing")}
    args = {name: value for name, value in args.items() if name not in ("agrees", "why")} | {"user_id": customer}
    return case | {"expect": {"steps": [{"tool": _tool(answers), "args": args}]}}


async def _reads(shop: Shop, order_id: str, customer: str, answers: dict[str, Any]) -> dict[str, Any]:
    """What the shop answers to the reads of the prompts and of the playbook."""
    order = OrderViewArgs(order_id=order_id, user_id=customer)
    shown = view(order, await shop.lookup(order_id, customer, siblings=True))
    fields = {name: value for name, value in answers.items() if name in _QUOTED}
    args = msgspec.convert({**fields, "user_id": customer, "kind": _tool(answers)}, QuoteArgs)
    quoted = quote(args, await shop.lookup(order_id, customer, args.new_item_ids))
    return {"retail.order": msgspec.to_builtins(shown), "retail.quote": msgspec.to_builtins(quoted)}


def _tool(answers: dict[str, Any]) -> str:
    return str(answers["intent"]).removesuffix(".requested")


def _answers(message: str) -> tuple[str, dict[str, Any]]:
    """The title of a message's first conversation, and all that its model answers."""
    found = [each for each in _conversations() if each["when"]["user"] == message]
    answers: dict[str, Any] = {}
    for conversation in found:
        answers |= conversation["says"][0]["answer"]
    return found[0]["conversation"], answers


def _conversations() -> Iterator[dict[str, Any]]:
    yield from yaml.safe_load_all((SAMPLE / "conversations.yaml").read_text(encoding="utf-8"))


def _lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (SAMPLE / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def main(argv: list[str]) -> int:
    """Write the file named, or the pack's own."""
    (Path(argv[0]) if argv else FILE).write_bytes(build())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
