"""A customer's order as one must know it to understand a message about it: names and options beside the ids.

The rule: an order of somebody else is shown to nobody; it looks like one that is not there.
"""

import msgspec

from packs.retail.arguments import Arguments, Identifier
from packs.retail.client import ShopLookup


class OrderViewArgs(Arguments, frozen=True, kw_only=True):
    """An order, and the customer who asks."""

    user_id: Identifier


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of an order, or a variant that is to be had, with its options."""

    item_id: str
    name: str
    options: dict[str, str]


class Method(msgspec.Struct, frozen=True, kw_only=True):
    """A way to pay."""

    payment_method_id: str
    kind: str


class OrderView(msgspec.Struct, frozen=True, kw_only=True):
    """The order. ``variants`` are those of its products that are to be had; ``paid_with`` as it was first paid.

    ``email`` is the customer's.
    """

    found: bool
    order_id: str = ""
    status: str = ""
    items: tuple[Piece, ...] = ()
    variants: tuple[Piece, ...] = ()
    payment_methods: tuple[Method, ...] = ()
    paid_with: str = ""
    email: str = ""


def view(args: OrderViewArgs, lookup: ShopLookup) -> OrderView:
    """What the shop's documents say of the order."""
    order, user = lookup.order, lookup.user
    if order is None or user is None or order.user_id != args.user_id or order.order_id != args.order_id:
        return OrderView(found=False)
    offered = (variant for variant in lookup.variants.values() if variant is not None and variant.available)
    payments = (entry for entry in order.payment_history if entry.transaction_type == "payment")
    return OrderView(
        found=True,
        order_id=order.order_id,
        status=order.status,
        items=tuple(Piece(item_id=each.item_id, name=each.name, options=each.options) for each in order.items),
        variants=tuple(Piece(item_id=each.item_id, name=each.name, options=each.options) for each in offered),
        payment_methods=tuple(
            Method(payment_method_id=name, kind=method.source) for name, method in user.payment_methods.items()
        ),
        paid_with=next((entry.payment_method_id for entry in payments), ""),
        email=user.email,
    )
