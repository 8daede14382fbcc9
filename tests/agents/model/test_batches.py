"""Questions that can wait: gathered, answered at half the price, and never lost with a batch."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from mesh.clock import now
from mesh.inference import Completion, CompletionStatus, Mode
from mesh.scripted.conversations import Turn
from tests.agents.model.desk import ANSWER, PRICES, SMALL, Desk

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(60)]


async def ask_all(desk: Desk, *users: str, **changes: Any) -> list[Completion]:
    prompts = [desk.prompt(user, mode=Mode.BATCH, **changes) for user in users]
    await desk.put(*prompts)
    return [await desk.completion(prompt) for prompt in prompts]


async def test_questions_are_gathered_and_answered_at_half_the_price(desk: Desk) -> None:
    users = [f"later: gathered {number}" for number in range(12)]
    found = await ask_all(desk, *users)
    assert {each.status for each in found} == {CompletionStatus.ANSWERED}
    assert {(each.model, msgspec.json.decode(each.output)["intent"]) for each in found} == {(SMALL, "post")}
    assert len({each.batch for each in found}) < 12
    assert all(each.usage[0].mode is Mode.BATCH for each in found)
    await desk.agrees()
    for each in found:
        (usage,) = each.usage
        price = PRICES.of(SMALL)
        whole, half = (
            price.cost(
                mode,
                tokens_in=usage.tokens_in,
                tokens_out=usage.tokens_out,
                tokens_cached=usage.tokens_cached,
                tokens_written=usage.tokens_written,
            )
            for mode in (Mode.INTERACTIVE, Mode.BATCH)
        )
        assert usage.cost_micro_usd == half <= whole // 2 + 1


async def test_an_item_that_failed_is_sent_again(desk: Desk) -> None:
    desk.says(Turn(status=529), Turn(answer=ANSWER), user="later: again")
    (found,) = await ask_all(desk, "later: again")
    assert (found.status, len(found.usage)) == (CompletionStatus.ANSWERED, 1)
    assert desk.calls_about("later: again") == 2
    await desk.agrees()


async def test_an_item_that_fails_too_often_is_unavailable_with_the_reason(desk: Desk) -> None:
    desk.says(Turn(status=529), user="later: never")
    (found,) = await ask_all(desk, "later: never")
    assert (found.status, found.usage) == (CompletionStatus.UNAVAILABLE, ())
    assert "overloaded" in found.reason.lower()
    assert desk.calls_about("later: never") == 2
    await desk.agrees()


async def test_what_is_no_answer_is_paid_and_said(desk: Desk) -> None:
    desk.says(Turn(text="gladly"), user="later: in words")
    desk.says(Turn(refusal="no"), user="later: refused")
    words, refused = await ask_all(desk, "later: in words", "later: refused")
    assert (words.status, words.text, len(words.usage)) == (CompletionStatus.UNAVAILABLE, "gladly", 1)
    assert (refused.status, refused.text, len(refused.usage)) == (CompletionStatus.DECLINED, "no", 1)
    await desk.agrees()


async def test_a_provider_that_is_away_is_tried_again_and_then_given_up(desk: Desk) -> None:
    desk.says(Turn(status=529, times=1), path="/v1/messages/batches")
    (found,) = await ask_all(desk, "later: away at first")
    assert found.status is CompletionStatus.ANSWERED
    desk.says(Turn(status=529, times=2), path="/v1/messages/batches")
    (gone,) = await ask_all(desk, "later: away for long")
    assert (gone.status, gone.usage) == (CompletionStatus.UNAVAILABLE, ())
    assert "could not be sent" in gone.reason
    await desk.agrees()


async def test_a_question_that_comes_too_late_goes_in_no_batch(desk: Desk) -> None:
    (found,) = await ask_all(desk, "later: late", answer_by=now() - timedelta(seconds=1))
    assert found.status is CompletionStatus.UNAVAILABLE
    assert "too late" in found.reason
    assert desk.calls_about("later: late") == 0


async def test_an_equal_question_was_answered_by_a_batch(desk: Desk) -> None:
    (first,) = await ask_all(desk, "later: equal")
    await desk.agrees()
    (second,) = await ask_all(desk, "later: equal")
    assert second.reused.split(".")[3] == first.header.task_id
    assert second.usage == ()
