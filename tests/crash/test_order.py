"""Order within an entity (invariant 7): with copies of every stage, across kills, by events that do not commute.

A ``post`` adds and a ``double`` doubles, so what an account has at the end tells in which order they took effect.
"""

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from mesh.records import OutcomeStatus, Word
from tests.ledger_pack.running import Running, until
from tests.ledger_pack.world import World, world_in

pytestmark = [pytest.mark.crash, pytest.mark.slow, pytest.mark.timeout(180)]

STAGES = ("perception", "planner", "executor")
COPIES = ("1", "2")
ENTITIES = tuple(f"account-{n}" for n in range(6))
EVENTS, KILLS, SEED = 60, 8, 7


def entered(world: World, account: str) -> list[tuple[str, int]]:
    """What was entered on an account, in the ledger's own order: the key and the amount."""
    return [(key, amount) for _, key, amount in world.applied(account=account)]


def expected(events: Sequence[tuple[str, str, int]]) -> list[tuple[str, int]]:
    """What must be entered for the tasks of one account, when each acts on what those before it left."""
    found: list[tuple[str, int]] = []
    for task, kind, amount in events:
        balance = sum(amount for _, amount in found)
        found.append((f"wm-{task}-enter", balance if kind == "double" else amount))
    return found


async def kill_some(running: Sequence[Running], chance: random.Random) -> int:
    """Kill one process after another, while there is work."""
    for _ in range(KILLS):
        await asyncio.sleep(chance.uniform(0.0, 0.4))
        await chance.choice(running).kill()
    return KILLS


async def test_each_entity_acts_in_the_order_of_its_events_across_kills(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    published: dict[str, list[tuple[str, str, int]]] = {entity: [] for entity in ENTITIES}
    async with world_in(tmp_path, "policy") as world, AsyncExitStack() as stack:
        running = [
            each for copy in COPIES for each in await stack.enter_async_context(world.roles(*STAGES, instance=copy))
        ]
        killing = asyncio.create_task(kill_some(running, chance))
        for number in range(EVENTS):
            entity = chance.choice(ENTITIES)
            kind = chance.choice(("post", "transfer", "double"))
            amount = chance.randint(1, 9)
            task = await world.publish(f"order-{number}", entity=entity, account=entity, kind=kind, amount=amount)
            published[entity].append((task, kind, amount))
            await asyncio.sleep(chance.uniform(0.0, 0.1))
        assert await killing == KILLS
        endings = {task: await world.outcome(task) for events in published.values() for task, _, _ in events}
        assert sum(each.child.restarts for each in running) == KILLS
        assert {ending.status for ending in endings.values()} == {OutcomeStatus.COMPLETED}
        assert {entity: entered(world, entity) for entity in ENTITIES} == {
            entity: expected(events) for entity, events in published.items()
        }


async def test_a_task_that_is_held_or_waits_for_a_person_holds_up_its_own_entity_alone(tmp_path: Path) -> None:
    go_on, held = tmp_path / "go-on", tmp_path / "held"
    fault = f"executor.before_call=hold:{go_on}@{held}"
    async with world_in(tmp_path, "perception", "planner", "policy") as world, world.role("executor", fault=fault):
        first = await world.publish("held-1", entity="held", account="held")
        await until(held.exists)
        asked = await world.publish("asked-1", entity="asked", account="asked", amount=20_000)
        await world.waits(asked)
        behind = [
            await world.publish(f"{entity}-2", entity=entity, account=entity, kind="double")
            for entity in ("held", "asked")
        ]
        others = [
            await world.publish(f"other-{n}", entity=f"other-{n % 3}", account=f"other-{n % 3}") for n in range(9)
        ]
        assert {(await world.outcome(task)).status for task in others} == {OutcomeStatus.COMPLETED}
        assert [await world.count("context", task) for task in behind] == [1, 1]
        assert [await world.count("plan", task) for task in behind] == [0, 0]
        assert [await world.count("outcome", task) for task in (first, asked)] == [0, 0]
        go_on.touch()
        await world.say(asked, Word.APPROVE)
        assert {(await world.outcome(task)).status for task in (first, asked, *behind)} == {OutcomeStatus.COMPLETED}
        assert entered(world, "held") == expected([(first, "post", 100), (behind[0], "double", 0)])
        assert entered(world, "asked") == expected([(asked, "post", 20_000), (behind[1], "double", 0)])
