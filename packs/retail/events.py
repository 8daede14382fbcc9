"""The six kinds of request that the storefront sends as events, and what customers write in free text.

The customer in ``user_id`` is authenticated there.

The rule: unknown fields are passed over, but what is known is held to its type and bounds.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import msgspec

from mesh.finding import INTENT, URGENCY, Finder
from mesh.pack import EventType
from mesh.records import Found

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


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """A file that came with a message, by its SHA-256 in ``ORIGINALS``; ``type`` is what its content is."""

    name: Annotated[str, msgspec.Meta(max_length=500)]
    type: Annotated[str, msgspec.Meta(max_length=200)]
    size: Annotated[int, msgspec.Meta(ge=0)]
    digest: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")]


Attachments = Annotated[tuple[Attachment, ...], msgspec.Meta(max_length=200)]


class MessageReceived(msgspec.Struct, frozen=True, kw_only=True):
    """What a customer wrote, in their own words; nothing else is known of what they want.

    The subject of its event should name the message: were it the customer, one that waits for a person would hold up
    all that the customer writes after it.
    """

    user_id: Id
    message: Annotated[str, msgspec.Meta(min_length=1, max_length=10_000)]
    thread: Annotated[str, msgspec.Meta(max_length=1000)] = ""
    attachments: Attachments = ()


class MailUnassigned(msgspec.Struct, frozen=True, kw_only=True):
    """A mail from nobody whom the shop knows for certain, and ``why``."""

    address: Annotated[str, msgspec.Meta(max_length=320)]
    message: Annotated[str, msgspec.Meta(max_length=10_000)]
    why: Line
    thread: Annotated[str, msgspec.Meta(max_length=1000)] = ""
    attachments: Attachments = ()


_MESSAGE = "/message"
# The customer types the lines of an address; ids and the reason of a cancellation are picked from lists.
_ADDRESS = ("/address1", "/address2", "/city", "/country", "/state", "/zip")

# What can be seen in customers' words. The confidences are counted on 494 real messages by a test.
_FINDS = (
    Finder("order", r"#?\b(W[0-9]{7})\b"),
    Finder(INTENT, r"\b(?:exchang|swap)\w*", "exchange", 0.83),
    Finder(INTENT, r"\b(?:return(?!ed)|send(?:ing)? (?:it|them|this|these) back|refund)\w*", "return", 0.85),
    Finder(INTENT, r"\bcancel\w*|\bcall(?:ing)? (?:it|the order) off\b", "cancel", 0.74),
    Finder(INTENT, r"\b(?:chang|updat|modif)\w* (?:\w+ ){0,4}address", "change-address", 0.53),
    Finder(INTENT, r"\b(?:chang|switch|us)\w* (?:\w+ ){0,4}(?:payment|card|paypal)", "change-payment", 0.65),
    Finder(URGENCY, r"\b(?:urgent(?:ly)?|as soon as possible|asap|immediately)\b", "high", 0.8),
)


def _form(kind: str) -> Callable[[Request, Sequence[Found]], str]:
    return lambda said, found: f"{kind}/{said.order_id.removeprefix('#')}/{said.user_id}"


def _message(said: MessageReceived, found: Sequence[Found]) -> str:
    """The case of a message that names one order and asks for one thing, as far as can be seen."""
    orders = {each.value.upper() for each in found if each.name == "order"}
    intents = {each.value for each in found if each.name == INTENT}
    if len(orders) != 1 or len(intents) != 1:
        return ""
    return f"{intents.pop()}/{orders.pop()}/{said.user_id}"


def _request(kind: str, data: type[Request], more: tuple[str, ...] = ()) -> EventType:
    return EventType(
        f"retail.{kind}.requested",
        data,
        taint=(_MESSAGE, *more),
        entity="order",
        case=_form(kind),
        words=("message",),
    )


EVENTS = (
    _request("return", ReturnRequested),
    _request("exchange", ExchangeRequested),
    _request("cancel", CancelRequested),
    _request("change-items", ChangeItemsRequested),
    _request("change-address", ChangeAddressRequested, _ADDRESS),
    _request("change-payment", ChangePaymentRequested),
    EventType(
        "retail.message.received", MessageReceived, taint=(_MESSAGE,), entity="message", finds=_FINDS, case=_message
    ),
    EventType("retail.mail.unassigned", MailUnassigned, taint=(_MESSAGE, "/address"), entity="message", finds=_FINDS),
)

MESSAGE = "retail.message.received"
UNASSIGNED = "retail.mail.unassigned"
