"""Budgets stop in time, whichever copy asks; and what happens at the limit is as the settings say."""

import pytest

from mesh.inference import Completion, CompletionStatus, Mode, Tier
from mesh.scripted.conversations import Turn
from tests.agents.model.desk import ANSWER, BUDGETS, SMALL, Desk, bound

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(60)]

BOTH = (Tier.LARGE, Tier.SMALL)


async def test_no_copy_asks_beyond_the_cap(desk: Desk) -> None:
    desk.says(Turn(answer=ANSWER), user="one of many")
    cap = BUDGETS["many"][0]
    found: list[Completion] = []
    while len({each.header.writer for each in found}) < 2:  # a busy machine may let one of them take a whole round
        assert len(found) < 400
        prompts = [desk.prompt(f"one of many {len(found) + number:02}", domain="many") for number in range(40)]
        await desk.put(*prompts)
        found += [await desk.completion(prompt) for prompt in prompts]
    assert {each.header.writer for each in found} == {"model/model-1", "model/model-2"}
    others = [
        each.reason for each in found if each.status not in (CompletionStatus.ANSWERED, CompletionStatus.OVER_BUDGET)
    ]
    assert others == []
    assert {each.status for each in found} == {CompletionStatus.ANSWERED, CompletionStatus.OVER_BUDGET}
    assert 0 < desk.invoice("one of many") <= cap
    for each in found:
        if each.status is CompletionStatus.OVER_BUDGET:
            assert "over budget" in each.reason
            assert "left" in each.reason
            assert each.usage == ()
    window = await desk.window("many")
    assert window.agrees
    assert window.spent == desk.invoice("one of many")
    # As many as the cap has room for: answers cost less than their bounds.
    assert window.spent + bound("one of many 00") > cap


async def test_at_the_limit_a_cheaper_model_is_asked_as_far_as_that_fits(desk: Desk) -> None:
    desk.says(Turn(answer=ANSWER), user="cheaper")
    found = await desk.ask("cheaper", domain="cheaper", chain=BOTH)
    assert (found.status, found.model) == (CompletionStatus.ANSWERED, SMALL)
    assert "over budget" in found.reason
    only = await desk.ask("cheaper too", domain="cheaper", chain=(Tier.LARGE,))
    assert only.status is CompletionStatus.OVER_BUDGET


async def test_at_the_limit_nobody_else_is_asked_where_a_person_is_to_decide(desk: Desk) -> None:
    found = await desk.ask("decide", domain="decide", chain=BOTH)
    assert (found.status, found.usage) == (CompletionStatus.OVER_BUDGET, ())
    assert desk.calls_about("decide") == 0


async def test_a_batch_holds_no_more_than_the_budget_has_room_for(desk: Desk) -> None:
    desk.says(Turn(answer=ANSWER), user="of a batch")
    prompts = [desk.prompt(f"of a batch {number}", domain="batched", mode=Mode.BATCH) for number in range(10)]
    await desk.put(*prompts)
    found = [await desk.completion(prompt) for prompt in prompts]
    answered = [each for each in found if each.status is CompletionStatus.ANSWERED]
    over = [each for each in found if each.status is CompletionStatus.OVER_BUDGET]
    assert len(answered) >= 3
    assert len(over) == 10 - len(answered) > 0
    assert all("budget" in each.reason and not each.usage for each in over)
    window = await desk.window("batched")
    assert window.agrees
    assert window.spent == desk.invoice("of a batch") <= BUDGETS["batched"][0]
