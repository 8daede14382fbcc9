"""What the shop's client makes of every way in which a request can go wrong."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh import clock
from mesh.applied import Applied, AppliedPage
from mesh.errors import NotSentError, ToolError, ToolRefusedError, UncertainError
from packs.retail.applied import shop_log
from packs.retail.arguments import CancelArgs, ReturnArgs
from packs.retail.client import ChangeAnswer, Shop, ahead_s
from packs.retail.shop.faults import Faults
from packs.retail.shop.process import ShopProcess
from tests.packs.retail.storefront import bad_server, http

StartShop = Callable[..., ShopProcess]
HASTY = httpx2.Timeout(0.2)


def _order(url: str, status: str = "pending") -> dict[str, Any]:
    orders = httpx2.get(f"{url}/export", trust_env=False).json()["orders"].values()
    found: dict[str, Any] = next(order for order in orders if order["status"] == status)
    return found


def _cancel(order: dict[str, Any], **more: Any) -> CancelArgs:
    paid = sum(round(payment["amount"] * 100) for payment in order["payment_history"])
    args: dict[str, Any] = {"order_id": order["order_id"], "user_id": order["user_id"], "reason": "no longer needed"}
    return CancelArgs(**(args | {"expect_amount": paid} | more))


async def _change(shop: Shop, args: CancelArgs, key: str = "k", within_s: float = 60.0) -> ChangeAnswer:
    return await shop.change("cancel", args, key=key, call_by=time.time() + within_s)


def _keys(url: str) -> list[str]:
    changes = httpx2.get(f"{url}/changes", trust_env=False).json()["changes"]
    return [change["key"] for change in changes]


def _set(url: str, **faults: Any) -> None:
    httpx2.put(f"{url}/faults", json=faults, trust_env=False).raise_for_status()


async def test_a_change_is_answered_and_the_same_key_answers_the_same_again(start_shop: StartShop) -> None:
    url = start_shop().url
    order = _order(url)
    async with Shop.open(url) as shop:
        first = await _change(shop, _cancel(order))
        again = await _change(shop, _cancel(order))
        assert await shop.change_of("k") == again == msgspec.structs.replace(first, replayed=True)
        assert (first.kind, first.order_id, first.seq, first.replayed) == ("cancel", order["order_id"], 1, False)
        assert first.amount == _cancel(order).expect_amount
        assert await shop.change_of("other") is None


async def test_balances_of_gift_cards_are_answered_in_cents(start_shop: StartShop) -> None:
    url = start_shop().url
    exported = httpx2.get(f"{url}/export", trust_env=False).json()
    order = next(
        order
        for order in exported["orders"].values()
        if order["status"] == "pending" and order["payment_history"][0]["payment_method_id"].startswith("gift_card")
    )
    card = order["payment_history"][0]["payment_method_id"]
    balance = round(exported["users"][order["user_id"]]["payment_methods"][card]["balance"] * 100)
    async with Shop.open(url) as shop:
        answer = await _change(shop, _cancel(order))
        assert answer.gift_cards == {card: balance + answer.amount}


async def test_a_lookup_answers_documents_with_names_and_none_for_what_is_not_there(start_shop: StartShop) -> None:
    url = start_shop().url
    order = _order(url)
    async with Shop.open(url) as shop:
        found = await shop.lookup(order["order_id"], order["user_id"], [order["items"][0]["item_id"], "0"])
        assert found.order is not None and found.user is not None
        assert [item.name for item in found.order.items] == [item["name"] for item in order["items"]]
        assert found.user.name.first_name
        assert found.variants["0"] is None and found.variants[order["items"][0]["item_id"]] is not None
        nothing = await shop.lookup("a&user=b#c/\u20ac", "")
        assert (nothing.order, nothing.user, nothing.variants) == (None, None, {})


async def test_a_shop_that_is_down_was_sent_nothing(start_shop: StartShop) -> None:
    running = start_shop()
    args = _cancel(_order(running.url))
    running.stop()
    async with Shop.open(running.url) as shop:
        for asked in (_change(shop, args), shop.undo("k", key="u", call_by=time.time() + 60)):
            with pytest.raises(NotSentError):
                await asked
        with pytest.raises(NotSentError):
            await shop.lookup("#W1", "u")
        with pytest.raises(NotSentError):
            await shop.change_of("k")


async def test_an_answer_that_comes_too_late_leaves_the_change_in_doubt(start_shop: StartShop) -> None:
    url = start_shop(faults=Faults(delay_ms=1_000)).url
    async with Shop.open(url, HASTY) as shop:
        with pytest.raises(UncertainError):
            await _change(shop, _cancel(_order(url)))


async def test_an_error_of_the_server_leaves_the_change_in_doubt_before_and_after_the_commit(
    start_shop: StartShop,
) -> None:
    url = start_shop(faults=Faults(error_rate=1.0)).url
    args = _cancel(_order(url))
    async with Shop.open(url) as shop:
        with pytest.raises(UncertainError):
            await _change(shop, args)
        assert await shop.change_of("k") is None
        _set(url, error_after_rate=1.0)
        with pytest.raises(UncertainError):
            await _change(shop, args)
        answer = await shop.change_of("k")
        assert answer is not None and answer.replayed
        assert _keys(url) == ["k"]


async def test_a_shop_that_dies_after_the_commit_leaves_the_change_in_doubt_and_tells_once_it_is_back(
    start_shop: StartShop,
) -> None:
    dying = start_shop(faults=Faults(crash_after_commit=1))
    args = _cancel(_order(dying.url))
    async with Shop.open(dying.url) as shop:
        with pytest.raises(UncertainError):
            await _change(shop, args)
        dying.wait()
        with pytest.raises(NotSentError):
            await shop.change_of("k")
        start_shop(port=urlsplit(dying.url).port)
        answer = await shop.change_of("k")
        assert answer is not None and answer.order_id == args.order_id


async def test_past_its_deadline_nothing_is_sent_and_the_shop_changes_nothing(start_shop: StartShop) -> None:
    url = start_shop(faults=Faults(delay_ms=300)).url
    args = _cancel(_order(url))
    async with Shop.open(url) as shop:
        with pytest.raises(NotSentError, match="deadline_passed"):
            await _change(shop, args, within_s=0.15)
        async with bad_server(http(200)) as bad, Shop.open(bad.url) as other:
            with pytest.raises(NotSentError):
                await _change(other, args, within_s=0.0)
            assert bad.requests == []
        assert await shop.change_of("k") is None
        assert _keys(url) == []


async def test_a_refusal_names_the_shops_code_and_leaves_the_key_free(start_shop: StartShop) -> None:
    url = start_shop(faults=Faults()).url
    order, delivered = _order(url), _order(url, "delivered")
    wrong = {
        "not_owner": _cancel(order, user_id="nobody"),
        "order_not_found": _cancel(order, order_id="#W0000000"),
        "amount_differs": _cancel(order, expect_amount=_cancel(order).expect_amount + 1),
        "not_pending": _cancel(delivered),
        "invalid": _cancel(order, reason=""),
    }
    async with Shop.open(url) as shop:
        for code, args in wrong.items():
            with pytest.raises(ToolRefusedError) as refused:
                await _change(shop, args)
            assert refused.value.code == code
        with pytest.raises(ToolRefusedError) as refused:
            await shop.change("teleport", _cancel(order), key="k", call_by=time.time() + 60)
        assert refused.value.code == "invalid"
        assert not (await _change(shop, _cancel(order))).replayed
        with pytest.raises(ToolRefusedError) as refused:
            await _change(shop, _cancel(order, reason="ordered by mistake"))
        assert refused.value.code == "key_reused"


async def test_a_rule_of_the_shop_is_a_refusal_with_its_words(start_shop: StartShop) -> None:
    url = start_shop().url
    order = _order(url, "delivered")
    args = ReturnArgs(
        order_id=order["order_id"],
        user_id=order["user_id"],
        expect_amount=0,
        item_ids=("0",),
        payment_method_id=order["payment_history"][0]["payment_method_id"],
    )
    async with Shop.open(url) as shop:
        with pytest.raises(ToolRefusedError, match="does not hold 1 of item 0") as refused:
            await shop.change("return", args, key="k", call_by=time.time() + 60)
        assert refused.value.code == "item_not_in_order"


async def test_an_undo_restores_once_under_its_own_key(start_shop: StartShop) -> None:
    url = start_shop().url
    order, before = _order(url), httpx2.get(f"{url}/export", trust_env=False).json()
    async with Shop.open(url) as shop:
        await _change(shop, _cancel(order), key="a/b ?\u0025")
        undone = [await shop.undo("a/b ?\u0025", key="u", call_by=time.time() + 60) for _ in range(2)]
        assert [(answer.kind, answer.replayed) for answer in undone] == [("undo", False), ("undo", True)]
        assert httpx2.get(f"{url}/export", trust_env=False).json() == before
        with pytest.raises(ToolRefusedError) as refused:
            await shop.undo("none", key="v", call_by=time.time() + 60)
        assert refused.value.code == "unknown_key"


CHANGED = b'{"key":"k","seq":1,"kind":"cancel","order_id":"#W1234567","amount":1,"gift_cards":{},"replayed":false}'


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (None, UncertainError),
        (b"", UncertainError),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n" + CHANGED, UncertainError),
        (b"SMTP ready\r\n\r\n", UncertainError),
        (http(200), UncertainError),
        (http(200, b"[]"), UncertainError),
        (http(200, b"\xff"), UncertainError),
        (http(202, CHANGED), UncertainError),
        (http(204), UncertainError),
        (http(302, CHANGED), UncertainError),
        (http(408), UncertainError),
        (http(408, b'{"error":"deadline_passed"}'), NotSentError),
        (http(429), NotSentError),
        (http(404), ToolRefusedError),
        (http(401, b"<html>"), ToolRefusedError),
        (http(409, b'{"error":"not_owner"}'), ToolRefusedError),
        (http(500), UncertainError),
        (http(502, b"<html>"), UncertainError),
        (http(503, b'{"error":"busy"}'), UncertainError),
    ],
)
async def test_only_a_clear_answer_is_more_than_uncertain(answer: bytes | None, error: type[ToolError]) -> None:
    args = CancelArgs(order_id="#W1234567", user_id="u", reason="no longer needed", expect_amount=1)
    async with bad_server(answer) as bad, Shop.open(bad.url, HASTY) as shop:
        with pytest.raises(error):
            await _change(shop, args)
        assert len(bad.requests) == 1  # no retry, and no redirect followed


@pytest.mark.parametrize(
    "answer",
    [None, b"", b"SMTP ready\r\n\r\n", http(200), http(200, b"\xff"), http(302), http(404), http(408), http(500)],
)
async def test_a_read_that_fails_in_any_way_can_be_made_again(answer: bytes | None) -> None:
    async with bad_server(answer) as bad, Shop.open(bad.url, HASTY) as shop:
        with pytest.raises(NotSentError):
            await shop.lookup("#W1234567", "u")
        with pytest.raises(NotSentError):
            await shop.change_of("k")


async def test_the_shop_is_told_key_deadline_amount_and_trace(tmp_path: Path) -> None:
    args = CancelArgs(order_id="#W1234567", user_id="u", reason="no longer needed", expect_amount=7)
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    call_by = time.time() + 60
    async with bad_server(http(200, CHANGED)) as bad, Shop.open(bad.url) as shop:
        await shop.change("cancel", args, key="wm-1-change", call_by=call_by, traceparent=trace)
        await shop.change("cancel", args, key="wm-1-change", call_by=call_by)
        traced, untraced = bad.requests
    head, _, body = traced.partition(b"\r\n\r\n")
    headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    assert headers[b"idempotency-key"] == b"wm-1-change"
    assert abs(float(headers[b"request-deadline"]) - call_by) < 0.001
    assert headers[b"traceparent"] == trace.encode()
    assert msgspec.json.decode(body) == {"kind": "cancel", "expect_amount": 7} | {
        "order_id": "#W1234567",
        "user_id": "u",
        "reason": "no longer needed",
    }
    assert b"traceparent" not in untraced.lower()


async def test_proxies_of_the_environment_are_not_used(start_shop: StartShop, monkeypatch: pytest.MonkeyPatch) -> None:
    url = start_shop().url
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with Shop.open(url) as shop:
        assert (await shop.lookup("#W0000000", "nobody")).order is None


async def test_a_shop_that_was_started_again_is_found_by_the_same_client(start_shop: StartShop) -> None:
    first = start_shop()
    order = _order(first.url)
    async with Shop.open(first.url) as shop:
        assert (await shop.lookup(order["order_id"], "")).order is not None
        first.stop()
        start_shop(port=urlsplit(first.url).port)
        assert not (await _change(shop, _cancel(order))).replayed


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_clock_that_is_an_hour_off_costs_one_refusal_at_most(
    start_shop: StartShop, tmp_path: Path, hours: int
) -> None:
    url = start_shop(faults=Faults()).url
    order = _order(url)
    clock.shift(hours * 3600, tmp_path)  # which is there: from now on
    try:
        async with Shop.open(url) as shop:
            if hours < 0:
                with pytest.raises(NotSentError, match="deadline"):
                    await shop.change("cancel", _cancel(order), key="k", call_by=clock.unix() + 2)
                assert _keys(url) == []
            await shop.change_of("k")
            answer = await shop.change("cancel", _cancel(order), key="k", call_by=clock.unix() + 2)
            _set(url, delay_ms=600)
            with pytest.raises(NotSentError, match="deadline"):  # a late one is refused by the shop's own clock
                await shop.change("cancel", _cancel(_order(url)), key="late", call_by=clock.unix() + 0.5)
    finally:
        clock.unshift()
    assert not answer.replayed
    assert _keys(url) == ["k"]


@given(st.floats(0, 2e9), st.floats(-1e5, 1e5), st.floats(0, 4))
def test_a_moved_deadline_is_never_later_than_the_true_one(there: float, ahead: float, took: float) -> None:
    date = format_datetime(datetime.fromtimestamp(int(there), UTC), usegmt=True)
    seems = ahead_s(date, there - ahead + took)
    assert seems <= (max(ahead, 0.0) + 1e-6 if ahead > -5 else ahead + 1e-3)
    assert seems >= ahead - took - 1 - 1e-3


@pytest.mark.parametrize("date", ["", "yesterday"])
def test_an_answer_without_a_date_says_nothing_of_the_clock(date: str) -> None:
    assert ahead_s(date, 0.0) == 0.0


async def test_the_shops_log_is_read_to_its_end_and_a_key_done_twice_is_there_twice(start_shop: StartShop) -> None:
    url = start_shop(faults=Faults(keys="ignore")).url
    order = _order(url)
    async with Shop.open(url) as shop:
        assert await shop_log(shop, "") == AppliedPage([], "")
        await _change(shop, _cancel(order))
        page = await shop_log(shop, "")
        assert page == AppliedPage([Applied("k", "cancel")], "1")
        assert await shop_log(shop, page.cursor) == AppliedPage([], "1")
        await shop.undo("k", key="u", call_by=time.time() + 60)
        await _change(shop, _cancel(order))
        assert [each.key for each in (await shop_log(shop, page.cursor)).changes] == ["u", "k"]
    async with Shop.open("http://127.0.0.1:9") as away:
        with pytest.raises(NotSentError):
            await shop_log(away, "")
