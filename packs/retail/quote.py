"""What a request would move and whom it concerns, read from the shop while planning; policy never relies on it."""

from typing import Annotated, Literal, assert_never

import msgspec

from packs.retail.arguments import (
    Arguments,
    CancelArgs,
    ChangeAddressArgs,
    ChangeItemsArgs,
    ChangePaymentArgs,
    ExchangeArgs,
    Identifier,
    ReturnArgs,
    StepArgs,
)
from packs.retail.client import ShopLookup
from packs.retail.facts import facts_for

ChangeKind = Literal[
    "retail.return",
    "retail.exchange",
    "retail.cancel",
    "retail.change-items",
    "retail.change-address",
    "retail.change-payment",
]
ItemIds = Annotated[tuple[Identifier, ...], msgspec.Meta(max_length=100)]

_METHODS = {"credit_card": "credit card", "gift_card": "gift card", "paypal": "PayPal account"}
_SOME_METHOD = "payment method"
_MAX_NAMES = 1_000  # characters: a letter holds 10,000 (packs.retail.arguments)


class QuoteArgs(Arguments, frozen=True, kw_only=True):
    """A request by the name of its tool, with those of its fields that bear on money; the rest may be left out."""

    kind: ChangeKind
    user_id: Identifier
    item_ids: ItemIds = ()
    new_item_ids: ItemIds = ()
    payment_method_id: Annotated[str, msgspec.Meta(max_length=100)] = ""
    reason: Annotated[str, msgspec.Meta(max_length=200)] = ""


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    """The answer, every field always there; texts are "" where the shop has none; checks as in ``RetailFacts``.

    ``amount`` is what would move, in cents, and ``amount_usd`` the same for people (``1234.50``); ``email`` and
    ``first_name`` are the customer's; ``method`` and ``items`` name the way to pay and the pieces meant.
    """

    order_found: bool
    customer_found: bool
    owner_matches: bool
    order_status: str
    items_in_order: bool
    payment_method_found: bool
    payment_method_is_original: bool
    payment_method_is_gift_card: bool
    amount: int
    amount_usd: str
    email: str
    first_name: str
    method: str
    items: str


def quote(args: QuoteArgs, lookup: ShopLookup) -> Quote:
    """What the shop's documents say of a request."""
    facts = facts_for(args.kind, _as_step(args), lookup)
    user = lookup.user
    method = user.payment_methods.get(args.payment_method_id) if user else None
    return Quote(
        order_found=facts.order_found,
        customer_found=facts.customer_found,
        owner_matches=facts.owner_matches,
        order_status=facts.order_status,
        items_in_order=facts.items_in_order,
        payment_method_found=facts.payment_method_found,
        payment_method_is_original=facts.payment_method_is_original,
        payment_method_is_gift_card=facts.payment_method_is_gift_card,
        amount=facts.amount,
        amount_usd=usd(facts.amount),
        email=user.email if user else "",
        first_name=user.name.first_name if user else "",
        method=_METHODS.get(method.source, _SOME_METHOD) if method else _SOME_METHOD,
        items=_names(args, lookup) if facts.owner_matches else "",
    )


def usd(amount: int) -> str:
    """Cents (not negative) as dollars with two decimals."""
    return f"{amount // 100}.{amount % 100:02}"


def _as_step(args: QuoteArgs) -> StepArgs:
    """The step that would carry the request out, as far as money goes: no amount is expected, no address needed."""
    order, user, method = args.order_id, args.user_id, args.payment_method_id
    old, new = args.item_ids, args.new_item_ids
    match args.kind:
        case "retail.return":
            return ReturnArgs(order_id=order, user_id=user, expect_amount=0, item_ids=old, payment_method_id=method)
        case "retail.exchange" | "retail.change-items":
            swap = ExchangeArgs if args.kind == "retail.exchange" else ChangeItemsArgs
            return swap(
                order_id=order,
                user_id=user,
                expect_amount=0,
                item_ids=old,
                new_item_ids=new,
                payment_method_id=method,
            )
        case "retail.cancel":
            return CancelArgs(order_id=order, user_id=user, expect_amount=0, reason=args.reason)
        case "retail.change-address":
            return ChangeAddressArgs(
                order_id=order, user_id=user, address1="", address2="", city="", country="", state="", zip=""
            )
        case "retail.change-payment":
            return ChangePaymentArgs(order_id=order, user_id=user, payment_method_id=method)
        case _:
            assert_never(args.kind)


def _names(args: QuoteArgs, lookup: ShopLookup) -> str:
    """The names of the pieces asked for, or of all pieces where none are named; cut when they are very many."""
    items = lookup.order.items if lookup.order else ()
    names = [item.name for item in items if item.name and (not args.item_ids or item.item_id in args.item_ids)]
    text = ", ".join(names)
    return text if len(text) <= _MAX_NAMES else text[: _MAX_NAMES - 4] + " ..."
