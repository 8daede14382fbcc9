"""Budgets stop in time, whichever copy asks; and what happens at the limit is as the settings say."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from mesh.inference import CompletionStatus, Mode, Tier
from mesh.messages import Question
from mesh.scripted.conversations import Turn
from tests.agents.model.desk import ANSWER, LARGE, PRICES, SMALL, Desk, desk_in

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

BOTH = (Tier.LARGE, Tier.SMALL)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    """One site for all tests here; each test asks for a domain of its own, so it has a budget of its own."""
    async with desk_in(tmp_path_factory.mktemp("w")) as found:
        found.says(Turn(answer=ANSWER))
        yield found


def bound(desk: Desk, user: str, model: str = SMALL) -> int:
    """The most that this question can cost, in micro-dollars."""
    prompt = desk.prompt(user)
    asked = Question(model, prompt.system, user, prompt.schema, prompt.max_tokens)
    return PRICES.of(model).at_most(Mode.INTERACTIVE, asked.size, asked.most_out)


def dollars(micro: int, at_limit: str) -> str:
    return f'{{usd_per_day = {micro / 1e6:.6f}, at_limit = "{at_limit}"}}'


async def test_no_copy_asks_beyond_the_cap(desk: Desk) -> None:
    users = [f"one of many {number:02}" for number in range(40)]
    cap = bound(desk, users[0]) * 5 // 4
    before = desk.invoice()
    budget = dollars(cap, "person")
    async with desk.model("1", budget=budget), desk.model("2", budget=budget):
        prompts = [desk.prompt(user) for user in users]
        await desk.put(*prompts)
        found = [await desk.completion(prompt) for prompt in prompts]
    statuses = [each.status for each in found]
    assert set(statuses) == {CompletionStatus.ANSWERED, CompletionStatus.OVER_BUDGET}
    assert 0 < desk.invoice() - before <= cap
    for each in found:
        if each.status is CompletionStatus.OVER_BUDGET:
            assert "over budget" in each.reason
            assert "left" in each.reason
            assert each.usage == ()
    ledger = await desk.ledger()
    assert ledger.agrees
    assert ledger.total.cost_micro_usd == desk.invoice()
    # As many as the cap has room for: answers cost less than their bounds.
    assert ledger.total.cost_micro_usd + bound(desk, users[0]) > cap


async def test_at_the_limit_a_cheaper_model_is_asked_as_far_as_that_fits(desk: Desk) -> None:
    spent = (await desk.ledger()).total.cost_micro_usd
    cap = spent + bound(desk, "cheaper") + 1
    assert bound(desk, "cheaper", LARGE) > bound(desk, "cheaper")
    async with desk.model(budget=dollars(cap, "small")):
        found = await desk.ask("cheaper", chain=BOTH)
        assert (found.status, found.model) == (CompletionStatus.ANSWERED, SMALL)
        assert "over budget" in found.reason
        only = await desk.ask("cheaper too", chain=(Tier.LARGE,))
        assert only.status is CompletionStatus.OVER_BUDGET


async def test_at_the_limit_nobody_else_is_asked_where_a_person_is_to_decide(desk: Desk) -> None:
    spent = (await desk.ledger()).total.cost_micro_usd
    asked = len(desk.server.calls)
    async with desk.model(budget=dollars(spent + bound(desk, "decide") + 1, "person")):
        found = await desk.ask("decide", chain=BOTH)
    assert (found.status, found.usage) == (CompletionStatus.OVER_BUDGET, ())
    assert len(desk.server.calls) == asked


async def test_a_batch_holds_no_more_than_the_budget_has_room_for(desk: Desk) -> None:
    before = (await desk.ledger()).total.cost_micro_usd
    most = bound(desk, "of a batch 0") // 2 + 1
    prompts = [desk.prompt(f"of a batch {number}", mode=Mode.BATCH) for number in range(10)]
    async with desk.model(budget=dollars(before + 3 * most, "person"), batch_wait_s="0.5", batch_poll_s="0.2"):
        await desk.put(*prompts)
        found = [await desk.completion(prompt) for prompt in prompts]
        await desk.settled()
    answered = [each for each in found if each.status is CompletionStatus.ANSWERED]
    over = [each for each in found if each.status is CompletionStatus.OVER_BUDGET]
    assert len(answered) >= 3
    assert len(answered) + len(over) == 10
    assert all("budget" in each.reason and not each.usage for each in over)
    after = await desk.ledger()
    assert after.agrees
    assert after.total.cost_micro_usd - before <= 3 * most
    assert after.total.cost_micro_usd == desk.invoice()
