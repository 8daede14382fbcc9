"""Duplicates, conflicts and the chain of an entity follow the stream, whoever is killed and whatever comes again."""

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from mesh import subjects
from mesh.bus import StoredMessage
from mesh.canonical import task_id
from mesh.event_index import EventIndex
from mesh.journal import committing
from mesh.projection import following
from mesh.quarantine import Reason, release
from mesh.records import Context
from tests.agents.perception.test_reading import BAD, PACKS, event
from tests.ledger_pack.world import ROOT, SOURCE, World, world_in

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A bus; copies of perception come and go."""
    async with world_in(tmp_path_factory.mktemp("w")) as found:
        yield found


async def context_of(world: World, task: str) -> Context:
    """Wait for a context."""
    record = (await world.record("context", task)).record
    assert isinstance(record, Context)
    return record


async def done(world: World) -> None:
    """Wait until perception has nothing left to do."""
    await world.settled("perception", subjects.EVENTS)


async def test_the_first_in_the_stream_stands_though_it_comes_again_after_a_later_one(world: World) -> None:
    once = world.folder / "first.once"
    async with world.role("perception", fault=f"perception.before_handling=stop@{once}") as stalled:
        first = await world.publish_bytes(event(id="one", source=SOURCE))
        await stalled.stopped()
        async with world.role("perception", instance="2"):
            await world.publish_bytes(event(id="one", source=SOURCE))
            other = {"account": "b", "amount": 1, "kind": "post"}
            changed = await world.publish_bytes(event(id="one", source=SOURCE, data=other))
            item = await world.quarantined("perception", "with other content", changed)
            context = await context_of(world, task_id(SOURCE, "one"))
            stalled.signal(signal.SIGCONT)
            await done(world)
    assert context.event.seq == first
    assert msgspec.json.decode(context.data)["account"] == "a"
    assert (item.reason, item.event_id) == (Reason.CONFLICT, "one")
    assert await world.count("context", task_id(SOURCE, "one")) == 1


async def test_a_copy_killed_between_commit_and_ack_leaves_one_context(world: World) -> None:
    once = world.folder / "killed.once"
    async with world.role("perception", fault=f"perception.before_ack=kill@{once}") as killed:
        await world.publish_bytes(event(id="two", source=SOURCE))
        await world.publish_bytes(event(id="two", source=SOURCE))
        await killed.died()
        await done(world)
    assert await world.count("context", task_id(SOURCE, "two")) == 1


async def test_each_task_of_an_entity_comes_after_the_one_before_it(world: World) -> None:
    async with world.roles("perception"), world.role("perception", instance="2"):
        tasks = [await world.publish(f"chain-{n}", entity="chain") for n in range(20)]
        await world.publish("chain-3", entity="chain")
        other = await world.publish("alone", entity="other")
        contexts = [await context_of(world, task) for task in tasks]
        assert (await context_of(world, other)).after == ""
        await done(world)
    assert [context.after for context in contexts] == ["", *tasks[:-1]]


async def test_an_event_that_a_copy_with_older_packs_refused_is_taken_when_it_is_released(world: World) -> None:
    url = world.env.pop("WORKMESH_PACKS__LEDGER__URL")
    older = {"PYTHONPATH": str(ROOT), "WORKMESH_ENABLED_PACKS": "retail"}
    async with world.role("perception", instance="old", env=older):
        seq = await world.publish_bytes(event(id="older", source=SOURCE))
        item = await world.quarantined("perception", "no pack for 'ledger'", seq)
    world.env["WORKMESH_PACKS__LEDGER__URL"] = url
    async with world.roles("perception", instance="new"):
        async with committing(world.bus) as committer:
            await release(committer, item, person="test")
        context = await context_of(world, task_id(SOURCE, "older"))
        await done(world)
    assert context.event.seq > seq


async def test_an_index_rebuilt_from_the_stream_is_equal(world: World, tmp_path: Path) -> None:
    async def rows(path: Path) -> list[tuple[object, ...]]:
        async with world.connected("perception") as bus:
            index = EventIndex(bus, path, PACKS)
            try:
                async with following(index.projection):
                    await index.projection.caught_up.wait()
                firsts = index._database.execute("SELECT * FROM event ORDER BY seq").fetchall()
                entities = index._database.execute("SELECT * FROM entity ORDER BY seq").fetchall()
            finally:
                index.close()
        return [*firsts, *entities]

    kept = await rows(world.folder / "state" / "state" / "perception-1" / "events.db")
    assert kept == await rows(tmp_path / "fresh.db")
    assert len(kept) > 20


async def test_reading_a_message_twice_changes_nothing(world: World, tmp_path: Path) -> None:
    async with world.connected("perception") as bus:
        index = EventIndex(bus, tmp_path / "twice.db", PACKS)
        try:
            events = [event(id=f"e{seq % 3}", subject="s") for seq in range(6)]
            messages = [StoredMessage("EVENTS", "event.x", seq, "", data, {}) for seq, data in enumerate(events, 1)]
            for message in (*messages, *messages[2:]):
                index._apply(index._database, message)
            found = index._database.execute("SELECT seq FROM event ORDER BY seq").fetchall()
        finally:
            index.close()
    assert found == [(1,), (2,), (3,)]


async def test_what_is_wrong_is_kept_with_its_bytes(world: World) -> None:
    async with world.roles("perception"):
        for _, data, reason, detail in BAD:
            seq = await world.publish_bytes(data)
            item = await world.quarantined("perception", detail, seq)
            assert (item.reason, item.data, item.stream) == (reason, data, subjects.EVENTS)
