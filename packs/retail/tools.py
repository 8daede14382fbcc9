"""The shop's tools: changes and their undoing, letters to customers, and the quote that plans are made with.

The rule: every change goes out with its key, its last moment and the amount that the plan names.
"""

from typing import Protocol

import msgspec

from mesh.errors import ToolRefusedError
from mesh.mounts.smtp import Notice
from mesh.tools import Recovery, Tool, ToolCall, VerifyFunction
from packs.retail.arguments import ARGUMENTS, CustomerArgs, HandOverArgs, NotifyArgs, OrderArgs, UndoArgs
from packs.retail.client import ChangeAnswer, Shop
from packs.retail.order import OrderView, OrderViewArgs, view
from packs.retail.outbox import FolderOutbox
from packs.retail.quote import Quote, QuoteArgs, quote

SHOP = "shop"
OUTBOX = "outbox"

_CHANGES = {
    "retail.return": "send items of a delivered order back",
    "retail.exchange": "swap items of a delivered order",
    "retail.cancel": "call a pending order off",
    "retail.change-items": "swap items of a pending order",
    "retail.change-address": "send a pending order elsewhere",
    "retail.change-payment": "pay a pending order with another method",
}
_TIMEOUT_S = 2.0  # the shop answers in milliseconds; packs.retail.client gives up sooner, to tell how far it got
_SMTP_TIMEOUT_S = 20.0  # some answers at mesh.mounts.smtp.SMTP_TIMEOUT_S each


class Outbox(Protocol):
    """What ``retail.notify`` hands letters to."""

    async def send(self, args: NotifyArgs, key: str) -> Notice:
        """Hand a letter over under its key; raises a ``ToolError``."""
        ...


def make_tools(recovery: Recovery, *, by_smtp: bool) -> tuple[Tool, ...]:
    """All tools; ``recovery`` is how a change in doubt at the shop is settled."""
    changes = (_change_tool(name, does, recovery) for name, does in _CHANGES.items())
    return (*changes, _undo_tool(recovery), _notify_tool(by_smtp), _QUOTE, _ORDER, _CUSTOMER, _HAND_OVER)


def _change_tool(name: str, description: str, recovery: Recovery) -> Tool:
    kind = name.removeprefix("retail.")

    async def run(args: OrderArgs, call: ToolCall) -> ChangeAnswer:
        shop: Shop = call.system
        return await shop.change(kind, args, key=call.key, call_by=call.call_by, traceparent=call.traceparent)

    return Tool(
        name=name,
        args=ARGUMENTS[name],
        run=run,
        recovery=recovery,
        verify=_verify_change,
        target=SHOP,
        timeout_s=_TIMEOUT_S,
        description=description,
    )


async def _verify_change(_: msgspec.Struct, call: ToolCall) -> ChangeAnswer | None:
    shop: Shop = call.system
    return await shop.change_of(call.key)


def _undo_tool(recovery: Recovery) -> Tool:
    return Tool(
        name="retail.undo",
        args=UndoArgs,
        run=_undo,
        recovery=recovery,
        verify=_verify_change,
        target=SHOP,
        timeout_s=2 * _TIMEOUT_S,  # it asks, then acts
        description="take a change of an order back",
    )


async def _undo(args: UndoArgs, call: ToolCall) -> ChangeAnswer:
    """Take a change back, if it is one of the order that the plan names."""
    shop: Shop = call.system
    change = await shop.change_of(args.change_key)
    if change is None:
        raise ToolRefusedError("unknown_key", f"no change took effect under {args.change_key}")
    if change.order_id != args.order_id:
        raise ToolRefusedError("other_order", f"{args.change_key} changed {change.order_id}, not {args.order_id}")
    return await shop.undo(args.change_key, key=call.key, call_by=call.call_by, traceparent=call.traceparent)


def _notify_tool(by_smtp: bool) -> Tool:
    verify: VerifyFunction | None = None if by_smtp else _find_letter
    return Tool(
        name="retail.notify",
        args=NotifyArgs,
        run=_notify,
        recovery=Recovery.MANUAL if by_smtp else Recovery.IDEMPOTENT,
        verify=verify,
        target=OUTBOX,
        timeout_s=_SMTP_TIMEOUT_S if by_smtp else _TIMEOUT_S,
        description="write to the customer about their order",
    )


async def _notify(args: NotifyArgs, call: ToolCall) -> Notice:
    outbox: Outbox = call.system
    return await outbox.send(args, call.key)


async def _find_letter(_: NotifyArgs, call: ToolCall) -> Notice | None:
    outbox: FolderOutbox = call.system
    return await outbox.find(call.key)


async def _ask_quote(args: QuoteArgs, call: ToolCall) -> Quote:
    shop: Shop = call.system
    return quote(args, await shop.lookup(args.order_id, args.user_id, args.new_item_ids))


_QUOTE = Tool(
    name="retail.quote",
    args=QuoteArgs,
    run=_ask_quote,
    recovery=Recovery.IDEMPOTENT,
    target=SHOP,
    timeout_s=_TIMEOUT_S,
    read_only=True,
    description="what a request would move, and whom it concerns",
)


async def _show_order(args: OrderViewArgs, call: ToolCall) -> OrderView:
    shop: Shop = call.system
    return view(args, await shop.lookup(args.order_id, args.user_id, siblings=True))


_ORDER = Tool(
    name="retail.order",
    args=OrderViewArgs,
    run=_show_order,
    recovery=Recovery.IDEMPOTENT,
    target=SHOP,
    timeout_s=_TIMEOUT_S,
    read_only=True,
    description="a customer's own order: its items, what they can be swapped for, and the customer's ways to pay",
)


class Customer(msgspec.Struct, frozen=True, kw_only=True):
    """Who has an address: ``user_id`` where just one customer has it; ``count`` says how many do."""

    user_id: str = ""
    count: int = 0


async def _find_customer(args: CustomerArgs, call: ToolCall) -> Customer:
    shop: Shop = call.system
    found = await shop.customers(args.email) if args.email else ()
    return Customer(user_id=found[0] if len(found) == 1 else "", count=len(found))


_CUSTOMER = Tool(
    name="retail.customer",
    args=CustomerArgs,
    run=_find_customer,
    recovery=Recovery.IDEMPOTENT,
    target=SHOP,
    timeout_s=_TIMEOUT_S,
    read_only=True,
    description="the customer who has an address",
)


class HandedOver(msgspec.Struct, frozen=True, kw_only=True):
    """A person has taken the message on."""

    taken: bool = True


async def _take_over(_: HandOverArgs, __: ToolCall) -> HandedOver:
    return HandedOver()


# The person's approval is all there is to it: it says that the message was seen to, and the journal keeps that.
_HAND_OVER = Tool(
    name="retail.hand-over",
    args=HandOverArgs,
    run=_take_over,
    recovery=Recovery.IDEMPOTENT,
    description="have a person read a message and see to it",
)
