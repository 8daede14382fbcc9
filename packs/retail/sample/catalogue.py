"""The sample's invented goods and customers; the same random generator always makes the same ones."""

import itertools
import random

from packs.retail.shop.documents import Address, PaymentMethod, PersonName, Product, ProductVariant, User
from packs.retail.shop.rules import dollars

# name, price of the cheapest variant in USD, options
GOODS: tuple[tuple[str, int, dict[str, tuple[str, ...]]], ...] = (
    ("Rain Jacket", 89, {"colour": ("moss", "slate", "ochre"), "size": ("S", "L")}),
    ("Wool Blanket", 64, {"weave": ("twill", "waffle"), "colour": ("oat", "rust", "ink")}),
    ("Ceramic Planter", 22, {"diameter": ("12 cm", "18 cm", "25 cm"), "glaze": ("matt", "gloss")}),
    ("Cast Iron Pan", 41, {"diameter": ("20 cm", "26 cm", "30 cm"), "lid": ("with", "without")}),
    ("Chef Knife", 78, {"blade": ("17 cm", "21 cm"), "handle": ("ash", "walnut", "resin")}),
    ("Drafting Lamp", 57, {"base": ("clamp", "weighted"), "colour": ("white", "graphite", "brass")}),
    ("Field Tent", 310, {"sleeps": ("2", "3", "4"), "season": ("three", "four")}),
    ("Sewing Machine", 420, {"stitches": ("24", "60", "120"), "table": ("with", "without")}),
    ("Spotting Scope", 655, {"aperture": ("60 mm", "80 mm", "95 mm"), "body": ("straight", "angled")}),
    ("Sea Kayak", 1240, {"length": ("4.2 m", "4.8 m", "5.3 m"), "hull": ("polyethylene", "fibreglass")}),
    ("Cargo Trike", 2380, {"drive": ("pedal", "assisted"), "box": ("open", "lidded", "insulated")}),
    ("Workshop Lathe", 4890, {"bed": ("700 mm", "1000 mm"), "speed": ("fixed", "geared", "variable")}),
)

FIRST = ("Bruna", "Caspian", "Dagny", "Eskil", "Femke", "Gideon", "Hedda", "Ilja", "Jorun", "Kaspar")
LAST = ("Abernathy", "Bergstrom", "Castellan", "Dragan", "Eberhart", "Fonseca", "Grimaldi", "Hollis", "Ikeda", "Jansen")
STREETS = ("Kiln Row", "Ferry Steps", "Tannery Way", "Old Quay", "Mill Race", "Signal Hill")
TOWNS = (("Duluth", "MN", "558"), ("Astoria", "OR", "971"), ("Bangor", "ME", "044"), ("Galena", "IL", "610"))


def number(chance: random.Random, digits: int) -> str:
    """Draw a number of exactly that many digits."""
    return str(chance.randrange(10 ** (digits - 1), 10**digits))


def address(chance: random.Random) -> Address:
    """Draw a postal address."""
    town, state, zone = chance.choice(TOWNS)
    return Address(
        address1=f"{chance.randrange(1, 240)} {chance.choice(STREETS)}",
        address2=f"Unit {chance.randrange(1, 60)}",
        city=town,
        country="USA",
        state=state,
        zip=f"{zone}{chance.randrange(10, 99)}",
    )


def products(chance: random.Random) -> dict[str, Product]:
    """Make every product; its variants grow dearer one by one, and one of them is sold out."""
    made: dict[str, Product] = {}
    for name, cheapest, axes in GOODS:
        variants: dict[str, ProductVariant] = {}
        combinations = list(itertools.product(*axes.values()))
        sold_out = chance.randrange(1, len(combinations))
        for n, values in enumerate(combinations):
            price = cheapest * (100 + 4 * n) + chance.randrange(100)
            item_id = number(chance, 10)
            variants[item_id] = ProductVariant(
                available=n != sold_out,
                item_id=item_id,
                options=dict(zip(axes, values, strict=True)),
                price=dollars(price),
            )
        product_id = number(chance, 10)
        made[product_id] = Product(name=name, product_id=product_id, variants=variants)
    return made


def users(chance: random.Random, count: int) -> dict[str, User]:
    """Make customers without orders: each has a credit card and a gift card, every second one also PayPal."""
    made: dict[str, User] = {}
    for n in range(count):
        first, last = FIRST[n % len(FIRST)], LAST[(n * 3 + n // len(FIRST)) % len(LAST)]
        digits = number(chance, 4)
        methods = [
            PaymentMethod(
                id=f"credit_card_{number(chance, 7)}",
                source="credit_card",
                brand=chance.choice(("visa", "mastercard")),
                last_four=number(chance, 4),
            ),
            PaymentMethod(id=f"gift_card_{number(chance, 7)}", source="gift_card", balance=chance.randrange(60, 140)),
        ]
        if n % 2:
            methods.append(PaymentMethod(id=f"paypal_{number(chance, 7)}", source="paypal"))
        user_id = f"{first}_{last}_{digits}".lower()
        made[user_id] = User(
            address=address(chance),
            email=f"{first}.{last}{digits}@example.com".lower(),
            name=PersonName(first_name=first, last_name=last),
            orders=(),
            payment_methods={method.id: method for method in methods},
        )
    return made
