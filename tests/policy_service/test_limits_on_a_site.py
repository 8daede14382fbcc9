"""Limits over time on a running site: exact with two copies of the service that are killed, and given back."""

import asyncio
import signal
from pathlib import Path

import pytest

from mesh import subjects
from mesh.records import Decision, OutcomeStatus, Verdict, Word
from policy_service.giving_back import MARKER
from tests.ledger_pack.running import until
from tests.ledger_pack.target import LIMIT
from tests.ledger_pack.world import World, world_in

pytestmark = pytest.mark.timeout(240)

BEFORE = ("perception", "planner")
LIMITS = """
- {id: weekly, per: account, window: P7D, amount: 1000, reason: "too much for this account"}
- {id: hourly, per: agent, window: PT1H, tasks: 1000}
"""
APPROVE = "- {id: weekly, per: account, window: P7D, amount: 1000, over: approve, roles: auditor}"


async def decision_on(world: World, task: str, step: str = "-") -> Decision:
    """Wait for a decision."""
    record = (await world.record("decision", task, step)).record
    assert isinstance(record, Decision)
    return record


async def test_small_amounts_that_are_one_large_one_are_caught_though_two_copies_are_killed(tmp_path: Path) -> None:
    async with world_in(tmp_path, *BEFORE, "executor") as world:
        await world.govern({"limits.yaml": LIMITS})
        fault = f"policy.before_commit=kill@{tmp_path / 'once'}"
        async with world.role("policy", fault=fault) as one, world.role("policy", instance="2") as two:
            tasks = [await world.publish(f"split-{n}", amount=100, account="split") for n in range(40)]
            await one.died()
            await two.kill()
            endings = await asyncio.gather(*(world.outcome(task) for task in tasks))
            after = await world.publish("one-more", amount=100, account="split")
            assert (await world.outcome(after)).status is OutcomeStatus.DENIED
            other = await world.publish("another-account", amount=100, account="else")
            assert (await world.outcome(other)).status is OutcomeStatus.COMPLETED
    done = [ending for ending in endings if ending.status is OutcomeStatus.COMPLETED]
    denied = [ending for ending in endings if ending.status is OutcomeStatus.DENIED]
    assert (len(done), len(denied)) == (10, 30)
    assert "too much for this account (weekly of account split: 10.00 USD + 1.00 USD of 10.00 USD)" in denied[0].reason
    assert sum(amount for _, _, amount in world.applied(account="split")) == 1000


async def test_what_came_to_nothing_is_given_back_once_though_two_copies_see_it(tmp_path: Path) -> None:
    async with world_in(tmp_path, *BEFORE, "executor") as world:
        await world.govern({"limits.yaml": LIMITS})
        async with world.role("policy"), world.role("policy", instance="2"):
            failing = await world.publish("fails", "move", amount=100, account="moved", last=LIMIT + 1, note=LIMIT + 1)
            assert (await world.outcome(failing)).status is OutcomeStatus.COMPENSATED
            assert [use.adds for use in (await decision_on(world, failing)).limits] == [400, 1]
            marker = subjects.limit("ledger", MARKER, failing)
            await until(lambda: _stands(world, marker))
            again = await world.publish("again", amount=1000, account="moved")
            assert (await world.outcome(again)).status is OutcomeStatus.COMPLETED
            over = await world.publish("over", amount=1, account="moved")
            assert (await world.outcome(over)).status is OutcomeStatus.DENIED
            assert len(await world.bus.read(subjects.JOURNAL, 1, 10, marker)) == 1


async def _stands(world: World, subject: str) -> bool:
    return await world.bus.last(subjects.JOURNAL, subject) is not None


async def test_beyond_a_limit_a_person_may_let_it_pass_and_that_counts_too(tmp_path: Path) -> None:
    async with world_in(tmp_path, *BEFORE, "executor") as world:
        await world.govern({"limits.yaml": APPROVE})
        async with world.role("policy"):
            first = await world.publish("first", amount=900, account="much")
            assert (await world.outcome(first)).status is OutcomeStatus.COMPLETED
            second = await world.publish("second", amount=300, account="much")
            waiting = await world.waits(second)
            assert (waiting.roles, waiting.amount) == (("auditor",), 300)
            shown = await world.shown(second)
            assert [(use.limit, use.used, use.adds, use.cap, use.over) for use in shown.limits] == [
                ("weekly", 900, 300, 1000, True)
            ]
            assert (await world.say(second, Word.APPROVE, "anna", "auditor")).verdict == "allow"
            assert (await world.outcome(second)).status is OutcomeStatus.COMPLETED
            third = await world.publish("third", amount=1, account="much")
            assert "9.00 USD" not in (await world.waits(third)).reason
            assert [use.used for use in (await decision_on(world, third)).limits] == [1200]


async def test_the_count_is_in_the_journal_and_survives_the_loss_of_every_process(tmp_path: Path) -> None:
    async with world_in(tmp_path, *BEFORE, "executor") as world:
        await world.govern({"limits.yaml": LIMITS})
        async with world.role("policy") as running:
            first = await world.publish("before", amount=900, account="kept")
            assert (await world.outcome(first)).status is OutcomeStatus.COMPLETED
            running.signal(signal.SIGKILL)
        for path in (world.folder / "state" / "state" / "policy-1").iterdir():
            path.unlink()
        async with world.bus_away():
            pass
        async with world.role("policy", instance="new"):
            second = await world.publish("after", amount=200, account="kept")
            assert (await world.outcome(second)).status is OutcomeStatus.DENIED
            decision = await decision_on(world, second)
    assert decision.verdict is Verdict.DENY
    assert [(use.limit, use.used, use.over) for use in decision.limits] == [("weekly", 900, True), ("hourly", 1, False)]
