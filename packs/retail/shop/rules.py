"""The shop's rules as pure functions: one request on one order gives the new order and the money that moves.

All money inside is an integer of cents; the documents' JSON numbers are read and written at the edge of this module.
"""

from collections.abc import Mapping
from typing import assert_never

import msgspec

from packs.retail.shop.documents import (
    Address,
    Cancel,
    ChangeAddress,
    ChangeItems,
    ChangePayment,
    ChangeRequest,
    Exchange,
    Item,
    Movement,
    Order,
    Payment,
    PaymentMethod,
    Return,
    User,
    Variant,
)

CANCEL_REASONS = frozenset({"no longer needed", "ordered by mistake"})


class RuleViolation(Exception):
    """A rule of the shop says no: `code` is for programs, `detail` for people."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What a request does: the order afterwards, new balances of the gift cards that move, and the amount, in cents."""

    order: Order
    gift_cards: dict[str, int]
    amount: int


def cents(usd: float) -> int:
    """Read a USD number as cents; the data's numbers are whole cents up to float noise."""
    return round(usd * 100)


def dollars(amount: int) -> float:
    """Write cents as the USD number a document holds."""
    return round(amount / 100, 2)


def balance_number(amount: int) -> int | float:
    """Write a gift card's balance the way the data does: a whole number of dollars is an integer."""
    return amount // 100 if amount % 100 == 0 else dollars(amount)


def apply_request(
    request: ChangeRequest, order: Order | None, user: User | None, variants: Mapping[str, Variant]
) -> Applied:
    """Carry one request out on documents, or raise RuleViolation; the arguments stay as they are.

    `variants` holds the known variants among the request's new items, by item id.
    """
    if order is None:
        raise RuleViolation("order_not_found", f"there is no order {request.order_id}")
    if order.user_id != request.user_id:
        raise RuleViolation("not_owner", f"order {request.order_id} belongs to another customer")
    if user is None:
        raise RuleViolation("user_not_found", f"there is no customer {request.user_id}")
    applied = _carry_out(request, order, user, variants)
    if request.expect_amount is not None and request.expect_amount != applied.amount:
        raise RuleViolation("amount_differs", f"expected {request.expect_amount} cents, computed {applied.amount}")
    return applied


def _carry_out(request: ChangeRequest, order: Order, user: User, variants: Mapping[str, Variant]) -> Applied:
    match request:
        case Return():
            return _return(request, order, user)
        case Exchange():
            return _exchange(request, order, user, variants)
        case ChangeItems():
            return _change_items(request, order, user, variants)
        case Cancel():
            return _cancel(request, order, user)
        case ChangeAddress():
            return _change_address(request, order)
        case ChangePayment():
            return _change_payment(request, order, user)
        case _:
            assert_never(request)


def _require(order: Order, status: str) -> None:
    if order.status != status:
        raise RuleViolation(f"not_{status}", f"order {order.order_id} is {order.status!r}, not {status!r}")


def _method(user: User, method_id: str) -> PaymentMethod:
    method = user.payment_methods.get(method_id)
    if method is None:
        raise RuleViolation("payment_method_not_found", f"the customer has no payment method {method_id}")
    return method


def balance_of(method: PaymentMethod) -> int:
    """Read a gift card's balance in cents; other methods have none, which is 0."""
    return 0 if method.balance is msgspec.UNSET else cents(method.balance)


def _require_cover(method: PaymentMethod, amount: int) -> None:
    """Raise unless the method can pay `amount` cents; only gift cards have a limit, and only for what they must pay."""
    if method.source == "gift_card" and amount > 0 and balance_of(method) < amount:
        raise RuleViolation(
            "insufficient_gift_card", f"{method.id} holds {balance_of(method)} cents of {amount} needed"
        )


def _moved(user: User, moves: Mapping[str, int]) -> dict[str, int]:
    """Give the new balances of those of the moved methods that are gift cards; a positive move is to the customer."""
    methods = [user.payment_methods[method_id] for method_id in moves if method_id in user.payment_methods]
    return {
        method.id: balance_of(method) + moves[method.id]
        for method in methods
        if method.source == "gift_card" and moves[method.id]
    }


def _pick(order: Order, item_ids: tuple[str, ...]) -> list[int]:
    """Give the positions in the order of the wanted pieces, each position once."""
    free = list(range(len(order.items)))
    picked: list[int] = []
    for item_id in item_ids:
        position = next((n for n in free if order.items[n].item_id == item_id), None)
        if position is None:
            wanted = item_ids.count(item_id)
            raise RuleViolation("item_not_in_order", f"order {order.order_id} does not hold {wanted} of item {item_id}")
        free.remove(position)
        picked.append(position)
    return picked


def _entry(transaction_type: Movement, amount: int, method_id: str) -> Payment:
    return Payment(amount=dollars(amount), payment_method_id=method_id, transaction_type=transaction_type)


def _return(request: Return, order: Order, user: User) -> Applied:
    _require(order, "delivered")
    picked = _pick(order, request.item_ids)
    method = _method(user, request.payment_method_id)
    first = next((p.payment_method_id for p in order.payment_history if p.transaction_type == "payment"), None)
    if method.id != first and method.source != "gift_card":
        raise RuleViolation("payment_method_not_allowed", f"{method.id} is neither the first payment nor a gift card")
    returned = msgspec.structs.replace(
        order,
        status="return requested",
        return_items=tuple(sorted(request.item_ids)),
        return_payment_method_id=method.id,
    )
    return Applied(order=returned, gift_cards={}, amount=sum(cents(order.items[n].price) for n in picked))


def _swaps(
    request: Exchange | ChangeItems, order: Order, variants: Mapping[str, Variant]
) -> tuple[dict[int, Variant], int]:
    """Give the new variant for each position and the price difference (new minus old) in cents."""
    if len(request.item_ids) != len(request.new_item_ids):
        raise RuleViolation("item_count_differs", f"{len(request.new_item_ids)} new for {len(request.item_ids)} items")
    swaps: dict[int, Variant] = {}
    difference = 0
    for position, new_id in zip(_pick(order, request.item_ids), request.new_item_ids, strict=True):
        item, variant = order.items[position], variants.get(new_id)
        if variant is None or variant.product_id != item.product_id:
            raise RuleViolation("variant_not_found", f"{new_id} is not a variant of product {item.product_id}")
        if not variant.available:
            raise RuleViolation("variant_not_available", f"{new_id} is not available")
        swaps[position] = variant
        difference += cents(variant.price) - cents(item.price)
    return swaps, difference


def _exchange(request: Exchange, order: Order, user: User, variants: Mapping[str, Variant]) -> Applied:
    _require(order, "delivered")
    _, difference = _swaps(request, order, variants)
    method = _method(user, request.payment_method_id)
    _require_cover(method, difference)
    exchanged = msgspec.structs.replace(
        order,
        status="exchange requested",
        exchange_items=tuple(sorted(request.item_ids)),
        exchange_new_items=tuple(sorted(request.new_item_ids)),
        exchange_payment_method_id=method.id,
        exchange_price_difference=dollars(difference),
    )
    return Applied(order=exchanged, gift_cards={}, amount=abs(difference))


def _change_items(request: ChangeItems, order: Order, user: User, variants: Mapping[str, Variant]) -> Applied:
    _require(order, "pending")
    swaps, difference = _swaps(request, order, variants)
    method = _method(user, request.payment_method_id)
    _require_cover(method, difference)
    entry = _entry("payment" if difference > 0 else "refund", abs(difference), method.id)
    changed = msgspec.structs.replace(
        order,
        status="pending (item modified)",
        items=tuple(_swapped(item, swaps.get(n)) for n, item in enumerate(order.items)),
        payment_history=(*order.payment_history, entry),
    )
    return Applied(order=changed, gift_cards=_moved(user, {method.id: -difference}), amount=abs(difference))


def _swapped(item: Item, variant: Variant | None) -> Item:
    if variant is None:
        return item
    return msgspec.structs.replace(item, item_id=variant.item_id, price=variant.price, options=variant.options)


def _unrefunded(order: Order) -> list[tuple[str, int]]:
    """Give method and open cents of every payment; a refund closes the latest earlier payment of its method."""
    unpaid: list[tuple[str, int]] = []
    for entry in order.payment_history:
        amount = cents(entry.amount)
        if entry.transaction_type == "payment":
            unpaid.append((entry.payment_method_id, amount))
            continue
        for n in reversed(range(len(unpaid))):
            method_id, open_amount = unpaid[n]
            if method_id == entry.payment_method_id:
                taken = min(open_amount, amount)
                unpaid[n] = (method_id, open_amount - taken)
                amount -= taken
    return [(method_id, amount) for method_id, amount in unpaid if amount > 0]


def _cancel(request: Cancel, order: Order, user: User) -> Applied:
    _require(order, "pending")
    if request.reason not in CANCEL_REASONS:
        raise RuleViolation("reason_not_allowed", f"the reason must be one of {sorted(CANCEL_REASONS)}")
    refunds = _unrefunded(order)
    moves: dict[str, int] = {}
    for method_id, amount in refunds:
        moves[method_id] = moves.get(method_id, 0) + amount
    cancelled = msgspec.structs.replace(
        order,
        status="cancelled",
        cancel_reason=request.reason,
        payment_history=order.payment_history + tuple(_entry("refund", amount, m) for m, amount in refunds),
    )
    return Applied(order=cancelled, gift_cards=_moved(user, moves), amount=sum(moves.values()))


def _change_address(request: ChangeAddress, order: Order) -> Applied:
    _require(order, "pending")
    address = Address(
        address1=request.address1,
        address2=request.address2,
        city=request.city,
        country=request.country,
        state=request.state,
        zip=request.zip,
    )
    return Applied(order=msgspec.structs.replace(order, address=address), gift_cards={}, amount=0)


def _change_payment(request: ChangePayment, order: Order, user: User) -> Applied:
    _require(order, "pending")
    if len(order.payment_history) != 1 or order.payment_history[0].transaction_type != "payment":
        raise RuleViolation("already_paid_twice", f"order {order.order_id} must have exactly one payment so far")
    paid = order.payment_history[0]
    method = _method(user, request.payment_method_id)
    if method.id == paid.payment_method_id:
        raise RuleViolation("same_payment_method", f"order {order.order_id} is already paid with {method.id}")
    amount = cents(paid.amount)
    _require_cover(method, amount)
    entries = (_entry("payment", amount, method.id), _entry("refund", amount, paid.payment_method_id))
    changed = msgspec.structs.replace(order, payment_history=order.payment_history + entries)
    moves = {method.id: -amount, paid.payment_method_id: amount}
    return Applied(order=changed, gift_cards=_moved(user, moves), amount=0)
