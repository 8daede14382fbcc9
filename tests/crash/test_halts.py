"""The kill switch on a running site: nothing new begins within a second, nothing is lost, and all goes on after it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from mesh import subjects
from mesh.clock import now
from mesh.control import Controls, Standing
from mesh.errors import SignatureError
from mesh.halts import HALT, Halt
from mesh.journal import stored
from mesh.records import Effect, OutcomeStatus, Word
from tests.console.conftest import WORKMESH
from tests.ledger_pack.running import Running, until
from tests.ledger_pack.world import World, world_in

pytestmark = [pytest.mark.crash, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

IN_FORCE_S = 1.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[World, Running]]:
    """A site without an executor; its policy process can be killed."""
    async with world_in(tmp_path_factory.mktemp("w"), "perception", "planner") as world:
        async with world.role("policy") as policy:
            yield world, policy


async def put(world: World, halted: bool, **scope: str) -> Standing[Halt]:
    """An act of olga, an operator."""
    controls = Controls(world.bus, world.site.admin.public_key, HALT)
    act = Halt(person="olga", at=now(), halted=halted, **scope)
    return await controls.put(world.committer, HALT, act, world.people["olga"])


async def workmesh(world: World, *args: str, code: int = 0) -> Any:
    """What a command with ``--json`` prints."""
    process = await asyncio.create_subprocess_exec(
        str(WORKMESH),
        *args,
        "--json",
        env={**os.environ, **world.env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == code, (args, err.decode())
    return msgspec.json.decode(out) if out else err.decode()


async def held(world: World, task: str) -> str:
    """Wait until ``tasks list`` says that a task is held; by what."""
    found: list[str] = []

    async def is_held() -> bool:
        lines = await workmesh(world, "tasks", "list")
        found.extend(line["held"] for line in lines if line["task_id"] == task and line["held"])
        return bool(found)

    await until(is_held)
    return found[0]


async def stored_between(world: World, kind: str, start: datetime, end: datetime) -> int:
    """How many records of a kind the server stored between two times."""
    found, seq = 0, 1
    while page := await world.bus.read(subjects.JOURNAL, seq, 256, subjects.kind(kind)):
        found += sum(start < stored(message).time < end for message in page)
        seq = page[-1].seq + 1
    return found


@pytest.mark.parametrize(
    "scope", [{"domain": "ledger"}, {"tool": "ledger.post"}, {"agent": "executor"}, {"agent": "policy"}, {}]
)
async def test_a_halt_is_in_force_within_a_second(site: tuple[World, Running], scope: dict[str, str]) -> None:
    world, _ = site
    tasks: list[str] = []
    async with world.role("executor"):
        for number in range(3):
            standing = await put(world, True, **scope)
            name = f"bound-{'-'.join(scope)}-{number}"
            bound, asked = timedelta(seconds=IN_FORCE_S), now()
            while asked < standing.stored_at + bound + timedelta(seconds=0.7):
                tasks.append(await world.publish(f"{name}-{len(tasks)}"))
                # What the disk keeps waiting was begun in time.
                bound, asked = max(bound, timedelta(seconds=IN_FORCE_S) + (now() - asked)), now()
                await asyncio.sleep(0.02)
            late = standing.stored_at + bound
            lifted = await put(world, False, **scope)
            assert await stored_between(world, "effect", late, lifted.stored_at) == 0
            if not {"tool", "agent"} & scope.keys():
                assert await stored_between(world, "decision", late, lifted.stored_at) == 0
        endings = [await world.outcome(task) for task in tasks]
    assert {ending.status for ending in endings} == {OutcomeStatus.COMPLETED}
    assert all(len(world.applied(task)) == 1 for task in tasks)


async def test_what_is_held_outlives_the_death_of_every_process(site: tuple[World, Running]) -> None:
    world, policy = site
    async with world.role("executor") as executor:
        line = await workmesh(world, "pause", "--tool", "ledger.post", "--reason", "a leak")
        assert (line["person"], line["tool"], line["halted"]) == ("operator", "ledger.post", True)
        task = await world.publish("outlives")
        await world.record("plan", task)
        await policy.kill()
        await executor.kill()
        async with world.bus_away():
            pass
        other = await world.publish("outlives-too", kind="wire")
        assert (await world.outcome(other)).status is OutcomeStatus.COMPLETED
        assert "tool ledger.post is halted by operator since" in await held(world, task)
        assert world.applied(task) == []
        assert [line["reason"] for line in await workmesh(world, "pause", "--list")] == ["a leak"]
        key = str(world.people["vera"].path)
        said = await workmesh(world, "resume", "--tool", "ledger.post", "--key", key, code=1)
        assert "vera may not let work go on" in said
        said = await workmesh(world, "resume", "--domain", "ledger", "--key", key, code=1)
        assert "domain ledger is not paused as such: paused is tool ledger.post" in said
        assert world.applied(task) == []
        await workmesh(world, "resume", "--tool", "ledger.post", "--key", str(world.people["olga"].path))
        assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
    assert len(world.applied(task)) == 1
    assert await workmesh(world, "pause", "--list") == []


async def test_an_effect_on_record_whose_call_was_not_made_is_withdrawn(site: tuple[World, Running]) -> None:
    world, _ = site
    held_back = world.folder / "before-call"
    once = world.folder / "before-call.once"
    async with world.role("executor", fault=f"executor.before_call=hold:{held_back}@{once}"):
        task = await world.publish("withdrawn", kind="wire")
        await world.record("effect", task, "enter")
        standing = await put(world, True, domain="ledger")
        await until(lambda: now() > standing.stored_at + timedelta(seconds=IN_FORCE_S))
        held_back.touch()

        async def is_withdrawn() -> bool:
            effect = (await world.record("effect", task, "enter")).record
            return isinstance(effect, Effect) and effect.withdrawn

        await until(is_withdrawn)
        assert world.applied(task) == []
        await put(world, False, domain="ledger")
        assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
        effect = (await world.record("effect", task, "enter")).record
        assert isinstance(effect, Effect) and effect.epoch == 2
    assert len(world.applied(task)) == 1


async def test_a_compensation_with_a_halted_tool_waits(site: tuple[World, Running]) -> None:
    world, _ = site
    async with world.role("executor"):
        await put(world, True, tool="ledger.reverse")
        task = await world.publish("halted-undo", "move", last=2_000_000, note=2_000_000)
        await world.record("result", task, "close")
        assert "tool ledger.reverse" in await held(world, task)
        assert [kind for kind, _, _ in world.applied(task)] == ["post", "transfer"]
        assert await world.journal.record(f"task.outcome.ledger.{task}.-") is None
        await put(world, False, tool="ledger.reverse")
        assert (await world.outcome(task)).status is OutcomeStatus.COMPENSATED
    assert [kind for kind, _, _ in world.applied(task)].count("reverse") == 2


async def test_a_person_may_speak_while_the_domain_is_halted_and_the_effect_waits(site: tuple[World, Running]) -> None:
    world, _ = site
    async with world.role("executor"):
        task = await world.publish("halted-word", amount=20_000)
        await world.waits(task)
        await put(world, True, domain="ledger")
        assert (await world.say(task, Word.APPROVE)).verdict == "allow"
        assert "domain ledger" in await held(world, task)
        assert world.applied(task) == []
        await put(world, False, domain="ledger")
        assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
    assert len(world.applied(task)) == 1


async def test_a_doubt_is_settled_by_asking_while_its_domain_is_halted(site: tuple[World, Running]) -> None:
    world, _ = site
    once = world.folder / "halted-doubt.once"
    async with world.role("executor", fault=f"executor.after_call=stop@{once}") as executor:
        task = await world.publish("halted-doubt", kind="transfer")
        await executor.stopped()
        await put(world, True)
        executor.signal(signal.SIGKILL)
        await executor.died()
        result = await world.result(task)
        assert (result.status, result.recovered) == ("succeeded", "verified")
        assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
        await put(world, False)
    assert len(world.applied(task)) == 1


async def test_a_halted_planner_has_its_plans_wait_and_a_halted_executor_leaves_work_to_another(
    site: tuple[World, Running],
) -> None:
    world, _ = site
    async with world.role("executor", "one"):
        await put(world, True, agent="planner/planner-1")
        task = await world.publish("halted-planner")
        assert "agent planner/planner-1" in await held(world, task)
        assert await world.journal.record(f"task.decision.ledger.{task}.-") is None
        await put(world, True, agent="executor/executor-one")
        await put(world, False, agent="planner/planner-1")
        await world.record("decision", task)
        other = await world.publish("halted-executor")
        await world.record("decision", other)
        assert world.applied(task) == []
        async with world.role("executor", "two"):
            assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
            assert (await world.outcome(other)).status is OutcomeStatus.COMPLETED
            effect = (await world.record("effect", task, "enter")).record
            assert isinstance(effect, Effect) and effect.executor.startswith("executor/executor-two/")
        await put(world, False, agent="executor/executor-one")


async def test_only_a_person_with_a_role_lets_work_go_on(site: tuple[World, Running]) -> None:
    world, _ = site
    controls = Controls(world.bus, world.site.admin.public_key, HALT)
    act = Halt(person="operator", at=now(), halted=True, domain="ledger")
    operator = world.site.identity("operator")
    await controls.put(world.committer, HALT, act, operator)
    with pytest.raises(SignatureError, match="operator may not let work go on"):
        await controls.put(world.committer, HALT, msgspec.structs.replace(act, halted=False), operator)
    await put(world, False, domain="ledger")
