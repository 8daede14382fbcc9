"""The bus or the ledger away: results are kept on local disk, nothing is lost or repeated, all goes on by itself."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from mesh.records import OutcomeStatus
from tests.ledger_pack.running import until
from tests.ledger_pack.world import World, world_in

pytestmark = [
    pytest.mark.crash,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(180),
]

STAGES = ("perception", "planner", "policy")
PATIENT = {"WORKMESH_PACKS__LEDGER__TIMEOUT_S": "30"}
AWAY_S = 10.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A running site without an executor; its tools wait for long."""
    async with world_in(tmp_path_factory.mktemp("w"), *STAGES, env=PATIENT) as found:
        yield found


@pytest.mark.parametrize("kind", ["post", "transfer", "wire"])
async def test_a_result_obtained_while_the_bus_is_away_is_kept_and_committed(world: World, kind: str) -> None:
    async with world.role("executor"):
        hold = world.hold(kind)
        task = await world.publish(f"kept-{kind}", kind=kind)
        await until(lambda: len(world.applied(task)) == 1)
        async with world.bus_away():
            hold.unlink()
            await until(lambda: world.keeps(task))
        assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
    assert len(world.applied(task)) == 1
    assert await world.count("effect", task) == 1


@pytest.mark.parametrize("kind", ["post", "transfer", "wire"])
async def test_a_kept_result_survives_the_executor_too(world: World, kind: str) -> None:
    async with world.role("executor") as executor:
        hold = world.hold(kind)
        task = await world.publish(f"survives-{kind}", kind=kind)
        await until(lambda: len(world.applied(task)) == 1)
        async with world.bus_away():
            hold.unlink()
            await until(lambda: world.keeps(task))
            executor.signal(9)
            await until(lambda: executor.child.restarts == 1)
        assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
    assert len(world.applied(task)) == 1
    assert await world.count("effect", task) == 1


async def test_ten_seconds_without_the_bus_lose_and_repeat_nothing(world: World) -> None:
    async with world.role("executor") as executor, asyncio.TaskGroup() as group:
        kinds = ("post", "transfer", "wire") * 10
        publishing = [group.create_task(world.publish(f"bus-{n}", kind=kind)) for n, kind in enumerate(kinds[:15])]
        await publishing[0]
        async with world.bus_away():
            publishing += [
                group.create_task(world.publish(f"bus-{n}", kind=kind)) for n, kind in enumerate(kinds[15:], 15)
            ]
            await asyncio.sleep(AWAY_S)
        tasks = [await publish for publish in publishing]
        endings = [(await world.outcome(task)).status for task in tasks]
        await world.settled("executor")
        assert executor.child.restarts == 0
    assert endings == [OutcomeStatus.COMPLETED] * len(tasks)
    assert [len(world.applied(task)) for task in tasks] == [1] * len(tasks)


async def test_ten_seconds_without_the_ledger_lose_and_repeat_nothing(world: World) -> None:
    kinds = ("post", "transfer") * 10
    async with world.role("executor") as executor:
        tasks = [await world.publish(f"target-{n}", kind=kind) for n, kind in enumerate(kinds[:10])]
        async with world.target_away():
            tasks += [await world.publish(f"target-{n}", kind=kind) for n, kind in enumerate(kinds[10:], 10)]
            tasks.append(await world.publish("target-move", "move"))
            await asyncio.sleep(AWAY_S)
            unsent = await world.publish("target-wire", kind="wire")
        endings = [(await world.outcome(task)).status for task in (*tasks, unsent)]
        await world.settled("executor")
        assert {line["event"] for line in executor.log() if line.get("level") == "error"} == set()
    assert endings == [OutcomeStatus.COMPLETED] * 22
    assert [len(world.applied(task)) for task in tasks] == [1] * 20 + [4]
