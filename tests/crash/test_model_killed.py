"""Model processes killed at every boundary: each question has one completion, and the ledger is right each time."""

import signal
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from console.spending import LedgerView, windows_of
from mesh.clock import now
from mesh.inference import Completion, CompletionStatus, Mode
from mesh.scripted.conversations import Turn
from mesh.spending import Claim
from tests.agents.model.desk import ANSWER, Desk, bound, desk_in
from tests.ledger_pack.running import until

pytestmark = [pytest.mark.crash, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(90)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    """One site for all tests here; model processes come and go with each."""
    async with desk_in(tmp_path_factory.mktemp("w")) as found:
        found.says(Turn(answer=ANSWER))
        yield found


async def settled(desk: Desk) -> LedgerView:
    """The ledger, once nothing is under way: it agrees with its windows, and no claim is left open."""
    await desk.settled()
    ledger = await desk.ledger()
    assert ledger.agrees
    assert await claims(desk) == []
    return ledger


async def claims(desk: Desk) -> list[Claim]:
    """What is under way, of today."""
    windows = await windows_of(desk.world.bus, f"{now():%Y-%m-%d}")
    return [claim for window in windows.values() for claim in window.open]


def uncertain(completion: Completion) -> int:
    return sum(usage.cost_micro_usd for usage in completion.usage if not usage.certain)


async def test_what_a_killed_process_may_have_spent_is_in_the_ledger(desk: Desk, tmp_path: Path) -> None:
    points = ("after_claim", "before_commit", "before_ack")
    fault = ",".join(f"model.{point}=kill@{tmp_path / point}" for point in points)
    async with desk.model(fault=fault) as process:
        found = await desk.ask("killed")
        await process.died(len(points))
        ledger = await settled(desk)
    assert found.status is CompletionStatus.ANSWERED
    # Killed before it was sent, and when it was answered; what is on record is not asked again.
    assert desk.calls_about("killed") == 2
    assert [usage.certain for usage in found.usage] == [False, False, True]
    cost = ledger.total.cost_micro_usd
    assert cost == sum(usage.cost_micro_usd for usage in found.usage)
    # What is certain is exact; with what is not, at least all that the provider bills.
    assert cost - uncertain(found) <= desk.invoice() <= cost
    assert desk.invoice() == 2 * (cost - uncertain(found))
    assert await desk.world.count("completion", found.header.task_id) == 1


async def test_two_copies_and_kills_leave_one_completion_each_and_a_right_ledger(desk: Desk, tmp_path: Path) -> None:
    before, invoice = await settled(desk), desk.invoice()
    modes = (Mode.BATCH, Mode.INTERACTIVE, Mode.INTERACTIVE, Mode.INTERACTIVE)
    prompts = [desk.prompt(f"crowd {number:03}", mode=modes[number % 4]) for number in range(40)]
    faults = {
        "1": f"model.after_answer=kill#10@{tmp_path / 'a'}",
        "2": f"model.before_ack=kill#10@{tmp_path / 'b'}",
    }
    quick = {"batch_wait_s": "0.3", "batch_poll_s": "0.2"}
    async with desk.model("1", fault=faults["1"], **quick), desk.model("2", fault=faults["2"], **quick):
        for start in range(0, len(prompts), 20):
            await desk.put(*prompts[start : start + 20])
        found = [await desk.completion(prompt) for prompt in prompts]
        await until(lambda: _has_no_claim(desk))
        after = await settled(desk)
    assert {each.status for each in found} == {CompletionStatus.ANSWERED}
    assert any((tmp_path / name).exists() for name in "ab")
    for prompt in prompts:
        assert await desk.world.count("completion", prompt.header.task_id) == 1
    cost = after.total.cost_micro_usd - before.total.cost_micro_usd
    lost = after.total.uncertain_micro_usd - before.total.uncertain_micro_usd
    assert cost - lost <= desk.invoice() - invoice <= cost
    twice = sum(desk.calls_about(prompt.user) - 1 for prompt in prompts)
    assert twice <= sum(not usage.certain for each in found for usage in each.usage)


@pytest.mark.parametrize("stopped", ["for a while", "too long"])
async def test_a_copy_that_is_stopped_is_waited_for_as_long_as_its_call_may_take(
    desk: Desk, tmp_path: Path, stopped: str
) -> None:
    user = f"stopped {stopped}"
    before, invoice = await settled(desk), desk.invoice()
    prompt = desk.prompt(user)
    fault = f"model.after_answer=stop@{tmp_path / 'once'}"
    async with desk.model("1", fault=fault, timeout_s="2.0" if stopped == "too long" else "20.0") as first:
        await desk.put(prompt)
        await first.stopped()
        async with desk.model("2"):
            await until(lambda: _comes_again(desk))
            if stopped == "too long":
                await desk.completion(prompt)
            first.signal(signal.SIGCONT)
            found = await desk.completion(prompt)
            after = await settled(desk)
    assert found.status is CompletionStatus.ANSWERED
    assert await desk.world.count("completion", prompt.header.task_id) == 1
    again = stopped == "too long"
    assert desk.calls_about(user) == (2 if again else 1)
    assert [usage.certain for usage in found.usage] == ([False, True] if again else [True])
    cost = after.total.cost_micro_usd - before.total.cost_micro_usd
    assert (cost == desk.invoice() - invoice) is not again


async def _comes_again(desk: Desk) -> bool:
    info = await desk.world.bus.api("CONSUMER.INFO.JOURNAL.model")
    return bool(info["num_redelivered"])


async def test_a_batch_is_paid_once_whenever_who_sends_and_polls_is_killed(desk: Desk, tmp_path: Path) -> None:
    before, invoice = await settled(desk), desk.invoice()
    points = ("before_submit", "after_submit", "before_results")
    fault = ",".join(f"model.{point}=kill@{tmp_path / point}" for point in points)
    prompts = [desk.prompt(f"in a batch {number}", mode=Mode.BATCH) for number in range(5)]
    quick = {"timeout_s": "0.5", "attempts": "3", "batch_wait_s": "0.5", "batch_poll_s": "0.2"}
    async with desk.model(fault=fault, **quick) as process:
        await desk.put(*prompts)
        found = [await desk.completion(prompt) for prompt in prompts]
        await process.died(len(points))
        await until(lambda: _has_no_claim(desk))
    after = await settled(desk)
    assert {each.status for each in found} == {CompletionStatus.ANSWERED}
    for prompt in prompts:
        assert desk.calls_about(prompt.user) == 1
        assert await desk.world.count("completion", prompt.header.task_id) == 1
    assert after.total.cost_micro_usd - before.total.cost_micro_usd == desk.invoice() - invoice
    assert after.total.uncertain_micro_usd == before.total.uncertain_micro_usd


async def test_a_batch_that_is_gone_is_sent_again_and_counts_as_paid(desk: Desk) -> None:
    desk.says(Turn(status=404, times=1), path="/v1/messages/batches/*")
    before, invoice = await settled(desk), desk.invoice()
    prompt = desk.prompt("gone", mode=Mode.BATCH)
    async with desk.model(batch_wait_s="0.2", batch_poll_s="0.2"):
        await desk.put(prompt)
        found = await desk.completion(prompt)
        await until(lambda: _has_no_claim(desk))
    after = await settled(desk)
    assert [usage.certain for usage in found.usage] == [False, True]
    assert found.usage[0].cost_micro_usd == bound("gone", mode=Mode.BATCH)
    cost = after.total.cost_micro_usd - before.total.cost_micro_usd
    assert cost - uncertain(found) <= desk.invoice() - invoice <= cost


async def test_a_question_that_comes_again_on_the_next_day_settles_both_days(desk: Desk, tmp_path: Path) -> None:
    day_s, once = 86_400, tmp_path / "once"
    async with desk.model(fault=f"model.after_claim=kill@{once},clock={day_s}@{once}") as process:
        found = await desk.ask("over midnight")
        await process.died()
        ledger = await settled(desk)
    first, second = found.usage
    today = datetime.fromisoformat(first.day)
    assert (first.certain, second.certain) == (False, True)
    assert datetime.fromisoformat(second.day) == today + timedelta(days=1)
    days = {window.day: window for window in ledger.windows}
    assert days[second.day].spent == second.cost_micro_usd == days[second.day].completions
    assert days[first.day].agrees
    assert not any(window.open for window in ledger.windows)


async def _has_no_claim(desk: Desk) -> bool:
    return not await claims(desk)


async def test_an_answer_that_comes_while_the_bus_is_away_is_not_lost(desk: Desk) -> None:
    desk.says(Turn(answer=ANSWER, delay_s=1.0), user="bus away")
    before, invoice = await settled(desk), desk.invoice()
    prompt = desk.prompt("bus away")
    async with desk.model(timeout_s="20.0"):
        await desk.put(prompt)
        await until(lambda: _is_claimed(desk))
        async with desk.world.bus_away():
            await until(lambda: desk.calls_about("bus away") == 1)
        found = await desk.completion(prompt)
        after = await settled(desk)
    assert [usage.certain for usage in found.usage] == [True]
    assert desk.calls_about("bus away") == 1
    assert after.total.cost_micro_usd - before.total.cost_micro_usd == desk.invoice() - invoice


async def _is_claimed(desk: Desk) -> bool:
    return bool(await claims(desk))
