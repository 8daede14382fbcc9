"""The shop's rules as pure functions: money is conserved, whatever the request."""

from typing import Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from packs.retail.shop.documents import (
    Address,
    Cancel,
    ChangeItems,
    ChangePayment,
    Exchange,
    Item,
    Order,
    Payment,
    PaymentMethod,
    PersonName,
    Return,
    User,
    Variant,
)
from packs.retail.shop.rules import Applied, RuleViolation, apply_request, balance_number, balance_of, cents, dollars

PRICES = st.integers(min_value=1, max_value=900_000)
METHODS = st.sampled_from(["card", "gift"])
HOME = Address(address1="1 Kiln Row", address2="", city="Duluth", country="USA", state="MN", zip="55801")


def _variant(n: int, price: int) -> Variant:
    return Variant(
        product_id=f"p{n // 10}", item_id=f"i{n}", name="Pan", price=dollars(price), available=True, options={}
    )


def _order(prices: list[int], status: str, history: list[tuple[Literal["payment", "refund"], int, str]]) -> Order:
    items = [
        Item(item_id=f"i{n * 10}", name="Pan", options={}, price=dollars(price), product_id=f"p{n}")
        for n, price in enumerate(prices)
    ]
    return Order(
        address=HOME,
        fulfillments=(),
        items=tuple(items),
        order_id="o",
        payment_history=tuple(
            Payment(transaction_type=kind, amount=dollars(amount), payment_method_id=method)
            for kind, amount, method in history
        ),
        status=status,
        user_id="u",
    )


def _user(balance: int) -> User:
    gift = PaymentMethod(id="gift", source="gift_card", balance=balance_number(balance))
    methods = {"card": PaymentMethod(id="card", source="credit_card"), "gift": gift}
    methods["pal"] = PaymentMethod(id="pal", source="paypal")
    name = PersonName(first_name="Dagny", last_name="Hollis")
    return User(address=HOME, email="d@example.com", name=name, orders=("o",), payment_methods=methods)


def _paid(order: Order, method_id: str | None = None) -> int:
    """Give payments minus refunds in cents, of one method or of all."""
    return sum(
        cents(entry.amount) * (1 if entry.transaction_type == "payment" else -1)
        for entry in order.payment_history
        if method_id in {None, entry.payment_method_id}
    )


def _assert_gift_card_mirrors_history(before: Order, user: User, applied: Applied) -> None:
    """What the gift card paid more, it holds less."""
    held = balance_of(user.payment_methods["gift"])
    now = applied.gift_cards.get("gift", held)
    assert now >= 0
    assert (_paid(applied.order, "gift") - _paid(before, "gift")) + (now - held) == 0
    assert set(applied.gift_cards) <= {"gift"}


@given(prices=st.lists(PRICES, min_size=1, max_size=5), to=METHODS, data=st.data())
def test_a_return_promises_the_prices_of_the_pieces_and_moves_nothing_yet(
    prices: list[int], to: str, data: st.DataObject
) -> None:
    order, user = _order(prices, "delivered", [("payment", sum(prices), "card")]), _user(0)
    chosen = data.draw(st.lists(st.sampled_from(range(len(prices))), min_size=1, unique=True))
    request = Return(order_id="o", user_id="u", item_ids=tuple(f"i{n * 10}" for n in chosen), payment_method_id=to)
    applied = apply_request(request, order, user, {})
    assert applied.amount == sum(prices[n] for n in chosen) <= _paid(order)
    assert applied.order.payment_history == order.payment_history
    _assert_gift_card_mirrors_history(order, user, applied)


@given(
    price=PRICES,
    payments=st.lists(st.tuples(PRICES, METHODS, st.integers(0, 3)), min_size=1, max_size=4),
    balance=st.integers(0, 10**6),
)
def test_a_cancellation_gives_back_all_that_was_paid_and_not_yet_refunded(
    price: int, payments: list[tuple[int, str, int]], balance: int
) -> None:
    history: list[tuple[Literal["payment", "refund"], int, str]] = []
    for amount, method, thirds in payments:
        history.append(("payment", amount, method))
        if refund := amount * thirds // 3:
            history.append(("refund", refund, method))
    order, user = _order([price], "pending", history), _user(balance)
    request = Cancel(order_id="o", user_id="u", reason="no longer needed")
    applied = apply_request(request, order, user, {})
    assert _paid(applied.order) == _paid(applied.order, "card") == _paid(applied.order, "gift") == 0
    assert applied.amount == _paid(order)
    _assert_gift_card_mirrors_history(order, user, applied)


@given(
    prices=st.lists(st.tuples(PRICES, PRICES), min_size=1, max_size=5),
    by=METHODS,
    balance=st.integers(0, 10**6),
)
def test_a_change_of_items_leaves_paid_exactly_what_the_items_cost(
    prices: list[tuple[int, int]], by: str, balance: int
) -> None:
    old, new = [pair[0] for pair in prices], [pair[1] for pair in prices]
    order, user = _order(old, "pending", [("payment", sum(old), "card")]), _user(balance)
    variants = {f"i{n * 10 + 1}": _variant(n * 10 + 1, price) for n, price in enumerate(new)}
    request = ChangeItems(
        order_id="o",
        user_id="u",
        item_ids=tuple(item.item_id for item in order.items),
        new_item_ids=tuple(variants),
        payment_method_id=by,
    )
    difference = sum(new) - sum(old)
    if by == "gift" and difference > balance:
        with pytest.raises(RuleViolation, match="insufficient_gift_card"):
            apply_request(request, order, user, variants)
        return
    applied = apply_request(request, order, user, variants)
    assert applied.amount == abs(difference)
    assert _paid(applied.order) == sum(cents(item.price) for item in applied.order.items) == sum(new)
    _assert_gift_card_mirrors_history(order, user, applied)


@given(price=PRICES, balance=st.integers(0, 10**6))
def test_a_changed_payment_is_refunded_once_when_the_order_is_then_cancelled(price: int, balance: int) -> None:
    order, user = _order([price], "pending", [("payment", price, "gift")]), _user(balance)
    moved = apply_request(ChangePayment(order_id="o", user_id="u", payment_method_id="card"), order, user, {})
    assert moved.gift_cards == {"gift": balance + price}
    cancelled = apply_request(
        Cancel(order_id="o", user_id="u", reason="ordered by mistake"), moved.order, _user(balance + price), {}
    )
    assert cancelled.amount == price
    assert cancelled.gift_cards == {}
    assert cancelled.order.payment_history[3:] == (
        Payment(transaction_type="refund", amount=dollars(price), payment_method_id="card"),
    )


@given(amount=st.integers(0, 10**9))
def test_cents_survive_being_written_as_dollars(amount: int) -> None:
    assert cents(dollars(amount)) == cents(balance_number(amount)) == amount


ORDER = _order([1000, 1000], "delivered", [("payment", 2000, "card")])
TWINS = msgspec.structs.replace(ORDER, items=(ORDER.items[0], ORDER.items[0]))
PENDING = msgspec.structs.replace(ORDER, status="pending")
RETURN = Return(order_id="o", user_id="u", item_ids=("i0",), payment_method_id="card")
EXCHANGE = Exchange(order_id="o", user_id="u", item_ids=("i0",), new_item_ids=("i1",), payment_method_id="card")
PAYMENT = ChangePayment(order_id="o", user_id="u", payment_method_id="gift")
replace = msgspec.structs.replace


@pytest.mark.parametrize(
    ("request_", "order", "code"),
    [
        (RETURN, None, "order_not_found"),
        (replace(RETURN, user_id="v"), ORDER, "not_owner"),
        (RETURN, PENDING, "not_delivered"),
        (replace(RETURN, item_ids=("i0", "i0")), ORDER, "item_not_in_order"),
        (replace(RETURN, item_ids=("i0",) * 3), TWINS, "item_not_in_order"),
        (replace(RETURN, payment_method_id="pal"), ORDER, "payment_method_not_allowed"),
        (replace(RETURN, payment_method_id="other"), ORDER, "payment_method_not_found"),
        (replace(RETURN, expect_amount=1), ORDER, "amount_differs"),
        (replace(EXCHANGE, new_item_ids=("i1", "i2")), ORDER, "item_count_differs"),
        (replace(EXCHANGE, new_item_ids=("i9",)), ORDER, "variant_not_available"),
        (replace(EXCHANGE, new_item_ids=("i11",)), ORDER, "variant_not_found"),
        (replace(EXCHANGE, new_item_ids=("i99",)), ORDER, "variant_not_found"),
        (replace(EXCHANGE, payment_method_id="gift"), ORDER, "insufficient_gift_card"),
        (Cancel(order_id="o", user_id="u", reason="no longer needed"), ORDER, "not_pending"),
        (Cancel(order_id="o", user_id="u", reason="a whim"), PENDING, "reason_not_allowed"),
        (PAYMENT, PENDING, "insufficient_gift_card"),
        (replace(PAYMENT, payment_method_id="card"), PENDING, "same_payment_method"),
        (PAYMENT, replace(PENDING, payment_history=PENDING.payment_history * 2), "already_paid_twice"),
    ],
)
def test_each_rule_refuses_by_its_own_code(
    request_: Return | Exchange | Cancel | ChangePayment, order: Order | None, code: str
) -> None:
    variants = {f"i{n}": _variant(n, 5000) for n in (1, 11)} | {"i9": replace(_variant(9, 5000), available=False)}
    with pytest.raises(RuleViolation) as refused:
        apply_request(request_, order, _user(100), variants)
    assert refused.value.code == code


def test_two_pieces_of_the_same_item_can_be_returned() -> None:
    applied = apply_request(replace(RETURN, item_ids=("i0", "i0")), TWINS, _user(0), {})
    assert applied.amount == 2000
    assert applied.order.return_items == ("i0", "i0")
