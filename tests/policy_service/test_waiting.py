"""What waits: it expires in time, its list can be rebuilt, and copies of the service decide each thing once."""

import shutil
import signal
from datetime import timedelta
from pathlib import Path

import pytest

from mesh.approvals import Waiting
from mesh.clock import now
from mesh.records import OutcomeStatus, Word
from mesh.service import ServiceError
from tests.ledger_pack.running import until
from tests.ledger_pack.world import World, world_in

pytestmark = pytest.mark.timeout(120)

STAGES = ("perception", "planner")
LARGE = 20_000


async def test_what_nobody_approves_in_time_expires_once_though_two_copies_watch(tmp_path: Path) -> None:
    soon = {"WORKMESH_POLICY__APPROVAL_TTL_S": "2"}
    async with world_in(tmp_path, *STAGES) as world:
        async with world.role("policy", env=soon), world.role("policy", instance="2", env=soon):
            task = await world.publish("late", amount=LARGE)
            await world.waits(task)
            shown = await world.shown(task)
            ending = await world.outcome(task)
            with pytest.raises(ServiceError, match=r"does not wait|time to approve"):
                await world.say_on(shown, Word.APPROVE)
            await until(lambda: _none_waits(world))
        assert (ending.status, ending.reason) == (
            OutcomeStatus.EXPIRED,
            "nobody approved in time: it expired",
        )
        assert [await world.count(kind, task) for kind in ("decision", "outcome", "approval")] == [2, 1, 0]
        assert world.applied(task) == []


async def test_a_permit_that_was_not_used_in_time_permits_nothing(tmp_path: Path) -> None:
    async with world_in(tmp_path, *STAGES) as world, world.role("policy", env={"WORKMESH_POLICY__PERMIT_TTL_S": "1"}):
        task = await world.publish("unused")
        decided = await world.record("decision", task)
        await until(lambda: now() > decided.time + timedelta(seconds=1))
        async with world.role("executor"):
            ending = await world.outcome(task)
        assert (ending.status, "the permit expired at" in ending.reason) == (OutcomeStatus.EXPIRED, True)
        assert world.applied(task) == []


async def _none_waits(world: World) -> bool:
    return not await world.waiting()


async def test_the_list_of_what_waits_is_rebuilt_from_the_journal(tmp_path: Path) -> None:
    async with world_in(tmp_path, *STAGES, "executor") as world:
        async with world.role("policy"):
            tasks = [await world.publish(f"waits-{n}", amount=LARGE) for n in range(3)]
            for task in tasks:
                await world.waits(task)
            await world.say(tasks[0], Word.REJECT)
            hold = world.hold("wire")
            doubted, settled = [await world.publish(name, kind="wire") for name in ("doubted", "settled")]
            await world.waits(doubted)
            await world.waits(settled)
            hold.unlink()
            await world.say(settled, Word.HAPPENED, "olga", "operator")
            await world.outcome(settled)
            before = await world.waiting()
        shutil.rmtree(tmp_path / "state" / "state" / "policy-1")
        async with world.role("policy"):
            await until(lambda: _equal(world, before))
    assert set(before) == {tasks[1], tasks[2], doubted}


async def _equal(world: World, before: dict[str, Waiting]) -> bool:
    return await world.waiting() == before


async def test_a_plan_that_comes_to_two_copies_is_decided_once(tmp_path: Path) -> None:
    async with world_in(tmp_path, *STAGES, "executor") as world:
        async with world.role("policy", fault=f"policy.before_ack=stop@{tmp_path / 'once'}") as stalled:
            task = await world.publish("twice")
            await stalled.stopped()
            async with world.role("policy", instance="2"):
                assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
                await world.settled("policy")
                stalled.signal(signal.SIGCONT)
                after = await world.publish("after")
                await world.outcome(after)
                await world.settled("policy")
        assert await world.count("decision", task) == 1
        assert len(world.applied(task)) == 1
