"""Questions that can wait: gathered, answered at half the price, and never lost with a batch."""

from collections.abc import AsyncIterator
from datetime import timedelta

import msgspec
import pytest
import pytest_asyncio

from console.spending import LedgerView
from mesh.clock import now
from mesh.inference import Completion, CompletionStatus, Mode
from mesh.scripted.conversations import Turn
from tests.agents.model.desk import ANSWER, SMALL, Desk, desk_in

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

QUICK = {"batch_wait_s": "0.3", "batch_poll_s": "0.2"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    """One site with one model process for all tests here."""
    async with desk_in(tmp_path_factory.mktemp("w")) as found, found.model(**QUICK):
        found.says(Turn(answer=ANSWER))
        yield found


async def ask_all(desk: Desk, *users: str, **changes: object) -> list[Completion]:
    prompts = [desk.prompt(user, mode=Mode.BATCH, **changes) for user in users]
    await desk.put(*prompts)
    return [await desk.completion(prompt) for prompt in prompts]


async def settled(desk: Desk) -> LedgerView:
    """The ledger once no batch is open: it agrees with its windows."""
    await desk.settled()
    ledger = await desk.ledger()
    while any(window.open for window in ledger.windows):
        ledger = await desk.ledger()
    assert ledger.agrees
    return ledger


async def test_questions_are_gathered_and_answered_at_half_the_price(desk: Desk) -> None:
    users = [f"gathered {number}" for number in range(12)]
    found = await ask_all(desk, *users)
    assert {each.status for each in found} == {CompletionStatus.ANSWERED}
    assert {(each.model, msgspec.json.decode(each.output)["intent"]) for each in found} == {(SMALL, "post")}
    assert len({each.batch for each in found}) < 12
    assert all(each.usage[0].mode is Mode.BATCH for each in found)
    ledger = await settled(desk)
    assert ledger.total.cost_micro_usd == desk.invoice()
    whole = await desk.ask(users[0], sample=7)
    assert abs(2 * found[0].usage[0].cost_micro_usd - whole.usage[0].cost_micro_usd) <= 1


async def test_an_item_that_failed_is_sent_again(desk: Desk) -> None:
    desk.says(Turn(status=529), Turn(answer=ANSWER), user="again")
    (found,) = await ask_all(desk, "again")
    assert (found.status, len(found.usage)) == (CompletionStatus.ANSWERED, 1)
    assert desk.calls_about("again") == 2
    await settled(desk)


async def test_an_item_that_fails_too_often_is_unavailable_with_the_reason(desk: Desk) -> None:
    desk.says(Turn(status=529), user="never")
    (found,) = await ask_all(desk, "never")
    assert (found.status, found.usage) == (CompletionStatus.UNAVAILABLE, ())
    assert "overloaded" in found.reason.lower()
    assert desk.calls_about("never") == 2
    await settled(desk)


async def test_what_is_no_answer_is_paid_and_said(desk: Desk) -> None:
    desk.says(Turn(text="gladly"), user="in words")
    desk.says(Turn(refusal="no"), user="refused")
    words, refused = await ask_all(desk, "in words", "refused")
    assert (words.status, words.text, len(words.usage)) == (CompletionStatus.UNAVAILABLE, "gladly", 1)
    assert (refused.status, refused.text, len(refused.usage)) == (CompletionStatus.DECLINED, "no", 1)
    ledger = await settled(desk)
    assert ledger.total.cost_micro_usd == desk.invoice()


async def test_a_provider_that_is_away_is_tried_again_and_then_given_up(desk: Desk) -> None:
    desk.says(Turn(status=529, times=1), path="/v1/messages/batches")
    (found,) = await ask_all(desk, "away at first")
    assert found.status is CompletionStatus.ANSWERED
    desk.says(Turn(status=529, times=2), path="/v1/messages/batches")
    (gone,) = await ask_all(desk, "away for long")
    assert (gone.status, gone.usage) == (CompletionStatus.UNAVAILABLE, ())
    assert "could not be sent" in gone.reason
    await settled(desk)


async def test_a_question_that_comes_too_late_goes_in_no_batch(desk: Desk) -> None:
    (found,) = await ask_all(desk, "late", answer_by=now() - timedelta(seconds=1))
    assert found.status is CompletionStatus.UNAVAILABLE
    assert "too late" in found.reason
    assert desk.calls_about("late") == 0


async def test_an_equal_question_was_answered_by_a_batch(desk: Desk) -> None:
    (first,) = await ask_all(desk, "equal")
    await settled(desk)
    (second,) = await ask_all(desk, "equal")
    assert second.reused.split(".")[3] == first.header.task_id
    assert second.usage == ()
