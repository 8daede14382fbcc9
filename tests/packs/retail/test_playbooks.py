"""What the retail playbooks make of the shared data's requests, and that policy says of each what is expected."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agents.planner.planning import Inputs, make_plan
from mesh.canonical import effect_key
from mesh.expressions import Variables
from mesh.facts import Scope
from mesh.memory import Question
from mesh.records import Plan, Step, Verdict
from packs.retail.arguments import ARGUMENTS, NotifyArgs, OrderArgs, UndoArgs
from packs.retail.client import Shop
from packs.retail.events import EVENTS, MESSAGE, UNASSIGNED
from packs.retail.quote import usd
from packs.retail.shop.process import ShopProcess
from tests.packs.retail.storefront import accept, assessed, lines, plan_for, playbooks


@pytest.fixture(scope="module")
def shop_url(retail_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A shop on the shared data that the tests here only read."""
    with ShopProcess(retail_data, tmp_path_factory.mktemp("shop") / "shop.db") as running:
        yield running.url


@pytest.fixture
async def systems(shop_url: str) -> AsyncIterator[Mapping[str, Any]]:
    async with Shop.open(shop_url) as shop:
        yield {"shop": shop}


def _cases(folder: Path, *outcomes: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    both = zip(lines(folder / "events.jsonl"), lines(folder / "expected.jsonl"), strict=True)
    cases = [(event, expected) for event, expected in both if expected["outcome"] in outcomes]
    assert cases
    return cases


def _step(plan: Plan, step_id: str) -> Step:
    return next(step for step in plan.steps if step.id == step_id)


def _args(plan: Plan, step_id: str) -> Any:
    call = _step(plan, step_id).call
    return msgspec.json.decode(call.args, type=ARGUMENTS[call.tool])


def test_every_event_type_has_one_playbook_named_after_its_tool() -> None:
    assert {book.events for book in playbooks()} == {(kind.name,) for kind in EVENTS} - {(MESSAGE,)}
    requests = [book for book in playbooks() if book.events != (UNASSIGNED,)]
    assert all(book.events == (f"{book.variant_of or book.name}.requested",) for book in requests)
    assert [book.name for book in playbooks() if book.variant_of] == ["retail.cancel-checked", "retail.return-checked"]


@pytest.mark.timeout(60)
async def test_every_request_that_is_carried_out_is_planned_with_the_right_amount_and_permitted(
    retail_data: Path, systems: Mapping[str, Any]
) -> None:
    for event, expected in _cases(retail_data, "completed"):
        context = accept(event)
        plan = await plan_for(context, systems)
        assert [step.id for step in plan.steps] == ["change", "notify"], (event, plan.refusal)
        change = _args(plan, "change")
        amount = round(expected["amount"] * 100)
        assert isinstance(change, OrderArgs)
        assert change.expect_amount == amount, event
        assert usd(amount) in plan.rationale
        assessment = await assessed(context, plan, systems)
        verdict = Verdict.ALLOW if amount <= 50_000 else Verdict.NEEDS_APPROVAL
        assert assessment.verdict is verdict, (event, assessment)


@pytest.mark.timeout(60)
async def test_every_request_that_a_rule_forbids_is_refused_or_denied_for_the_expected_reason(
    retail_data: Path, systems: Mapping[str, Any]
) -> None:
    for event, expected in _cases(retail_data, "refused"):
        context = accept(event)
        plan = await plan_for(context, systems)
        if expected["reason"] == "order not found":
            assert (plan.refusal, plan.steps) == ("order not found", ())
            continue
        assert not plan.refusal
        assessment = await assessed(context, plan, systems)
        assert (assessment.verdict, assessment.reason) == (Verdict.DENY, expected["reason"]), event


async def test_a_plan_repeats_the_request_and_can_take_its_own_change_back(
    retail_data: Path, systems: Mapping[str, Any]
) -> None:
    seen = set()
    for event, _ in _cases(retail_data, "completed"):
        if event["type"] in seen:
            continue
        seen.add(event["type"])
        context = accept(event)
        plan = await plan_for(context, systems)
        change = msgspec.json.decode(_step(plan, "change").call.args)
        asked = {key: value for key, value in event["data"].items() if key != "message"}
        assert {key: value for key, value in change.items() if key != "expect_amount"} == asked
        step = _step(plan, "change")
        assert f"{step.call.tool}.requested" == event["type"]
        assert step.compensation is not None and step.compensation.tool == "retail.undo"
        undo = msgspec.json.decode(step.compensation.args, type=UndoArgs)
        assert undo.change_key == step.effect_key == effect_key(context.header.task_id, "change")
        assert undo.order_id == event["data"]["order_id"]
        assert (await plan_for(context, systems)).digest == plan.digest
    assert seen == {kind.name for kind in EVENTS} - {MESSAGE, UNASSIGNED}  # these two are words


async def test_each_plan_ends_with_a_letter_to_the_customer_that_may_fail(
    retail_data: Path, systems: Mapping[str, Any]
) -> None:
    users = json.loads((retail_data / "users.json").read_text())
    for event, expected in _cases(retail_data, "completed")[:100]:
        plan = await plan_for(accept(event), systems)
        notify = _step(plan, "notify")
        assert (notify.needs, notify.optional, notify.compensation) == (("change",), True, None)
        letter, user = _args(plan, "notify"), users[event["data"]["user_id"]]
        assert isinstance(letter, NotifyArgs)
        assert letter.email == user["email"]
        assert letter.body.startswith(f"Dear {user['name']['first_name']},\n\n")
        assert event["data"]["order_id"] in letter.subject and event["data"]["order_id"] in letter.body
        said = f"{expected['amount']:.2f} USD"
        swap = event["type"] in ("retail.exchange.requested", "retail.change-items.requested")
        assert ("The price stays the same." if swap and not expected["amount"] else said) in letter.body
        assert event["data"]["message"] not in letter.body


async def test_the_letter_about_a_return_reads_well(retail_data: Path, systems: Mapping[str, Any]) -> None:
    event = lines(retail_data / "events.jsonl")[0]
    plan = await plan_for(accept(event), systems)
    assert _args(plan, "notify").body == (
        "Dear Omar,\n\n"
        "we have your return from order #W6067464. Once the items are back with us, 354.49 USD will be refunded to "
        "your credit card.\n\n"
        "Items: Wall Clock, Electric Kettle\n\n"
        "If this is not what you asked for, please answer this letter.\n\n"
        "Your shop\n"
    )
    assert plan.rationale == (
        "Customer omar_anderson_3203 returns 2 item(s) of order #W6067464 (delivered): "
        "354.49 USD go back to credit_card_4190576."
    )


async def test_a_request_without_the_customers_words_is_planned_the_same(
    retail_data: Path, systems: Mapping[str, Any]
) -> None:
    for event, _ in _cases(retail_data, "completed")[:20]:
        silent = {key: value for key, value in event["data"].items() if key != "message"}
        plan = await plan_for(accept(event | {"data": silent}), systems)
        assert plan.steps == (await plan_for(accept(event), systems)).steps


async def test_a_customer_whom_the_shop_does_not_know_gets_no_letter_and_is_denied(
    retail_data: Path, systems: Mapping[str, Any]
) -> None:
    event = lines(retail_data / "events.jsonl")[0]
    context = accept(event | {"data": event["data"] | {"user_id": "nobody"}})
    plan = await plan_for(context, systems)
    assert [step.id for step in plan.steps] == ["change"]
    assert (await assessed(context, plan, systems)).reason == "order belongs to another customer"


def test_a_playbook_recalls_what_is_known_of_the_customer_and_what_people_corrected_in_it(retail_data: Path) -> None:
    seen = Variables({"data": lines(retail_data / "events.jsonl")[0]["data"]})
    for book in playbooks():
        if book.events == (UNASSIGNED,):
            continue  # nobody knows whose it is
        questions = [recall.question("retail", seen) for recall in book.recall]
        assert questions == [
            Question(scope=Scope(domain="retail"), subject="customer/omar_anderson_3203", limit=5),
            Question(scope=Scope(domain="retail"), subject=f"playbook/{book.variant_of or book.name}", limit=5),
        ]


@pytest.mark.timeout(60)
async def test_the_checked_variants_refuse_what_policy_would_deny_and_plan_the_rest_to_the_byte(
    retail_data: Path, systems: Mapping[str, Any]
) -> None:
    variants = {book.events[0]: book for book in playbooks() if book.variant_of}
    spared = 0
    for event, expected in _cases(retail_data, "completed", "refused"):
        if (variant := variants.get(event["type"])) is None:
            continue
        context = accept(event)
        plan = await plan_for(context, systems)
        inputs = Inputs(context, plan.readings)
        again = make_plan(variant, inputs, plan.header)
        if expected["outcome"] == "completed":
            assert (again.digest, again.refusal) == (plan.digest, ""), event
        else:
            assert again.refusal == expected["reason"], event
            spared += bool(plan.steps)
    assert spared >= 50
