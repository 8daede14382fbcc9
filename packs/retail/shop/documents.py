"""The shop's documents as the data files hold them, and the change requests it accepts.

Documents refuse unknown fields, so nothing of a data file is lost on the way through the shop.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

Identifier = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
Line = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Identifiers = Annotated[tuple[Identifier, ...], msgspec.Meta(min_length=1, max_length=100)]

Movement = Literal["payment", "refund"]


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What every stored document has in common: immutable, all fields known, absent fields left out."""


class Address(Document, frozen=True, kw_only=True):
    """Where an order goes, or a customer lives."""

    address1: str
    address2: str
    city: str
    country: str
    state: str
    zip: str


class Item(Document, frozen=True, kw_only=True):
    """One piece in an order; its price in USD is the price at the time of the sale."""

    item_id: str
    name: str
    options: dict[str, str]
    price: float
    product_id: str


class Fulfillment(Document, frozen=True, kw_only=True):
    """One parcel and the pieces in it."""

    item_ids: tuple[str, ...]
    tracking_id: tuple[str, ...]


class Payment(Document, frozen=True, kw_only=True):
    """One movement of money in USD: a payment by the customer or a refund to them."""

    amount: float
    payment_method_id: str
    transaction_type: Movement


class Order(Document, frozen=True, kw_only=True):
    """A customer's order; the fields after `user_id` appear as requests are carried out."""

    address: Address
    fulfillments: tuple[Fulfillment, ...]
    items: tuple[Item, ...]
    order_id: str
    payment_history: tuple[Payment, ...]
    status: str
    user_id: str
    cancel_reason: str | msgspec.UnsetType = msgspec.UNSET
    return_items: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    return_payment_method_id: str | msgspec.UnsetType = msgspec.UNSET
    exchange_items: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    exchange_new_items: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    exchange_payment_method_id: str | msgspec.UnsetType = msgspec.UNSET
    exchange_price_difference: float | msgspec.UnsetType = msgspec.UNSET


class PaymentMethod(Document, frozen=True, kw_only=True):
    """A credit card, PayPal account or gift card; only a gift card has a balance, in USD."""

    id: str
    source: Literal["credit_card", "gift_card", "paypal"]
    balance: int | float | msgspec.UnsetType = msgspec.UNSET
    brand: str | msgspec.UnsetType = msgspec.UNSET
    last_four: str | msgspec.UnsetType = msgspec.UNSET


class PersonName(Document, frozen=True, kw_only=True):
    """A customer's name."""

    first_name: str
    last_name: str


class User(Document, frozen=True, kw_only=True):
    """A customer with their payment methods by id."""

    address: Address
    email: str
    name: PersonName
    orders: tuple[str, ...]
    payment_methods: dict[str, PaymentMethod]


class ProductVariant(Document, frozen=True, kw_only=True):
    """A variant as a product lists it."""

    available: bool
    item_id: str
    options: dict[str, str]
    price: float


class Product(Document, frozen=True, kw_only=True):
    """A product with its variants by item id."""

    name: str
    product_id: str
    variants: dict[str, ProductVariant]


class Variant(Document, frozen=True, kw_only=True):
    """A variant with the product it belongs to, as `/lookup` shows it; the price is in USD."""

    product_id: str
    item_id: str
    name: str
    price: float
    available: bool
    options: dict[str, str]


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What every change request carries; `expect_amount` is what the sender was told it would move, in cents."""

    order_id: Identifier
    user_id: Identifier
    expect_amount: int | None = None


class Return(Request, frozen=True, kw_only=True, tag="return"):
    """Send pieces of a delivered order back."""

    item_ids: Identifiers
    payment_method_id: Identifier


class Exchange(Request, frozen=True, kw_only=True, tag="exchange"):
    """Swap pieces of a delivered order for other variants."""

    item_ids: Identifiers
    new_item_ids: Identifiers
    payment_method_id: Identifier


class ChangeItems(Request, frozen=True, kw_only=True, tag="change-items"):
    """Swap pieces of a pending order for other variants."""

    item_ids: Identifiers
    new_item_ids: Identifiers
    payment_method_id: Identifier


class Cancel(Request, frozen=True, kw_only=True, tag="cancel"):
    """Call a pending order off."""

    reason: Line


class ChangeAddress(Request, frozen=True, kw_only=True, tag="change-address"):
    """Send a pending order elsewhere."""

    address1: Line
    address2: Annotated[str, msgspec.Meta(max_length=200)]
    city: Line
    country: Line
    state: Line
    zip: Line


class ChangePayment(Request, frozen=True, kw_only=True, tag="change-payment"):
    """Pay a pending order with another method."""

    payment_method_id: Identifier


ChangeRequest = Return | Exchange | ChangeItems | Cancel | ChangeAddress | ChangePayment


def kind_of(request: ChangeRequest) -> str:
    """Name a request's kind as it is written on the wire."""
    return str(request.__struct_config__.tag)


def variants_of(products: Mapping[str, Product]) -> dict[str, Variant]:
    """Give every product's variants by item id; an item id belongs to one product, else ValueError."""
    variants: dict[str, Variant] = {}
    for product in products.values():
        for item_id, listed in product.variants.items():
            if item_id in variants:
                raise ValueError(f"item {item_id} is listed by two products, {product.product_id} is the second")
            variants[item_id] = Variant(
                product_id=product.product_id,
                item_id=item_id,
                name=product.name,
                price=listed.price,
                available=listed.available,
                options=listed.options,
            )
    return variants
