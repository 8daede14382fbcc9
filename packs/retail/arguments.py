"""The arguments of the shop's tools, as a plan holds them: bounded, and without unknown fields."""

from collections.abc import Mapping
from typing import Annotated

import msgspec

Identifier = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
Identifiers = Annotated[tuple[Identifier, ...], msgspec.Meta(min_length=1, max_length=100)]
Line = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Cents = Annotated[int, msgspec.Meta(ge=0, le=10**12)]  # ten thousand million dollars: far above any limit of policy


class Arguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every call names: an order."""

    order_id: Identifier


class OrderArgs(Arguments, frozen=True, kw_only=True):
    """A change of an order, asked for by a customer; ``expect_amount`` (cents) is what the plan says it moves."""

    user_id: Identifier
    expect_amount: Cents = 0


class MoneyArgs(OrderArgs, frozen=True, kw_only=True):
    """A change that may move money: the plan must say how much."""

    expect_amount: Cents


class ReturnArgs(MoneyArgs, frozen=True, kw_only=True):
    """Send items of a delivered order back; the refund goes to the payment method."""

    item_ids: Identifiers
    payment_method_id: Identifier


class SwapArgs(MoneyArgs, frozen=True, kw_only=True):
    """Swap items for new ones, pair by pair; the payment method pays or gets the difference."""

    item_ids: Identifiers
    new_item_ids: Identifiers
    payment_method_id: Identifier


class ExchangeArgs(SwapArgs, frozen=True, kw_only=True):
    """Swap items of a delivered order."""


class ChangeItemsArgs(SwapArgs, frozen=True, kw_only=True):
    """Swap items of a pending order."""


class CancelArgs(MoneyArgs, frozen=True, kw_only=True):
    """Call a pending order off."""

    reason: Line


class ChangeAddressArgs(OrderArgs, frozen=True, kw_only=True):
    """Send a pending order elsewhere."""

    address1: Line
    address2: Annotated[str, msgspec.Meta(max_length=200)]
    city: Line
    country: Line
    state: Line
    zip: Line


class ChangePaymentArgs(OrderArgs, frozen=True, kw_only=True):
    """Pay a pending order with another method."""

    payment_method_id: Identifier


class NotifyArgs(Arguments, frozen=True, kw_only=True):
    """Write to the customer about their order."""

    user_id: Identifier
    email: Annotated[str, msgspec.Meta(min_length=3, max_length=254)]  # RFC 5321 4.5.3.1.3: a path of 256 with <>
    subject: Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\r\n]*\Z")]
    body: Annotated[str, msgspec.Meta(min_length=1, max_length=10_000)]


class UndoArgs(Arguments, frozen=True, kw_only=True):
    """Take back the change that took effect under a key; a compensation, never a step of its own."""

    change_key: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


StepArgs = ReturnArgs | ExchangeArgs | CancelArgs | ChangeItemsArgs | ChangeAddressArgs | ChangePaymentArgs | NotifyArgs


class HandOverArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A customer's message that a person must read: why, and what was made of it so far.

    Of a mail from nobody whom the shop knows for certain, ``user_id`` is empty and ``sender`` the address.
    """

    user_id: Annotated[str, msgspec.Meta(max_length=100)]
    message: Annotated[str, msgspec.Meta(max_length=10_000)]
    reason: Annotated[str, msgspec.Meta(max_length=2_000)]
    options: Annotated[tuple[str, ...], msgspec.Meta(max_length=10)] = ()
    sender: Annotated[str, msgspec.Meta(max_length=320)] = ""


class CustomerArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An address that a customer may have."""

    email: Annotated[str, msgspec.Meta(max_length=320)]


STEPS: Mapping[str, type[StepArgs]] = {
    "retail.return": ReturnArgs,
    "retail.exchange": ExchangeArgs,
    "retail.cancel": CancelArgs,
    "retail.change-items": ChangeItemsArgs,
    "retail.change-address": ChangeAddressArgs,
    "retail.change-payment": ChangePaymentArgs,
    "retail.notify": NotifyArgs,
}

ARGUMENTS: Mapping[str, type[Arguments]] = {**STEPS, "retail.undo": UndoArgs}
