"""The six kinds of request that the storefront sends as events, and what customers write in free text.

The customer in ``user_id`` is authenticated there.

The rule: unknown fields are passed over, but what is known is held to its type and bounds.
"""

from typing import Annotated, Literal

import msgspec

from mesh.pack import EventType

OrderId = Annotated[str, msgspec.Meta(pattern=r"^#W[0-9]{7}\Z")]
Id = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_\-]{1,100}\Z")]
Ids = Annotated[tuple[Id, ...], msgspec.Meta(min_length=1, max_length=100)]
Line = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Text = Annotated[str, msgspec.Meta(max_length=10_000)]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What every request holds; ``message`` is the customer's own words."""

    order_id: OrderId
    user_id: Id
    message: Text = ""


class ReturnRequested(Request, frozen=True, kw_only=True):
    """Send items of a delivered order back."""

    item_ids: Ids
    payment_method_id: Id


class SwapRequested(Request, frozen=True, kw_only=True):
    """Swap items for as many new ones, pair by pair."""

    item_ids: Ids
    new_item_ids: Ids
    payment_method_id: Id

    def __post_init__(self) -> None:
        if len(self.item_ids) != len(self.new_item_ids):
            raise ValueError(
                f"new_item_ids: expected {len(self.item_ids)} as in item_ids, not {len(self.new_item_ids)}"
            )


class ExchangeRequested(SwapRequested, frozen=True, kw_only=True):
    """Swap items of a delivered order."""


class ChangeItemsRequested(SwapRequested, frozen=True, kw_only=True):
    """Swap items of a pending order."""


class CancelRequested(Request, frozen=True, kw_only=True):
    """Call a pending order off."""

    reason: Literal["no longer needed", "ordered by mistake"]


class ChangeAddressRequested(Request, frozen=True, kw_only=True):
    """Send a pending order elsewhere."""

    address1: Line
    address2: Annotated[str, msgspec.Meta(max_length=200)]
    city: Line
    country: Line
    state: Line
    zip: Line


class ChangePaymentRequested(Request, frozen=True, kw_only=True):
    """Pay a pending order with another method."""

    payment_method_id: Id


class MessageReceived(msgspec.Struct, frozen=True, kw_only=True):
    """What a customer wrote, in their own words; nothing else is known of what they want.

    The subject of its event should name the message: were it the customer, one that waits for a person would hold up
    all that the customer writes after it.
    """

    user_id: Id
    message: Annotated[str, msgspec.Meta(min_length=1, max_length=10_000)]


_MESSAGE = "/message"
# The customer types the lines of an address; ids and the reason of a cancellation are picked from lists.
_ADDRESS = ("/address1", "/address2", "/city", "/country", "/state", "/zip")

EVENTS = (
    EventType("retail.return.requested", ReturnRequested, taint=(_MESSAGE,), entity="order"),
    EventType("retail.exchange.requested", ExchangeRequested, taint=(_MESSAGE,), entity="order"),
    EventType("retail.cancel.requested", CancelRequested, taint=(_MESSAGE,), entity="order"),
    EventType("retail.change-items.requested", ChangeItemsRequested, taint=(_MESSAGE,), entity="order"),
    EventType("retail.change-address.requested", ChangeAddressRequested, taint=(_MESSAGE, *_ADDRESS), entity="order"),
    EventType("retail.change-payment.requested", ChangePaymentRequested, taint=(_MESSAGE,), entity="order"),
    EventType("retail.message.received", MessageReceived, taint=(_MESSAGE,), entity="message"),
)

MESSAGE = "retail.message.received"
