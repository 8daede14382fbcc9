"""An executor that stalls past its ack wait, and wakes up beside the one that took over, repeats no effect."""

import signal

import pytest

from mesh.records import OutcomeStatus, Purpose, Word
from tests.ledger_pack.world import World

pytestmark = [pytest.mark.crash, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]


@pytest.mark.parametrize("point", ["after_effect", "after_call"])
@pytest.mark.parametrize("kind", ["post", "transfer"])
async def test_a_stalled_executor_that_wakes_up_repeats_nothing(world: World, kind: str, point: str) -> None:
    once = world.folder / f"stalled-{kind}-{point}"
    async with world.role("executor", fault=f"executor.{point}=stop@{once}") as stalled:
        task = await world.publish(f"stalled-{kind}-{point}", kind=kind)
        await stalled.stopped()
        async with world.role("executor", instance="2"):
            assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
            stalled.signal(signal.SIGCONT)
            after = await world.publish(f"after-{kind}-{point}", kind=kind)
            await world.outcome(after)
            await world.settled("executor")
    assert len(world.applied(task)) == 1
    assert await world.count("outcome", task) == 1


async def test_a_stalled_executor_that_wakes_up_before_a_person_spoke_strands_nothing(world: World) -> None:
    once = world.folder / "stalled-wire"
    async with world.role("executor", fault=f"executor.after_effect=stop@{once}") as stalled:
        task = await world.publish("stalled-wire", kind="wire")
        await stalled.stopped()
        async with world.role("executor", instance="2"):
            assert (await world.waits(task)).purpose is Purpose.IN_DOUBT
            stalled.signal(signal.SIGCONT)
            await world.record("effect", task, "enter")
            after = await world.publish("after-wire", kind="wire")
            await world.outcome(after)
            assert world.applied(task) == []
            await world.say(task, Word.NOT_HAPPENED, "olga", "operator")
            assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
            await world.settled("executor")
    assert len(world.applied(task)) == 1


async def test_a_stalled_executor_that_did_call_leaves_it_to_the_person(world: World) -> None:
    once = world.folder / "stalled-called"
    async with world.role("executor", fault=f"executor.after_call=stop@{once}") as stalled:
        task = await world.publish("stalled-called", kind="wire")
        await stalled.stopped()
        async with world.role("executor", instance="2"):
            await world.waits(task)
            stalled.signal(signal.SIGCONT)
            await world.say(task, Word.HAPPENED, "olga", "operator")
            assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
            await world.settled("executor")
    assert len(world.applied(task)) == 1
