"""Whose turn it is, on a running site: tasks of one entity act one after another, and hold nobody else up."""

import itertools
import statistics
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from mesh.records import OutcomeStatus, Plan, Word
from tests.ledger_pack.world import World, world_in

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """The whole site without memory."""
    stages = ("perception", "planner", "policy", "executor")
    async with world_in(tmp_path_factory.mktemp("w"), *stages) as found:
        yield found


async def test_a_task_waits_for_the_one_before_it_and_others_do_not(world: World) -> None:
    first = await world.publish("first", entity="one", amount=20_000)
    second = await world.publish("second", entity="one")
    third = await world.publish("third", entity="one")
    others = [await world.publish(f"other-{n}", entity=f"other-{n}") for n in range(100)]
    await world.waits(first)
    for other in others:
        assert (await world.outcome(other)).status is OutcomeStatus.COMPLETED
    assert [await world.count("plan", task) for task in (second, third)] == [0, 0]
    await world.say(first, Word.REJECT)
    assert [(await world.outcome(task)).status for task in (first, second, third)] == [
        OutcomeStatus.DENIED,
        OutcomeStatus.COMPLETED,
        OutcomeStatus.COMPLETED,
    ]
    ended, planned = [await world.record(kind, task) for kind, task in (("outcome", first), ("plan", second))]
    assert ended.seq < planned.seq
    ended, planned = [await world.record(kind, task) for kind, task in (("outcome", second), ("plan", third))]
    assert ended.seq < planned.seq


async def test_the_entries_of_one_entity_reach_the_ledger_in_the_order_of_their_events(world: World) -> None:
    kinds = ("post", "transfer", "wire")
    tasks = [await world.publish(f"row-{n}", entity="row", amount=n, kind=kinds[n % 3]) for n in range(1, 16)]
    await world.outcome(tasks[-1])
    rows = [amount for _, key, amount in world.applied() if key.split("-")[1] in tasks]
    assert rows == list(range(1, 16))


async def test_without_memory_it_plans_and_says_so(world: World) -> None:
    task = await world.publish("no-memory", "move", account="b")
    assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
    plan = (await world.record("plan", task)).record
    assert isinstance(plan, Plan)
    assert len(plan.notes) == 1
    assert plan.notes[0].startswith("planned without memory of account/b: ")


async def test_a_target_that_is_away_delays_the_plan_and_nothing_else(world: World) -> None:
    async with world.target_away():
        task = await world.publish("read-later")
        await world.record("context", task)
    assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED


async def test_a_long_backlog_of_one_entity_goes_on_as_soon_as_the_one_before_is_done(world: World) -> None:
    entities = [f"busy-{n}" for n in range(6)]
    tasks: dict[str, list[str]] = {entity: [] for entity in entities}
    for number in range(100):
        for entity in entities:
            tasks[entity].append(await world.publish(f"{entity}-{number}", entity=entity))
    for entity in entities:
        await world.outcome(tasks[entity][-1])
    gaps = []
    for entity in entities:
        for before, after in itertools.pairwise(tasks[entity]):
            ended, planned = [await world.record(kind, task) for kind, task in (("outcome", before), ("plan", after))]
            assert ended.seq < planned.seq
            gaps.append((planned.time - ended.time).total_seconds())
    assert statistics.quantiles(gaps, n=20)[-1] < 1.0  # who was sent away comes again in up to 5 s
