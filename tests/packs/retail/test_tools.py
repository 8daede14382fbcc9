"""The shop's tools as the executor runs them: retries that are safe, and doubts that are settled."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2
import msgspec
import pytest

from mesh.errors import NotSentError, ToolRefusedError, UncertainError
from mesh.records import Json
from mesh.toolbox import Toolbox
from mesh.tools import Recovery
from packs.retail.arguments import ARGUMENTS
from packs.retail.client import Shop
from packs.retail.pack import RetailOptions, tools
from packs.retail.shop.faults import Faults
from packs.retail.shop.process import ShopProcess
from tests.packs.retail.storefront import toolbox

StartShop = Callable[..., ShopProcess]


def _json(value: Any) -> Json:
    return msgspec.Raw(msgspec.json.encode(value))


def _export(url: str) -> dict[str, Any]:
    exported: dict[str, Any] = httpx2.get(f"{url}/export", trust_env=False).json()
    return exported


def _keys(url: str) -> list[str]:
    return [change["key"] for change in httpx2.get(f"{url}/changes", trust_env=False).json()["changes"]]


def _set(url: str, **faults: Any) -> None:
    httpx2.put(f"{url}/faults", json=faults, trust_env=False).raise_for_status()


def _cancellation(url: str) -> Json:
    order = next(order for order in _export(url)["orders"].values() if order["status"] == "pending")
    paid = round(order["payment_history"][0]["amount"] * 100)
    args = {"order_id": order["order_id"], "user_id": order["user_id"], "reason": "no longer needed"}
    return _json(args | {"expect_amount": paid})


async def _call(box: Toolbox, tool: str, args: Json, key: str = "wm-t-change") -> dict[str, Any]:
    answer = await box.call(box.find(tool), args, key=key, epoch=1, call_by=time.time() + 30)
    decoded: dict[str, Any] = msgspec.json.decode(answer)
    return decoded


async def _verify(box: Toolbox, tool: str, args: Json, key: str = "wm-t-change") -> dict[str, Any] | None:
    answer = await box.verify(box.find(tool), args, key=key, epoch=1)
    decoded: dict[str, Any] | None = None if answer is None else msgspec.json.decode(answer)
    return decoded


@asynccontextmanager
async def _box(url: str, **options: Any) -> AsyncIterator[Toolbox]:
    async with Shop.open(url) as shop:
        yield toolbox({"shop": shop}, **options)


def test_every_tool_of_the_pack_says_how_its_effects_are_settled() -> None:
    by_name = {tool.name: tool for tool in tools(RetailOptions())}
    others = {"retail.quote", "retail.order", "retail.customer", "retail.hand-over"}
    assert by_name.keys() == ARGUMENTS.keys() | others
    for name, kind in ARGUMENTS.items():
        assert by_name[name].args is kind
        assert by_name[name].recovery is Recovery.IDEMPOTENT
        assert by_name[name].verify is not None
    assert by_name["retail.quote"].read_only
    assert by_name["retail.order"].read_only
    assert by_name["retail.customer"].read_only
    verifiable = {tool.name: tool.recovery for tool in tools(RetailOptions(recovery="verifiable"))}
    assert verifiable["retail.return"] is verifiable["retail.undo"] is Recovery.VERIFIABLE
    by_smtp = {tool.name: tool for tool in tools(RetailOptions(smtp_url="smtp://mail"))}
    assert by_smtp["retail.notify"].recovery is Recovery.MANUAL


async def test_an_error_after_the_commit_is_settled_by_the_same_key(start_shop: StartShop) -> None:
    url = start_shop(faults=Faults(error_after_rate=1.0)).url
    async with _box(url) as box:
        answer = await _call(box, "retail.cancel", _cancellation(url))
    assert answer["replayed"] is True
    assert _keys(url) == ["wm-t-change"]


async def test_an_error_before_anything_was_done_stays_in_doubt_until_the_shop_is_asked(start_shop: StartShop) -> None:
    url = start_shop(faults=Faults(error_rate=1.0)).url
    args = _cancellation(url)
    async with _box(url) as box:
        with pytest.raises(UncertainError):
            await _call(box, "retail.cancel", args)
        assert await _verify(box, "retail.cancel", args) is None
    assert _keys(url) == []


async def test_a_shop_that_ignores_keys_is_asked_instead_of_called_again(start_shop: StartShop) -> None:
    url = start_shop(faults=Faults(error_after_rate=1.0, keys="ignore")).url
    args = _cancellation(url)
    async with _box(url, recovery="verifiable") as box:
        with pytest.raises(UncertainError):
            await _call(box, "retail.cancel", args)
        answer = await _verify(box, "retail.cancel", args)
        assert answer is not None and answer["order_id"] == msgspec.json.decode(args)["order_id"]
    assert _keys(url) == ["wm-t-change"]


async def test_a_shop_that_answers_too_late_is_asked_what_it_did(start_shop: StartShop) -> None:
    url = start_shop(faults=Faults(delay_ms=2_100)).url
    args = _cancellation(url)
    async with _box(url, recovery="verifiable") as box:
        with pytest.raises(UncertainError):
            await _call(box, "retail.cancel", args)
        async with asyncio.timeout(5):
            while (answer := await _verify(box, "retail.cancel", args)) is None:
                pass  # the shop is still at it: each turn is a request to it
    assert answer["kind"] == "cancel"
    assert _keys(url) == ["wm-t-change"]


async def test_a_crash_after_the_commit_is_settled_once_the_shop_is_back(start_shop: StartShop) -> None:
    dying = start_shop(faults=Faults(crash_after_commit=1))
    args = _cancellation(dying.url)
    async with _box(dying.url) as box:
        with pytest.raises(UncertainError):
            await _call(box, "retail.cancel", args)
        dying.wait()
        with pytest.raises(NotSentError):
            await _verify(box, "retail.cancel", args)
    back = start_shop(port=urlsplit(dying.url).port)
    async with _box(back.url) as box:
        found = await _verify(box, "retail.cancel", args)
        assert found is not None
        assert await _call(box, "retail.cancel", args) == found
    assert _keys(back.url) == ["wm-t-change"]


async def test_a_shop_that_is_down_was_never_sent_anything(start_shop: StartShop) -> None:
    running = start_shop()
    args = _cancellation(running.url)
    running.stop()
    async with _box(running.url) as box:
        with pytest.raises(NotSentError):
            await _call(box, "retail.cancel", args)


async def test_a_price_that_differs_from_the_plans_is_refused(start_shop: StartShop) -> None:
    url = start_shop().url
    args = msgspec.json.decode(_cancellation(url))
    async with _box(url) as box:
        with pytest.raises(ToolRefusedError) as refused:
            await _call(box, "retail.cancel", _json(args | {"expect_amount": args["expect_amount"] - 1}))
        assert refused.value.code == "amount_differs"
        with pytest.raises(ToolRefusedError) as refused:
            await _call(box, "retail.cancel", _json({k: v for k, v in args.items() if k != "expect_amount"}))
        assert refused.value.code == "invalid_arguments"


async def test_a_refusal_by_the_shop_is_not_tried_again(start_shop: StartShop) -> None:
    url = start_shop(faults=Faults(refuse_kinds=("cancel",))).url
    async with _box(url) as box:
        with pytest.raises(ToolRefusedError) as refused:
            await _call(box, "retail.cancel", _cancellation(url))
    assert refused.value.code == "refused_by_fault"


@pytest.mark.parametrize("recovery", ["idempotent", "verifiable"])
async def test_an_undo_takes_back_what_happened_under_the_key_it_names(start_shop: StartShop, recovery: str) -> None:
    url = start_shop(faults=Faults()).url
    before, args = _export(url), _cancellation(url)
    order_id = msgspec.json.decode(args)["order_id"]
    undo = _json({"order_id": order_id, "change_key": "wm-t-change"})
    async with _box(url, recovery=recovery) as box:
        with pytest.raises(ToolRefusedError) as refused:
            await _call(box, "retail.undo", undo, "wm-t-change~undo")
        assert refused.value.code == "unknown_key"
        await _call(box, "retail.cancel", args)
        with pytest.raises(ToolRefusedError) as refused:
            other = _json({"order_id": "#W0000000", "change_key": "wm-t-change"})
            await _call(box, "retail.undo", other, "wm-t-change~undo")
        assert refused.value.code == "other_order"
        assert await _verify(box, "retail.undo", undo, "wm-t-change~undo") is None
        done = await _call(box, "retail.undo", undo, "wm-t-change~undo")
        assert await _verify(box, "retail.undo", undo, "wm-t-change~undo") == done | {"replayed": True}
    assert (done["kind"], done["order_id"]) == ("undo", order_id)
    assert _export(url) == before


async def test_a_quote_of_an_order_that_is_not_there_has_every_field(start_shop: StartShop) -> None:
    async with _box(start_shop().url) as box:
        args = {"kind": "retail.return", "order_id": "#W0000000", "user_id": "nobody", "item_ids": ["1"]}
        answer = await _call(box, "retail.quote", _json(args))
    assert answer == {
        "order_found": False,
        "customer_found": False,
        "owner_matches": False,
        "order_status": "",
        "items_in_order": False,
        "payment_method_found": False,
        "payment_method_is_original": False,
        "payment_method_is_gift_card": False,
        "amount": 0,
        "amount_usd": "0.00",
        "email": "",
        "first_name": "",
        "method": "payment method",
        "items": "",
    }


async def test_a_quote_tells_nothing_of_what_is_in_another_customers_order(start_shop: StartShop) -> None:
    url = start_shop().url
    exported = _export(url)
    order = next(iter(exported["orders"].values()))
    other = next(user_id for user_id in exported["users"] if user_id != order["user_id"])
    args = {"kind": "retail.cancel", "order_id": order["order_id"], "user_id": other}
    async with _box(url) as box:
        answer = await _call(box, "retail.quote", _json(args))
        own = await _call(box, "retail.quote", _json(args | {"user_id": order["user_id"]}))
    assert (answer["order_found"], answer["owner_matches"], answer["items"]) == (True, False, "")
    assert answer["email"] == exported["users"][other]["email"]
    assert own["items"] == ", ".join(item["name"] for item in order["items"])
