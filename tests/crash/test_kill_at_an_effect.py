"""The kill between effect and record, for each of the three kinds of tool: no effect is lost, none is repeated."""

import pytest

from mesh.records import OutcomeStatus, Purpose, Word
from tests.ledger_pack.world import World

pytestmark = [pytest.mark.crash, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

KINDS = ("post", "transfer", "wire")  # idempotent, verifiable, manual
POINTS = ("after_effect", "after_call", "after_checkpoint", "after_outcome")


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("kind", KINDS)
async def test_an_executor_killed_at_an_effect_has_it_once(world: World, kind: str, point: str) -> None:
    once = world.folder / f"{kind}.{point}"
    async with world.role("executor", fault=f"executor.{point}=kill@{once}") as executor:
        task = await world.publish(f"{kind}-{point}", kind=kind)
        await executor.died()
        if kind == "wire" and point == "after_call":
            waiting = await world.waits(task)
            assert (waiting.purpose, waiting.step) == (Purpose.IN_DOUBT, "enter")
            assert await world.journal.record(f"task.outcome.ledger.{task}.-") is None
            answer = await world.say(task, Word.HAPPENED, "olga", "operator")
            assert answer.verdict == "settled"
        ending = await world.outcome(task)
        await world.settled("executor")
    assert ending.status is OutcomeStatus.COMPLETED
    assert world.applied(task) == [(kind, f"wm-{task}-enter", 100)]
    assert await world.count("outcome", task) == 1
    assert task not in await world.waiting()


async def test_an_executor_killed_at_every_point_in_turn_has_the_effect_once(world: World) -> None:
    points = ("before_call", "after_effect", "after_checkpoint", "after_outcome")
    faults = [f"executor.{point}=kill@{world.folder / f'all.{point}'}" for point in points]
    async with world.role("executor", fault=",".join(faults)) as executor:
        task = await world.publish("all", kind="wire")
        await executor.died(2)
        await world.waits(task)
        assert world.applied(task) == []
        await world.say(task, Word.NOT_HAPPENED, "olga", "operator")
        ending = await world.outcome(task)
        await executor.died(len(points))
        await world.settled("executor")
    assert ending.status is OutcomeStatus.COMPLETED
    assert len(world.applied(task)) == 1
    assert await world.count("outcome", task) == 1


async def test_a_person_settles_every_doubt_of_a_step_and_each_once(world: World) -> None:
    async with world.role("executor", fault="executor.before_call=kill") as executor:
        task = await world.publish("doubt-again", kind="wire")
        for times in (1, 2):
            await executor.died(times)
            assert (await world.waits(task)).purpose is Purpose.IN_DOUBT
            await world.say(task, Word.NOT_HAPPENED, "olga", "operator")
        await executor.died(3)
        await world.waits(task)
    assert world.applied(task) == []
    async with world.role("executor"):
        await world.say(task, Word.NOT_HAPPENED, "olga", "operator")
        assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
    assert len(world.applied(task)) == 1
    assert await world.count("approval", task) == 3


async def test_an_executor_that_lost_its_checkpoint_does_not_take_silence_for_proof(world: World) -> None:
    once = world.folder / "lost.once"
    async with world.role("executor", instance="lost", fault=f"executor.after_call=stop@{once}") as executor:
        task = await world.publish("lost", kind="wire")
        await executor.stopped()
        for path in (world.folder / "state" / "state" / "executor-lost").iterdir():
            path.unlink()
        await executor.kill()
        assert (await world.waits(task)).purpose is Purpose.IN_DOUBT
        await world.say(task, Word.HAPPENED, "olga", "operator")
        assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
    assert len(world.applied(task)) == 1


async def test_a_kill_while_steps_are_undone_undoes_each_once(world: World) -> None:
    faults = [f"executor.{point}=kill@{world.folder / f'undo.{point}'}" for point in ("after_call", "after_checkpoint")]
    async with world.role("executor", fault=",".join(faults)) as executor:
        task = await world.publish("undo", "move", last=2_000_000, note=2_000_000)
        await executor.died(2)
        ending = await world.outcome(task)
        await world.settled("executor")
    assert ending.status is OutcomeStatus.COMPENSATED
    kinds = [(kind, amount) for kind, _, amount in world.applied(task)]
    assert kinds == [("post", 100), ("transfer", 100), ("reverse", -100), ("reverse", -100)]
    assert [key for _, key, _ in world.applied(task)][2:] == [f"wm-{task}-credit~undo", f"wm-{task}-debit~undo"]
