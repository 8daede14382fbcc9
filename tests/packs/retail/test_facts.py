"""The shop's facts and policies together reach, for every request of the shared data, what must come of it."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mesh.pack import Sheet
from mesh.records import StepVerdict, Verdict
from packs.retail.arguments import STEPS, NotifyArgs, StepArgs
from packs.retail.facts import Lookup, RetailFacts, cents, facts_for, read_lookup
from policy_service.bundle import Bundle, BundleContents
from policy_service.cases import DEFAULTS
from policy_service.engine import Question, judge

POLICIES = Path(__file__).resolve().parents[3] / "packs" / "retail" / "policies"
NOBODY: frozenset[str] = frozenset()
MANAGER = frozenset({"refund_manager"})


class Line(msgspec.Struct):
    """One request of the shared data with what must come of it."""

    id: str
    tool: str
    data: dict[str, Any]
    outcome: str
    reason: str
    amount: int


class Shop:
    """The shop's documents, answering as its ``GET /lookup`` does."""

    def __init__(self, folder: Path) -> None:
        read = msgspec.json.decode
        self.orders: dict[str, msgspec.Raw] = read((folder / "orders.json").read_bytes(), type=dict[str, msgspec.Raw])
        self.users: dict[str, msgspec.Raw] = read((folder / "users.json").read_bytes(), type=dict[str, msgspec.Raw])
        products = read((folder / "products.json").read_bytes())
        self.variants = {
            item_id: {**variant, "product_id": product["product_id"], "name": product["name"]}
            for product in products.values()
            for item_id, variant in product["variants"].items()
        }

    def lookup(self, data: dict[str, Any]) -> Lookup:
        """The documents that a request names."""
        wanted = data.get("new_item_ids", ())
        answer = {
            "order": self.orders.get(data["order_id"]),
            "user": self.users.get(data["user_id"]),
            "variants": {item_id: self.variants.get(item_id) for item_id in wanted},
        }
        return read_lookup(msgspec.json.encode(answer))


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """The shop's policies, compiled."""
    return Bundle.load(BundleContents.read(POLICIES, "retail"))


@pytest.fixture(scope="module")
def shop(retail_data: Path) -> Shop:
    """The shop of the shared data."""
    return Shop(retail_data)


@pytest.fixture(scope="module")
def lines(retail_data: Path) -> list[Line]:
    """The requests that are valid and not seen before."""
    events = (retail_data / "events.jsonl").read_text().splitlines()
    expected = (retail_data / "expected.jsonl").read_text().splitlines()
    found: list[Line] = []
    for text, answer in zip(events, map(msgspec.json.decode, expected), strict=True):
        if answer["outcome"] in ("completed", "refused"):
            event = msgspec.json.decode(text)
            amount = round(answer.get("amount", 0) * 100)
            tool = event["type"].removesuffix(".requested")
            reason = answer.get("reason", "")
            found.append(Line(event["id"], tool, event["data"], answer["outcome"], reason, amount))
    return found


def arguments(line: Line, amount: int) -> StepArgs:
    """The arguments that a planner makes of a request."""
    kind = STEPS[line.tool]
    data = {key: value for key, value in line.data.items() if key in kind.__struct_fields__}
    args: StepArgs = msgspec.convert({**data, "expect_amount": amount}, kind)
    return args


def read_facts(line: Line, shop: Shop) -> RetailFacts:
    """The facts of a request whose plan names the right amount."""
    lookup, customer = shop.lookup(line.data), line.data["user_id"]
    amount = facts_for(line.tool, arguments(line, 0), lookup).amount
    return facts_for(line.tool, arguments(line, amount), lookup, customer=customer)


def decide(bundle: Bundle, tool: str, facts: RetailFacts, approvals: frozenset[str]) -> StepVerdict:
    """What policy says of a step with these facts."""
    sheet = Sheet(facts=msgspec.Raw(msgspec.json.encode(facts)), amount=facts.amount)
    extras = {**DEFAULTS, "total": facts.amount}
    return judge(bundle, Question(step="s", tool=tool, sheet=sheet, extras=extras), approvals)


def test_with_approval_exactly_the_requests_that_must_be_completed_are_allowed(
    bundle: Bundle, shop: Shop, lines: list[Line]
) -> None:
    assert len(lines) == 444
    for line in lines:
        facts = read_facts(line, shop)
        verdict = decide(bundle, line.tool, facts, MANAGER)
        assert (verdict.verdict is Verdict.ALLOW) == (line.outcome == "completed"), (line, verdict)
        if line.outcome == "completed":
            assert facts.amount == line.amount, line
        else:
            assert (verdict.verdict, verdict.reasons[0]) == (Verdict.DENY, line.reason), line


def test_without_approval_exactly_the_amounts_above_the_limit_wait(
    bundle: Bundle, shop: Shop, lines: list[Line]
) -> None:
    completed = [line for line in lines if line.outcome == "completed"]
    verdicts = [decide(bundle, line.tool, read_facts(line, shop), NOBODY) for line in completed]
    waiting = {line.id for line, v in zip(completed, verdicts, strict=True) if v.verdict is Verdict.NEEDS_APPROVAL}
    assert waiting == {line.id for line in completed if line.amount > 500_00}
    assert all(
        v.verdict is Verdict.ALLOW for line, v in zip(completed, verdicts, strict=True) if line.id not in waiting
    )


def test_a_plan_that_names_another_amount_is_denied(bundle: Bundle, shop: Shop, lines: list[Line]) -> None:
    line = next(line for line in lines if line.tool == "retail.return" and line.outcome == "completed")
    facts = facts_for(line.tool, arguments(line, line.amount + 1), shop.lookup(line.data))
    assert decide(bundle, line.tool, facts, MANAGER).reasons == ("the amount differs from the one that the plan names",)


def test_a_plan_cannot_speak_for_another_customer(bundle: Bundle, shop: Shop, lines: list[Line]) -> None:
    line = next(line for line in lines if line.outcome == "completed")
    args, lookup = arguments(line, line.amount), shop.lookup(line.data)
    assert facts_for(line.tool, args, lookup, customer=line.data["user_id"]).owner_matches
    facts = facts_for(line.tool, args, lookup, customer="somebody_else_1")
    assert decide(bundle, line.tool, facts, MANAGER).reasons == ("order belongs to another customer",)


ORDER: dict[str, Any] = {
    "order_id": "#1",
    "user_id": "u",
    "status": "delivered",
    "items": [
        {"item_id": "a", "product_id": "A", "price": 10.1},
        {"item_id": "b", "product_id": "B", "price": 20.25},
    ],
    "payment_history": [{"transaction_type": "payment", "amount": 30.35, "payment_method_id": "card"}],
}
USER = {
    "email": "u@example.com",
    "payment_methods": {
        "card": {"id": "card", "source": "credit_card", "last_four": "1234"},
        "gift": {"id": "gift", "source": "gift_card", "balance": 5},
    },
}
VARIANTS = {
    "a2": {"product_id": "A", "item_id": "a2", "price": 15.1, "available": True},
    "a3": {"product_id": "A", "item_id": "a3", "price": 15.11, "available": True},
    "a4": {"product_id": "A", "item_id": "a4", "price": 1.0, "available": False},
    "b2": {"product_id": "B", "item_id": "b2", "price": 1.0, "available": True},
    "gone": None,
}
BASE = {"order_id": "#1", "user_id": "u"}


def facts_of(kind: str, order: dict[str, Any] | None = ORDER, user: Any = USER, **args: Any) -> RetailFacts:
    """The facts of one step against the small shop above."""
    tool = f"retail.{kind}"
    lookup = read_lookup(msgspec.json.encode({"order": order, "user": user, "variants": VARIANTS}))
    parsed: StepArgs = msgspec.convert(BASE | args, STEPS[tool])
    return facts_for(tool, parsed, lookup)


def swap(old: list[str], new: list[str], method: str = "gift") -> RetailFacts:
    """The facts of an exchange."""
    return facts_of("exchange", item_ids=old, new_item_ids=new, payment_method_id=method, expect_amount=500)


@pytest.mark.parametrize(("items", "held"), [(["a"], True), (["b", "a"], True), (["a", "a"], False), (["c"], False)])
def test_each_piece_of_an_order_can_be_returned_once(items: list[str], held: bool) -> None:
    facts = facts_of("return", item_ids=items, payment_method_id="card", expect_amount=0)
    assert facts.items_in_order is held
    assert (facts.amount > 0) is held


def test_a_refund_may_go_to_the_first_payment_or_a_gift_card() -> None:
    to = {
        method: facts_of("return", item_ids=["a"], payment_method_id=method, expect_amount=1010)
        for method in ("card", "gift", "none")
    }
    assert (to["card"].payment_method_is_original, to["card"].payment_method_is_gift_card) == (True, False)
    assert (to["gift"].payment_method_is_original, to["gift"].payment_method_is_gift_card) == (False, True)
    assert (to["none"].payment_method_found, to["none"].gift_card_covers) == (False, False)
    assert all(facts.args_amount_matches and facts.amount == 1010 for facts in to.values())


@pytest.mark.parametrize(
    ("old", "new", "ok"),
    [
        (["a"], ["a2"], True),
        (["a", "b"], ["a2", "b2"], True),
        (["a", "b"], ["b2", "a2"], False),
        (["a"], ["a4"], False),
        (["a"], ["gone"], False),
        (["a"], ["unknown"], False),
        (["a"], ["a2", "b2"], False),
        (["a", "a"], ["a2", "a2"], False),
    ],
)
def test_new_items_must_be_available_variants_pair_by_pair(old: list[str], new: list[str], ok: bool) -> None:
    assert swap(old, new).variants_ok is ok


def test_a_gift_card_must_cover_what_is_to_pay_to_the_cent() -> None:
    assert (swap(["a"], ["a2"]).gift_card_covers, swap(["a"], ["a2"]).amount) == (True, 500)
    assert (swap(["a"], ["a3"]).gift_card_covers, swap(["a"], ["a3"]).amount) == (False, 501)
    assert (swap(["b"], ["b2"]).gift_card_covers, swap(["b"], ["b2"]).amount) == (True, 1925)
    assert swap(["a"], ["a3"], "card").gift_card_covers


def test_a_cancellation_moves_what_was_paid_and_not_refunded() -> None:
    history = [
        {"transaction_type": "payment", "amount": 30.35, "payment_method_id": "card"},
        {"transaction_type": "payment", "amount": 30.35, "payment_method_id": "gift"},
        {"transaction_type": "refund", "amount": 30.35, "payment_method_id": "card"},
    ]
    facts = facts_of("cancel", ORDER | {"payment_history": history}, reason="no longer needed", expect_amount=3035)
    assert (facts.amount, facts.payments_count, facts.refunds_count) == (3035, 2, 1)
    assert (facts.reason_ok, facts.args_amount_matches) == (True, True)
    assert not facts_of("cancel", reason="bored", expect_amount=3035).reason_ok


def test_another_payment_method_must_be_another_one_and_cover_the_order() -> None:
    same, gift = (facts_of("change-payment", payment_method_id=method) for method in ("card", "gift"))
    assert (same.same_payment_method, same.gift_card_covers, same.amount) == (True, True, 0)
    assert (gift.same_payment_method, gift.gift_card_covers, gift.amount) == (False, False, 0)


def test_a_notice_goes_only_to_the_customers_own_address(bundle: Bundle) -> None:
    for email, verdict in (("u@example.com", Verdict.ALLOW), ("u@example.org", Verdict.DENY)):
        facts = facts_of("notify", email=email, subject="Your order", body="It is done.")
        assert decide(bundle, "retail.notify", facts, NOBODY).verdict is verdict


def test_a_subject_of_two_lines_is_no_argument() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(BASE | {"email": "u@example.com", "subject": "a\nBcc: x", "body": "b"}, NotifyArgs)


ALL_ARGS: dict[str, dict[str, Any]] = {
    "return": {"item_ids": ["a"], "payment_method_id": "card", "expect_amount": 1},
    "exchange": {"item_ids": ["a"], "new_item_ids": ["a2"], "payment_method_id": "card", "expect_amount": 1},
    "change-items": {"item_ids": ["a"], "new_item_ids": ["a2"], "payment_method_id": "card", "expect_amount": 1},
    "cancel": {"reason": "no longer needed", "expect_amount": 1},
    "change-address": dict.fromkeys(("address1", "address2", "city", "country", "state", "zip"), "x"),
    "change-payment": {"payment_method_id": "card"},
    "notify": {"email": "u@example.com", "subject": "s", "body": "b"},
}


@pytest.mark.parametrize("kind", ALL_ARGS)
def test_what_the_shop_does_not_know_is_a_reason_and_not_an_error(bundle: Bundle, kind: str) -> None:
    tool = f"retail.{kind}"
    unknown = decide(bundle, tool, facts_of(kind, None, None, **ALL_ARGS[kind]), MANAGER)
    assert (unknown.verdict, unknown.reasons[0]) == (Verdict.DENY, "order not found")
    other = decide(bundle, tool, facts_of(kind, ORDER | {"order_id": "#2"}, **ALL_ARGS[kind]), MANAGER)
    assert (other.verdict, other.reasons[0]) == (Verdict.DENY, "order not found")
    empty = ORDER | {"items": [], "payment_history": []}
    assert decide(bundle, tool, facts_of(kind, empty, None, **ALL_ARGS[kind]), MANAGER).verdict is Verdict.DENY


def test_arguments_of_another_tool_are_refused() -> None:
    lookup = Lookup(order=None, user=None)
    args: StepArgs = msgspec.convert(BASE | ALL_ARGS["cancel"], STEPS["retail.cancel"])
    for kind in ("retail.return", "retail.undo", "cancel"):
        with pytest.raises(ValueError, match=kind):
            facts_for(kind, args, lookup)


def test_money_is_read_exactly() -> None:
    assert [cents(Decimal(text)) for text in ("131.94", "17", "131.94000000000003", "0.29", "-1.005")] == [
        13194,
        1700,
        13194,
        29,
        -100,
    ]
