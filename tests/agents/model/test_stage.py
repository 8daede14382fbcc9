"""A prompt in, a completion out: a real process, a real bus, a scripted model over HTTP."""

import asyncio
import re
from datetime import timedelta

import msgspec
import pytest

from mesh.clock import now
from mesh.control import Controls
from mesh.halts import HALT, Halt
from mesh.inference import Completion, CompletionStatus, Tier
from mesh.scripted.conversations import Turn
from tests.agents.model.desk import ANSWER, LARGE, SMALL, Desk, bound
from tests.ledger_pack.running import until

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.timeout(60)]

BOTH = (Tier.LARGE, Tier.SMALL)


def output(completion: Completion) -> object:
    return msgspec.json.decode(completion.output)


async def test_a_question_is_answered_at_the_price_that_the_provider_bills(desk: Desk) -> None:
    desk.says(Turn(answer=ANSWER), user="plain")
    found = await desk.ask("plain")
    assert (found.status, found.model, output(found), found.reason) == (
        CompletionStatus.ANSWERED, SMALL, ANSWER, ""
    )  # fmt: skip
    (usage,) = found.usage
    assert usage.certain
    assert usage.tokens_out > 0
    assert usage.day == f"{found.header.at:%Y-%m-%d}"
    await desk.agrees()


async def test_the_stable_prefix_comes_from_the_providers_cache(desk: Desk) -> None:
    desk.says(Turn(answer=ANSWER), user="prefix")
    first = await desk.ask("prefix one", system="A long stable text. " * 20)
    second = await desk.ask("prefix two", system="A long stable text. " * 20)
    assert first.usage[0].tokens_written > 0  # the tool may have been cached by a question before
    assert first.usage[0].tokens_written + first.usage[0].tokens_cached == second.usage[0].tokens_cached
    assert second.usage[0].tokens_written == 0
    await desk.agrees()


async def test_an_equal_question_is_answered_as_before_and_paid_once(desk: Desk) -> None:
    desk.says(Turn(answer=ANSWER), user="just as equal")
    first = await desk.ask("just as equal")
    await desk.settled()
    second = await desk.ask("just as equal")
    assert (second.usage, output(second)) == ((), ANSWER)
    assert second.reused.split(".")[3] == first.header.task_id
    other = await desk.ask("just as equal", sample=1)  # another sample is another question
    assert (other.reused, len(other.usage)) == ("", 1)
    assert desk.calls_about("just as equal") == 2
    await desk.agrees()


async def test_what_the_model_declines_is_paid_and_not_asked_again(desk: Desk) -> None:
    desk.says(Turn(refusal="I will not"), user="declined")
    found = await desk.ask("declined", chain=BOTH)
    assert (found.status, found.model, found.text) == (CompletionStatus.DECLINED, LARGE, "I will not")
    assert len(found.usage) == 1
    await desk.agrees()


@pytest.mark.parametrize(
    ("turn", "why"),
    [
        (Turn(text="Sure, gladly!"), "the model answered with text"),
        (Turn(answer=ANSWER, truncated=True), "cut off"),
        (Turn(answer=["no", "object"]), "no object"),
    ],
    ids=["text", "truncated", "list"],
)
async def test_what_is_no_answer_is_paid_and_the_next_model_asked(desk: Desk, turn: Turn, why: str) -> None:
    user = f"no answer: {why}"
    desk.says(turn, user=user, model=LARGE)
    desk.says(Turn(answer=ANSWER), user=user, model=SMALL)
    found = await desk.ask(user, chain=BOTH)
    assert (found.status, found.model, output(found)) == (CompletionStatus.ANSWERED, SMALL, ANSWER)
    assert why in found.reason
    assert [usage.model for usage in found.usage] == [LARGE, SMALL]
    await desk.agrees()


@pytest.mark.parametrize("status", [500, 529])
async def test_what_is_not_billed_is_asked_again(desk: Desk, status: int) -> None:
    desk.says(Turn(status=status), Turn(answer=ANSWER), user=f"again {status}")
    found = await desk.ask(f"again {status}")
    assert (found.status, len(found.usage)) == (CompletionStatus.ANSWERED, 1)
    assert desk.calls_about(f"again {status}") == 2
    await desk.agrees()


async def test_a_server_that_asks_to_wait_is_waited_for(desk: Desk) -> None:
    desk.says(Turn(status=429, retry_after=0.8), Turn(answer=ANSWER), user="limited")
    found = await desk.ask("limited")
    assert found.status is CompletionStatus.ANSWERED
    assert found.duration_ms > 800
    await desk.agrees()


async def test_a_request_that_is_refused_for_good_names_the_setting(desk: Desk) -> None:
    found = await desk.ask("what no conversation is meant for")
    assert (found.status, found.usage) == (CompletionStatus.UNAVAILABLE, ())
    assert "404" in found.reason
    assert "models.base_url" in found.reason
    assert desk.calls_about("what no conversation") == 1
    await desk.agrees()


async def test_a_call_of_unknown_fate_counts_as_the_most_it_can_cost(desk: Desk) -> None:
    desk.says(Turn(answer=ANSWER, disconnect="after"), user="lost", model=LARGE)
    desk.says(Turn(answer=ANSWER), user="lost", model=SMALL)
    found = await desk.ask("lost", chain=BOTH)
    assert (found.status, found.model) == (CompletionStatus.ANSWERED, SMALL)
    assert [(usage.model, usage.certain) for usage in found.usage] == [(LARGE, False), (SMALL, True)]
    assert found.usage[0].cost_micro_usd == bound("lost", LARGE)
    await desk.agrees()


async def test_a_model_that_is_too_slow_is_given_up_and_blocks_nobody(desk: Desk) -> None:
    desk.says(Turn(answer=ANSWER, delay_s=30), user="slow")
    desk.says(Turn(answer=ANSWER), user="quick")
    slow = [desk.prompt(f"slow {number}", answer_by=now() + timedelta(seconds=3)) for number in range(10)]
    await desk.put(*slow)
    quick = await desk.ask("quick")
    assert quick.duration_ms < 1500
    for prompt in slow:
        found = await desk.completion(prompt)
        assert found.status is CompletionStatus.UNAVAILABLE
        assert re.search(r"answer within [\d.]+ s", found.reason)
        assert all(not usage.certain for usage in found.usage)


async def test_a_question_that_comes_too_late_is_not_asked(desk: Desk) -> None:
    found = await desk.ask("comes after its time", answer_by=now() - timedelta(seconds=1))
    assert (found.status, found.usage) == (CompletionStatus.UNAVAILABLE, ())
    assert "too late" in found.reason
    assert desk.calls_about("comes after its time") == 0


async def test_a_halted_domain_asks_no_model_until_it_is_resumed(desk: Desk) -> None:
    async def put(*, halted: bool) -> None:
        controls = Controls(desk.world.bus, desk.world.site.admin.public_key, HALT)
        act = Halt(person="olga", at=now(), halted=halted, agent="model")
        await controls.put(desk.world.committer, HALT, act, desk.world.people["olga"])

    await put(halted=True)
    await asyncio.sleep(1.0)  # as long as a halt may take to be in force
    desk.says(Turn(answer=ANSWER), user="halted")
    prompt = desk.prompt("halted")
    await desk.put(prompt)
    await until(lambda: _comes_again(desk))
    assert desk.calls_about("halted") == 0
    await put(halted=False)
    assert (await desk.completion(prompt)).status is CompletionStatus.ANSWERED
    assert desk.calls_about("halted") == 1


async def _comes_again(desk: Desk) -> bool:
    info = await desk.world.bus.api("CONSUMER.INFO.JOURNAL.model")
    return bool(info["num_redelivered"])
