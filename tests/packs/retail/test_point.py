"""What the information point tells policy: fresh from the shop, on the customer's own request, whatever a plan says."""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import httpx2
import msgspec
import pytest

from mesh.errors import RetryableError
from mesh.pack import Sheet
from mesh.records import Call, Context, Origin, Plan, Step, Understood, Verdict
from packs.retail.client import Shop
from packs.retail.events import MESSAGE
from packs.retail.facts import RetailFacts
from packs.retail.pack import pack
from packs.retail.shop.process import ShopProcess
from tests.packs.retail.storefront import (
    accept,
    assessed,
    bad_server,
    http,
    is_denied,
    plan_for,
    sheets_for,
    with_args,
)

StartShop = Callable[..., ShopProcess]


class Room:
    """A shop, the systems that talk to it, and requests that its rules allow."""

    def __init__(self, url: str, systems: Mapping[str, Any]) -> None:
        self.url = url
        self.systems = systems
        self.export: dict[str, Any] = httpx2.get(f"{url}/export", trust_env=False).json()

    def orders(self, status: str, most: float = 500.0) -> list[dict[str, Any]]:
        """Orders in this state that were paid with at most so many dollars."""
        orders = self.export["orders"].values()
        return [o for o in orders if o["status"] == status and o["payment_history"][0]["amount"] <= most]

    def cancellation(self, order: dict[str, Any]) -> Context:
        """A request to cancel an order."""
        data = {"order_id": order["order_id"], "user_id": order["user_id"], "reason": "no longer needed"}
        return accept(_event("retail.cancel.requested", data))

    def homecoming(self, order: dict[str, Any]) -> Context:
        """A request to return the first piece of an order."""
        data = {
            "order_id": order["order_id"],
            "user_id": order["user_id"],
            "item_ids": [order["items"][0]["item_id"]],
            "payment_method_id": order["payment_history"][0]["payment_method_id"],
        }
        return accept(_event("retail.return.requested", data))


def _event(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": "e1",
        "source": "/test",
        "type": kind,
        "subject": data["order_id"],
        "data": data,
    }


@pytest.fixture
async def room(start_shop: StartShop) -> AsyncIterator[Room]:
    url = start_shop().url
    async with Shop.open(url) as shop:
        yield Room(url, {"shop": shop})


def _facts(sheet: Sheet) -> RetailFacts:
    return msgspec.json.decode(sheet.facts, type=RetailFacts)


def _step(plan: Plan, **changed: Any) -> Plan:
    first, *others = plan.steps
    return msgspec.structs.replace(plan, steps=(msgspec.structs.replace(first, **changed), *others))


def _call(tool: str, **args: Any) -> Call:
    return Call(tool=tool, args=msgspec.Raw(msgspec.json.encode(args)))


async def test_a_plan_as_asked_is_permitted_on_the_shops_own_amount(room: Room) -> None:
    order = room.orders("pending")[0]
    context = room.cancellation(order)
    plan = await plan_for(context, room.systems)
    sheets = await sheets_for(context, plan, room.systems)
    assert sheets["change"].amount == round(order["payment_history"][0]["amount"] * 100)
    assert (sheets["notify"].amount, _facts(sheets["notify"]).recipient_matches) == (0, True)
    assert (await assessed(context, plan, room.systems)).verdict is Verdict.ALLOW


@pytest.mark.parametrize("step_id", ["change", "notify"])
async def test_a_plan_for_another_order_is_denied_even_if_it_is_the_same_customers(room: Room, step_id: str) -> None:
    order = room.orders("pending")[0]
    context = room.cancellation(order)
    plan = await plan_for(context, room.systems)
    for other in room.orders("pending", most=10_000.0):
        if other["order_id"] != order["order_id"]:
            paid = round(other["payment_history"][0]["amount"] * 100)
            more = {"expect_amount": paid} if step_id == "change" else {}
            swapped = with_args(plan, step_id, order_id=other["order_id"], user_id=other["user_id"], **more)
            assessment = await assessed(context, swapped, room.systems)
            assert (assessment.verdict, assessment.reason) == (Verdict.DENY, "order belongs to another customer")
            assert is_denied(
                await assessed(context, with_args(swapped, step_id, user_id=order["user_id"]), room.systems)
            )
    assert is_denied(await assessed(context, with_args(plan, step_id, order_id="#W0000000"), room.systems))


async def test_a_plan_for_another_order_of_the_same_customer_is_denied(room: Room) -> None:
    by_user: dict[str, list[dict[str, Any]]] = {}
    for order in room.orders("pending", most=10_000.0) + room.orders("delivered", most=10_000.0):
        by_user.setdefault(order["user_id"], []).append(order)
    one, other = next(orders for orders in by_user.values() if len(orders) > 1)[:2]
    context = room.homecoming(one)
    plan = await plan_for(context, room.systems)
    swapped = with_args(plan, "notify", order_id=other["order_id"])
    sheet = (await sheets_for(context, swapped, room.systems))["notify"]
    assert (_facts(sheet).order_found, _facts(sheet).owner_matches) == (True, False)
    assert is_denied(await assessed(context, swapped, room.systems))


@pytest.mark.parametrize("step_id", ["change", "notify"])
async def test_a_plan_in_the_name_of_another_customer_is_denied(room: Room, step_id: str) -> None:
    order = room.orders("pending")[0]
    context = room.cancellation(order)
    plan = await plan_for(context, room.systems)
    others = [user_id for user_id in room.export["users"] if user_id != order["user_id"]]
    for user_id in (*others[:5], "nobody"):
        assessment = await assessed(context, with_args(plan, step_id, user_id=user_id), room.systems)
        assert (assessment.verdict, assessment.reason) == (Verdict.DENY, "order belongs to another customer")


async def test_a_request_for_somebody_elses_order_is_denied_though_the_plan_names_its_owner(room: Room) -> None:
    order = room.orders("pending")[0]
    thief = next(user_id for user_id in room.export["users"] if user_id != order["user_id"])
    context = room.cancellation(order | {"user_id": thief})
    plan = await plan_for(context, room.systems)
    for tried in (plan, with_args(plan, "change", user_id=order["user_id"])):
        assessment = await assessed(context, tried, room.systems)
        assert (assessment.verdict, assessment.reason) == (Verdict.DENY, "order belongs to another customer")


@pytest.mark.parametrize("by", [-1, 1])
async def test_a_plan_that_names_another_amount_is_denied(room: Room, by: int) -> None:
    order = room.orders("pending")[0]
    context = room.cancellation(order)
    plan = await plan_for(context, room.systems)
    paid = round(order["payment_history"][0]["amount"] * 100)
    assessment = await assessed(context, with_args(plan, "change", expect_amount=paid + by), room.systems)
    assert (assessment.verdict, assessment.reason) == (
        Verdict.DENY,
        "the amount differs from the one that the plan names",
    )


async def test_a_plan_for_other_items_reasons_or_another_method_than_asked_is_denied(room: Room) -> None:
    order = next(o for o in room.orders("delivered") if len(o["items"]) > 1)
    context = room.homecoming(order)
    plan = await plan_for(context, room.systems)
    assert (await assessed(context, plan, room.systems)).verdict is Verdict.ALLOW
    second = order["items"][1]
    dearer = {"item_ids": [second["item_id"]], "expect_amount": round(second["price"] * 100)}
    assert is_denied(await assessed(context, with_args(plan, "change", **dearer), room.systems))
    for method in room.export["users"][order["user_id"]]["payment_methods"]:
        tried = await assessed(context, with_args(plan, "change", payment_method_id=method), room.systems)
        assert is_denied(tried) is (method != order["payment_history"][0]["payment_method_id"])
    pending = room.cancellation(room.orders("pending")[0])
    other_reason = with_args(await plan_for(pending, room.systems), "change", reason="ordered by mistake")
    assert is_denied(await assessed(pending, other_reason, room.systems))


async def test_a_plan_with_another_tool_than_the_request_calls_for_is_denied(room: Room) -> None:
    order = room.orders("pending")[0]
    context = room.cancellation(order)
    plan = await plan_for(context, room.systems)
    who = {"order_id": order["order_id"], "user_id": order["user_id"]}
    move = _call("retail.change-address", **who, expect_amount=0, **order["address"])
    undo = _call("retail.undo", order_id=order["order_id"], change_key="k")
    unknown = _call("retail.teleport", **who)
    unread = _call("retail.cancel", **who)
    broken = Call(tool="retail.cancel", args=msgspec.Raw(b'{"order_id": "\xff"}'))
    for call in (move, undo, unknown, unread, broken):
        assert is_denied(await assessed(context, _step(plan, call=call), room.systems)), call


async def test_a_compensation_that_reaches_beyond_its_own_step_is_denied(room: Room) -> None:
    order, other = room.orders("pending")[:2]
    context = room.cancellation(order)
    plan = await plan_for(context, room.systems)
    own = plan.steps[0].effect_key
    reaching = (
        _call("retail.undo", order_id=order["order_id"], change_key="wm-other-change"),
        _call("retail.undo", order_id=other["order_id"], change_key=own),
        _call("retail.notify", order_id=order["order_id"], change_key=own),
        _call("retail.undo", order_id=order["order_id"]),
    )
    for undo in reaching:
        assert is_denied(await assessed(context, _step(plan, compensation=undo), room.systems)), undo
    assert not is_denied(await assessed(context, _step(plan, compensation=None), room.systems))


async def test_a_letter_goes_to_the_customers_own_address_only(room: Room) -> None:
    context = room.cancellation(room.orders("pending")[0])
    plan = await plan_for(context, room.systems)
    for email in ("eve@example.com", "x"):
        assert is_denied(await assessed(context, with_args(plan, "notify", email=email), room.systems))


async def test_a_letter_to_another_customer_is_not_to_the_one_who_asked(room: Room) -> None:
    order = room.orders("pending")[0]
    context = room.cancellation(order)
    plan = await plan_for(context, room.systems)
    user_id, user = next(each for each in room.export["users"].items() if each[0] != order["user_id"])
    swapped = with_args(plan, "notify", user_id=user_id, email=user["email"])
    facts = _facts((await sheets_for(context, swapped, room.systems))["notify"])
    assert (facts.recipient_matches, facts.owner_matches) == (False, False)


async def test_the_facts_are_those_of_now_and_not_of_the_plans_readings(room: Room) -> None:
    order = room.orders("pending")[0]
    context = room.cancellation(order)
    plan = await plan_for(context, room.systems)
    body = {"kind": "cancel", "order_id": order["order_id"], "user_id": order["user_id"], "reason": "no longer needed"}
    headers = {"Idempotency-Key": "somebody-else"}
    httpx2.post(f"{room.url}/changes", json=body, headers=headers, trust_env=False).raise_for_status()
    assessment = await assessed(context, plan, room.systems)
    assert (assessment.verdict, assessment.reason) == (Verdict.DENY, "non-pending order cannot be cancelled")


async def test_what_cannot_be_read_has_no_fact_that_holds(room: Room) -> None:
    order = room.orders("pending")[0]
    context = room.cancellation(order)
    plan = await plan_for(context, room.systems)
    foreign = msgspec.structs.replace(context.event, type="retail.teleport.requested")
    contexts = (
        msgspec.structs.replace(context, event=foreign),
        msgspec.structs.replace(context, data=msgspec.Raw(b"{}")),
        msgspec.structs.replace(context, data=msgspec.Raw(b"\xff")),
    )
    for each in contexts:
        sheet = await pack.facts(each, plan, plan.steps[0], room.systems)
        assert (_facts(sheet), sheet.amount) == (RetailFacts(), 0)


async def test_while_the_shop_cannot_be_asked_the_decision_waits(room: Room) -> None:
    context = room.cancellation(room.orders("pending")[0])
    plan = await plan_for(context, room.systems)
    step: Step = plan.steps[0]
    for answer in (b"", http(500), http(404), http(200, b"[]")):
        async with bad_server(answer) as bad, Shop.open(bad.url) as shop:
            with pytest.raises(RetryableError):
                await pack.facts(context, plan, step, {"shop": shop})
    async with Shop.open(bad.url) as shop:
        with pytest.raises(RetryableError):
            await pack.facts(context, plan, step, {"shop": shop})


WRITTEN = "Please cancel #W1060358, it was ordered by mistake."


def _message(order: dict[str, Any], words: str, *, user: str = "") -> Context:
    data = {"user_id": user or order["user_id"], "message": words.replace("#W1060358", order["order_id"])}
    return accept(_event(MESSAGE, {**data, "order_id": order["order_id"]}))


def _read(context: Context, plan: Plan, kind: str, **data: Any) -> tuple[Context, Plan]:
    understood = Understood(event_type=kind, data=msgspec.Raw(msgspec.json.encode(data)))
    return context, msgspec.structs.replace(plan, understood=understood, origin=Origin.READ)


async def test_what_models_read_in_a_message_counts_as_far_as_the_message_bears_it_out(room: Room) -> None:
    order, other = room.orders("pending")[:2]
    plan = await plan_for(room.cancellation(order), room.systems)
    fine = {"order_id": order["order_id"], "user_id": order["user_id"], "reason": "no longer needed"}
    kind = "retail.cancel.requested"
    read = _read(_message(order, WRITTEN), plan, kind, **fine)
    assert (await assessed(*read, room.systems)).verdict is Verdict.ALLOW
    wrong = [
        _read(_message(order, "Please cancel it."), plan, kind, **fine),
        _read(_message(order, WRITTEN, user=other["user_id"]), plan, kind, **fine),
        _read(_message(order, WRITTEN, user=other["user_id"]), plan, kind, **{**fine, "user_id": other["user_id"]}),
        _read(_message(other, WRITTEN), plan, kind, **fine),
        _read(_message(order, WRITTEN), plan, "retail.change-payment.requested", **fine, payment_method_id="x"),
        _read(_message(order, WRITTEN), plan, "retail.message.received", **fine),
        (_message(order, WRITTEN), plan),
    ]
    for context, claimed in wrong:
        assert (await assessed(context, claimed, room.systems)).verdict is Verdict.DENY


async def test_ids_that_the_shop_holds_for_the_customer_are_confirmed_and_no_others(room: Room) -> None:
    order, other = room.orders("pending")[:2]
    context = room.cancellation(order)
    plan = await plan_for(context, room.systems)
    found = (await sheets_for(context, plan, room.systems))["change"].confirmed
    assert {order["order_id"], order["items"][0]["item_id"], "no longer needed"} <= set(found)
    assert other["order_id"] not in found
    foreign = with_args(plan, "change", order_id=other["order_id"])
    assert (await sheets_for(context, foreign, room.systems))["change"].confirmed == ()


async def test_a_message_is_handed_over_only_as_the_customer_wrote_it(room: Room) -> None:
    order = room.orders("pending")[0]
    context = _message(order, WRITTEN)
    data = msgspec.json.decode(context.data)
    plan = await plan_for(room.cancellation(order), room.systems)
    args = {"user_id": data["user_id"], "message": data["message"], "reason": "it is not clear"}
    handed = msgspec.structs.replace(
        plan, steps=(msgspec.structs.replace(plan.steps[0], call=_call("retail.hand-over", **args), compensation=None),)
    )
    found = await assessed(context, handed, room.systems)
    assert (found.verdict, found.steps[0].roles) == (Verdict.NEEDS_APPROVAL, ("service_agent",))
    for changed in ({"message": "Refund everything."}, {"user_id": "somebody_else_1"}, {"reason": "x" * 3000}):
        forged = _step(handed, call=_call("retail.hand-over", **{**args, **changed}))
        assert (await assessed(context, forged, room.systems)).verdict is Verdict.DENY
