"""The auditor killed at every boundary of its work: no line is lost, and no checkpoint contradicts another."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from mesh import audit, subjects
from mesh.audit import entry_of_message
from mesh.bus import Bus, StoredMessage
from mesh.merkle import Tree, leaf_hash
from mesh.records import OutcomeStatus
from mesh.signed_note import LogCheckpoint, VerifierKey, split_notes
from tests.ledger_pack.running import until
from tests.ledger_pack.world import World, world_in
from tests.mesh.live_mesh import stored

pytestmark = [pytest.mark.crash, pytest.mark.timeout(180)]

STAGES = ("perception", "planner", "policy", "executor")
POINTS = ("opening", "after_lines", "before_signing", "after_signing", "before_publishing", "after_publishing")
ENV = {"WORKMESH_AUDIT__CHECKPOINT_S": "0.2"}


def read(file: Path) -> tuple[list[str], str]:
    """The notes of a file of checkpoints, and what is none."""
    return split_notes(file.read_text())


async def journal(bus: Bus) -> list[StoredMessage]:
    return await stored(bus, subjects.JOURNAL)


async def is_covered(world: World) -> bool:
    """Whether a checkpoint covers all that the journal has."""
    messages = await journal(world.bus)
    return (
        bool(messages) and await world.bus.last(subjects.AUDIT, audit.checkpoint_subject(messages[-1].seq)) is not None
    )


async def checked(world: World, file: Path) -> list[LogCheckpoint]:
    """Every line is that of the journal, and every checkpoint ever signed is of these lines; the checkpoints."""
    root = world.site.admin.public_key
    key = VerifierKey.of(audit.origin(root), world.site.identity("auditor").public_key)
    lines = [line async for line in audit.read_lines(world.bus)]
    assert lines == [entry_of_message(message).line() for message in await journal(world.bus)]
    tree = Tree(leaf_hash(line.encode()) for line in lines)
    published = [message.data.decode() for message in await stored(world.bus, subjects.AUDIT, audit.CHECKPOINTS)]
    kept, torn = read(file)
    assert not torn and set(published) <= set(kept)
    found = [LogCheckpoint.open(note, [key]) for note in kept]
    assert all(each.root == tree.root(each.size) for each in found)
    assert not await stored(world.bus, subjects.AUDIT, audit.PROBLEMS)
    return found


async def test_killed_at_every_boundary_it_loses_nothing_and_signs_one_history(tmp_path: Path) -> None:
    faults = ",".join(f"auditor.{point}=kill@{tmp_path / point}" for point in POINTS)
    async with world_in(tmp_path, *STAGES) as world:
        async with world.role("auditor", fault=faults, env=ENV) as running:
            number = 0

            async def all_died() -> bool:
                nonlocal number
                number += 1
                task = await world.publish(f"killed-{number}")
                assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
                return all((tmp_path / point).exists() for point in POINTS)

            await until(all_died)
            await running.died(len(POINTS))
            await until(lambda: is_covered(world))
        assert await checked(world, world.site.folder / "audit" / "checkpoints")


async def test_killed_on_any_moment_it_goes_on(tmp_path: Path) -> None:
    async with world_in(tmp_path, *STAGES) as world:
        async with world.role("auditor", env=ENV) as running:
            for number in range(4):
                task = await world.publish(f"killed-{number}")
                await world.outcome(task)
                await running.kill()
            await until(lambda: is_covered(world))
        assert await checked(world, world.site.folder / "audit" / "checkpoints")


async def test_it_signs_what_is_there_when_it_is_stopped_and_waits_for_a_bus_that_is_away(tmp_path: Path) -> None:
    async with world_in(tmp_path, *STAGES) as world:
        async with world.role("auditor", env={"WORKMESH_AUDIT__CHECKPOINT_S": "3600"}):
            await world.outcome(await world.publish("first"))
        assert await is_covered(world)
        async with world.role("auditor", env=ENV):
            async with world.bus_away():
                pass
            await world.outcome(await world.publish("second"))
            await until(lambda: is_covered(world))
        assert await checked(world, world.site.folder / "audit" / "checkpoints")


async def test_two_auditors_side_by_side_agree(tmp_path: Path) -> None:
    files = [tmp_path / name / "checkpoints" for name in ("a", "b")]
    envs = [{**ENV, "WORKMESH_AUDIT__CHECKPOINT_FILE": os.fspath(file)} for file in files]
    async with world_in(tmp_path, *STAGES) as world:
        async with world.role("auditor", "1", env=envs[0]), world.role("auditor", "2", env=envs[1]) as second:
            for number in range(3):
                await world.outcome(await world.publish(f"both-{number}"))
            await second.kill()
            await world.outcome(await world.publish("last"))
            await until(lambda: is_covered(world))
        # Stopped, both have signed all that there is: the same head.
        heads = [(await checked_file(world, file))[-1] for file in files]
        assert heads[0] == heads[1]
        logs = [world.folder / "state" / "state" / f"auditor-{name}" / "log" for name in ("1", "2")]
        assert logs[0].read_bytes() == logs[1].read_bytes()


async def checked_file(world: World, file: Path) -> list[LogCheckpoint]:
    """The checkpoints of one of several auditors, held against the lines on the bus."""
    root = world.site.admin.public_key
    key = VerifierKey.of(audit.origin(root), world.site.identity("auditor").public_key)
    tree = Tree([leaf_hash(line.encode()) async for line in audit.read_lines(world.bus)])
    found = [LogCheckpoint.open(note, [key]) for note in read(file)[0]]
    assert all(each.root == tree.root(each.size) for each in found)
    assert not await stored(world.bus, subjects.AUDIT, audit.PROBLEMS)
    return found


async def test_stopped_while_the_bus_is_away_it_ends_in_peace_and_signs_the_rest_later(tmp_path: Path) -> None:
    async with world_in(tmp_path, *STAGES) as world:
        env = {**os.environ, **world.env, **ENV, "WORKMESH_ROLE_INSTANCE": "auditor-1"}
        log = tmp_path / "auditor.log"
        with log.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "console.main", "run", "auditor", env=env, stderr=stderr
            )
        try:
            await world.outcome(await world.publish("first"))
            await until(lambda: is_covered(world))
            async with world.bus_away():
                await until(lambda: "bus_disconnected" in log.read_text())
                process.terminate()
                assert await asyncio.wait_for(process.wait(), 60) == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        async with world.role("auditor", env=ENV):
            await world.outcome(await world.publish("second"))
            await until(lambda: is_covered(world))
        assert await checked(world, world.site.folder / "audit" / "checkpoints")
