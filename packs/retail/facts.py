"""What the shop's policies must know of a step: computed from the shop's own documents, never from the plan's words.

The rule: a check that cannot be made, or does not concern the tool, is false, so a policy on it denies. Money is cents.
"""

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from typing import assert_never

import msgspec

from packs.retail.arguments import (
    STEPS,
    CancelArgs,
    ChangeAddressArgs,
    ChangeItemsArgs,
    ChangePaymentArgs,
    ExchangeArgs,
    NotifyArgs,
    OrderArgs,
    ReturnArgs,
    StepArgs,
)

CANCEL_REASONS = frozenset({"no longer needed", "ordered by mistake"})


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the shop's answer; fields that policy does not need are passed over."""


class Item(Document, frozen=True, kw_only=True):
    """A piece of an order; the price in USD is that of the sale."""

    item_id: str
    product_id: str
    price: Decimal


class Payment(Document, frozen=True, kw_only=True):
    """A movement of money in USD: ``payment`` or ``refund``."""

    transaction_type: str
    amount: Decimal
    payment_method_id: str


class Order(Document, frozen=True, kw_only=True):
    """An order."""

    order_id: str
    user_id: str
    status: str
    items: tuple[Item, ...]
    payment_history: tuple[Payment, ...]


class PaymentMethod(Document, frozen=True, kw_only=True):
    """A way to pay; only a gift card has a balance, in USD."""

    id: str
    source: str
    balance: Decimal = Decimal(0)


class Customer(Document, frozen=True, kw_only=True):
    """A customer."""

    email: str
    payment_methods: dict[str, PaymentMethod]


class Variant(Document, frozen=True, kw_only=True):
    """A variant of a product; the price is in USD."""

    product_id: str
    item_id: str
    price: Decimal
    available: bool


class Lookup(Document, frozen=True, kw_only=True):
    """What ``GET /lookup`` answers; null where the shop has no such document."""

    order: Order | None
    user: Customer | None
    variants: Mapping[str, Variant | None] = {}


class RetailFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of one step, as policies see them in ``context.facts``; ``amount`` is the money that would move."""

    order_found: bool = False
    customer_found: bool = False
    order_status: str = ""
    owner_matches: bool = False
    items_in_order: bool = False
    variants_ok: bool = False
    payment_method_found: bool = False
    payment_method_is_original: bool = False
    payment_method_is_gift_card: bool = False
    gift_card_covers: bool = False
    same_payment_method: bool = False
    payments_count: int = 0
    refunds_count: int = 0
    reason_ok: bool = False
    recipient_matches: bool = False
    amount: int = 0
    args_amount_matches: bool = False


class _Money(msgspec.Struct, frozen=True, kw_only=True):
    """What a step moves (``amount``) and what its payment method must be able to pay (``needed``), in cents."""

    amount: int = 0
    needed: int = 0


def read_lookup(answer: bytes) -> Lookup:
    """The shop's answer; raises ``msgspec.ValidationError`` when it is not one."""
    return msgspec.json.decode(answer, type=Lookup)


def facts_for(kind: str, args: StepArgs, lookup: Lookup, *, customer: str | None = None) -> RetailFacts:
    """The facts of a step: its tool's name (``retail.return``), its arguments, and the documents that they name.

    ``customer`` is the id that the storefront authenticated (the event's ``user_id``): an argument that names
    another one owns nothing. Raises ``ValueError`` when the arguments are not the tool's.
    """
    if STEPS.get(kind) is not type(args):
        raise ValueError(f"{kind} is no step with {type(args).__name__}: see packs.retail.arguments.STEPS")
    order = lookup.order if lookup.order is not None and lookup.order.order_id == args.order_id else None
    email = lookup.user.email if lookup.user is not None else ""
    facts = RetailFacts(
        customer_found=lookup.user is not None,
        reason_ok=isinstance(args, CancelArgs) and args.reason in CANCEL_REASONS,
        recipient_matches=isinstance(args, NotifyArgs) and bool(email) and args.email == email,
        args_amount_matches=_expected(args) == 0,
    )
    if order is None:
        return facts
    facts = msgspec.structs.replace(
        facts,
        order_found=True,
        order_status=order.status,
        owner_matches=order.user_id == args.user_id and customer in (None, args.user_id),
        payments_count=sum(entry.transaction_type == "payment" for entry in order.payment_history),
        refunds_count=sum(entry.transaction_type == "refund" for entry in order.payment_history),
    )
    return _with_money(facts, args, order, lookup)


def cents(usd: Decimal) -> int:
    """A USD number in cents, to the nearest (the shop's numbers are whole cents up to float noise)."""
    return int((usd * 100).to_integral_value(ROUND_HALF_EVEN))


def _expected(args: StepArgs) -> int:
    return args.expect_amount if isinstance(args, OrderArgs) else 0


def _with_money(facts: RetailFacts, args: StepArgs, order: Order, lookup: Lookup) -> RetailFacts:
    """The facts with those about items, money and the way to pay, by kind of request."""
    money: _Money | None = None
    match args:
        case ReturnArgs():
            items = _pick(order, args.item_ids)
            facts = msgspec.structs.replace(facts, items_in_order=items is not None)
            money = None if items is None else _Money(amount=sum(cents(item.price) for item in items))
        case ExchangeArgs() | ChangeItemsArgs():
            items = _pick(order, args.item_ids)
            difference = None if items is None else _difference(items, args.new_item_ids, lookup.variants)
            facts = msgspec.structs.replace(facts, items_in_order=items is not None, variants_ok=difference is not None)
            money = None if difference is None else _Money(amount=abs(difference), needed=difference)
        case CancelArgs():
            money = _Money(amount=_open(order))
        case ChangePaymentArgs():
            money = _Money(needed=_open(order))
        case ChangeAddressArgs() | NotifyArgs():
            money = _Money()
        case _:
            assert_never(args)
    if isinstance(args, ReturnArgs | ExchangeArgs | ChangeItemsArgs | ChangePaymentArgs):
        facts = _with_method(facts, args.payment_method_id, order, lookup, money)
    amount = money.amount if money is not None else 0
    return msgspec.structs.replace(
        facts, amount=amount, args_amount_matches=money is not None and _expected(args) == amount
    )


def _with_method(facts: RetailFacts, method_id: str, order: Order, lookup: Lookup, money: _Money | None) -> RetailFacts:
    """The facts with those about the payment method, which must be one of the customer's."""
    method = lookup.user.payment_methods.get(method_id) if lookup.user is not None else None
    paid_with = [p.payment_method_id for p in order.payment_history if p.transaction_type == "payment"]
    if method is None:
        return facts
    is_gift_card = method.source == "gift_card"
    covers = not is_gift_card or (money is not None and money.needed <= max(0, cents(method.balance)))
    return msgspec.structs.replace(
        facts,
        payment_method_found=True,
        payment_method_is_original=paid_with[:1] == [method_id],
        payment_method_is_gift_card=is_gift_card,
        gift_card_covers=covers,
        same_payment_method=method_id in paid_with,
    )


def _pick(order: Order, item_ids: tuple[str, ...]) -> list[Item] | None:
    """The pieces of the order that are meant, each piece once; ``None`` when the order does not hold them all."""
    free = list(order.items)
    picked: list[Item] = []
    for item_id in item_ids:
        item = next((item for item in free if item.item_id == item_id), None)
        if item is None:
            return None
        free.remove(item)
        picked.append(item)
    return picked


def _difference(items: list[Item], new_ids: tuple[str, ...], variants: Mapping[str, Variant | None]) -> int | None:
    """New minus old prices in cents; ``None`` unless each new item is an available variant of the old one's product."""
    if len(items) != len(new_ids):
        return None
    difference = 0
    for item, new_id in zip(items, new_ids, strict=True):
        variant = variants.get(new_id)
        if (
            variant is None
            or not variant.available
            or (variant.item_id, variant.product_id) != (new_id, item.product_id)
        ):
            return None
        difference += cents(variant.price) - cents(item.price)
    return difference


def _open(order: Order) -> int:
    """What was paid and not refunded, method by method, in cents."""
    open_by_method: dict[str, int] = {}
    for entry in order.payment_history:
        sign = 1 if entry.transaction_type == "payment" else -1
        method = entry.payment_method_id
        open_by_method[method] = open_by_method.get(method, 0) + sign * cents(entry.amount)
    return sum(amount for amount in open_by_method.values() if amount > 0)
