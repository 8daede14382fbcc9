"""The outbox: what was obtained while the bus was away is committed when it is back, once."""

from pathlib import Path

from mesh import subjects
from mesh.checkpoint import checkpoint
from mesh.journal import Journal, Write, committing, message_of
from mesh.outbox import Outbox, replay_outbox
from tests.mesh.live_mesh import LiveMesh, put, stored
from tests.mesh.samples import effect, result


async def test_a_write_is_kept_until_it_is_on_the_bus(tmp_path: Path) -> None:
    write = Write(result(), expected=4)
    async with checkpoint(tmp_path / "c.db") as local:
        outbox = Outbox(local)
        await outbox.keep(write)
        await outbox.keep(Write(result("t2")))
        outbox.committed([result()])
    async with checkpoint(tmp_path / "c.db") as local:
        assert [message.subject for message in await local.outbox()] == [subjects.of(result("t2"))]


async def test_what_an_earlier_life_left_behind_is_committed_and_dropped(live: LiveMesh, tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    async with checkpoint(path) as local:
        for n in range(3):
            await Outbox(local).keep(Write(result(f"t{n}")))
    async with live.bus() as bus, committing(bus) as committer:
        async with checkpoint(path) as local:
            assert await replay_outbox(local, committer) == 3
        async with checkpoint(path) as local:
            assert await replay_outbox(local, committer) == 0
        assert [item.record for n in range(3) for item in await Journal(bus, committer).task(f"t{n}")] == [
            result(f"t{n}") for n in range(3)
        ]


async def test_what_was_committed_before_the_death_is_not_committed_twice(live: LiveMesh, tmp_path: Path) -> None:
    async with live.bus() as bus, committing(bus) as committer, checkpoint(tmp_path / "c.db") as local:
        await Outbox(local).keep(Write(result()))
        await committer.commit([message_of(Write(result()))])
        assert await replay_outbox(local, committer) == 1
        assert len(await stored(bus)) == 1


async def test_what_another_has_superseded_is_dropped(live: LiveMesh, tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    async with live.bus() as bus, committing(bus) as committer:
        async with checkpoint(path) as local:
            await Outbox(local).keep(Write(result(output="ours")))
            await Outbox(local).keep(Write(effect(epoch=2), expected=1))
            await put(bus, result(output="theirs"), effect(epoch=3))
            assert await replay_outbox(local, committer) == 2
        async with checkpoint(path) as local:
            assert await local.outbox() == []
        assert len(await stored(bus)) == 2
