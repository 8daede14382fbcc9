"""The saga pack: an order is sent elsewhere, then its cancellation is refused, so the first step is taken back.

The rule: it acts on the shop by the retail pack's own client, so what is measured is the product's way.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec

from mesh.errors import ToolRefusedError
from mesh.pack import EventType, Pack, Sheet
from mesh.records import Context, Plan, Step
from mesh.tools import Recovery, Tool, ToolCall, ToolFunction
from packs.retail.arguments import CancelArgs, ChangeAddressArgs, OrderArgs, UndoArgs
from packs.retail.client import ChangeAnswer, Shop
from packs.retail.events import ChangeAddressRequested

FOLDER = Path(__file__).parent
TARGET = "shop"
FAILS, HANGS = "saga.fail.requested", "saga.hang.requested"
_TIMEOUT_S = 2.0  # as packs.retail.tools


class SagaOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the shop is, and how a change in doubt is settled there."""

    shop_url: str = "http://127.0.0.1:9"
    recovery: Literal["idempotent", "verifiable"] = "idempotent"


def _changing(kind: str) -> ToolFunction:
    async def run(args: OrderArgs, call: ToolCall) -> ChangeAnswer:
        shop: Shop = call.system
        return await shop.change(kind, args, key=call.key, call_by=call.call_by, traceparent=call.traceparent)

    return run


async def _undo(args: UndoArgs, call: ToolCall) -> ChangeAnswer:
    shop: Shop = call.system
    change = await shop.change_of(args.change_key)
    if change is None or change.order_id != args.order_id:
        raise ToolRefusedError("unknown_key", f"no change of {args.order_id} took effect under {args.change_key}")
    return await shop.undo(args.change_key, key=call.key, call_by=call.call_by, traceparent=call.traceparent)


async def _verify(_: msgspec.Struct, call: ToolCall) -> ChangeAnswer | None:
    shop: Shop = call.system
    return await shop.change_of(call.key)


def _tool(name: str, args: type[msgspec.Struct], run: ToolFunction, options: SagaOptions, timeouts: int = 1) -> Tool:
    return Tool(
        name=f"saga.{name}",
        args=args,
        run=run,
        recovery=Recovery(options.recovery),
        verify=_verify,
        target=TARGET,
        timeout_s=timeouts * _TIMEOUT_S,
    )


def tools(options: SagaOptions) -> tuple[Tool, ...]:
    """The two steps, and what takes the first one back."""
    return (
        _tool("readdress", ChangeAddressArgs, _changing("change-address"), options),
        _tool("cancel", CancelArgs, _changing("cancel"), options),
        _tool("undo", UndoArgs, _undo, options, timeouts=2),
    )


@asynccontextmanager
async def connect(options: SagaOptions) -> AsyncIterator[Mapping[str, Any]]:
    """The shop's client; nothing is sent yet."""
    async with Shop.open(options.shop_url) as shop:
        yield {TARGET: shop}


async def facts(context: Context, plan: Plan, step: Step, systems: Mapping[str, Any]) -> Sheet:
    """The order of the event; no money moves. Of a poisoned event it never tells, in one of two ways."""
    if context.event.type == FAILS:
        raise RuntimeError("poison: this always fails")
    if context.event.type == HANGS:
        await asyncio.Event().wait()
    asked = msgspec.json.decode(context.data, type=ChangeAddressRequested)
    return Sheet(facts=msgspec.Raw(msgspec.json.encode({"order_id": asked.order_id})))


pack = Pack(
    name="saga",
    version="0.1.0",
    options=SagaOptions,
    events=tuple(EventType(name, ChangeAddressRequested) for name in ("saga.move.requested", FAILS, HANGS)),
    tools=tools,
    connect=connect,
    playbooks=FOLDER / "playbooks",
    policies=FOLDER / "policies",
    facts=facts,
)
