"""A projection: each message once and in order, whatever ends or interrupts it."""

import asyncio
import os
import signal
import sqlite3
import sys
from pathlib import Path

import pytest

from mesh import subjects
from mesh.bus import Bus, StoredMessage
from mesh.checkpoint import open_database
from mesh.projection import Projection, following
from tests.mesh.live_mesh import LiveMesh, put
from tests.mesh.running_mesh import until
from tests.mesh.samples import context, plan

ROOT = Path(__file__).parents[2]
SCHEMA = "CREATE TABLE IF NOT EXISTS seen (n INTEGER PRIMARY KEY AUTOINCREMENT, seq INTEGER NOT NULL, subject TEXT)"


def apply(database: sqlite3.Connection, message: StoredMessage) -> None:
    """Write the message down."""
    database.execute("INSERT INTO seen (seq, subject) VALUES (?, ?)", (message.seq, message.subject))


def seen(database: sqlite3.Connection) -> list[int]:
    """The sequences that were applied, in the order they were."""
    return [seq for (seq,) in database.execute("SELECT seq FROM seen ORDER BY n")]


def projection(bus: Bus, database: sqlite3.Connection, subject: str = "task.>") -> Projection:
    """A projection of the journal."""
    return Projection(bus, database, subjects.JOURNAL, subject, apply)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the table is."""
    return tmp_path / "state" / "seen.db"


async def test_it_takes_what_stands_and_then_what_comes_in_order(live: LiveMesh, path: Path) -> None:
    database = open_database(path, SCHEMA)
    async with live.bus() as bus:
        await put(bus, *[context(f"t{n}") for n in range(300)])
        async with following(projection(bus, database)) as followed:
            await followed.caught_up.wait()
            assert seen(database) == list(range(1, 301))
            for n in range(300, 330):
                (seq,) = await put(bus, context(f"t{n}"))
                async with asyncio.timeout(2):
                    await followed.reached(seq)
            assert seen(database) == list(range(1, 331))
    database.close()


async def test_reached_waits_for_what_is_still_on_its_way(live: LiveMesh, path: Path) -> None:
    database = open_database(path, SCHEMA)
    async with live.bus() as bus, following(projection(bus, database)) as followed:
        waiting = [asyncio.create_task(followed.reached(seq)) for seq in (1, 2)]
        await followed.caught_up.wait()
        assert not any(task.done() for task in waiting)
        await put(bus, context("t1"))
        await waiting[0]
        assert seen(database) == [1] and not waiting[1].done()
        await put(bus, context("t2"))
        await asyncio.wait_for(asyncio.gather(*waiting, followed.reached(1)), 5)
    database.close()


async def test_it_follows_only_its_subject(live: LiveMesh, path: Path) -> None:
    database = open_database(path, SCHEMA)
    async with live.bus() as bus:
        await put(bus, context("t1"), plan("t1"), context("t2"), plan("t2"))
        async with following(projection(bus, database, "task.plan.>")) as followed:
            await followed.reached(4)
            assert seen(database) == [2, 4]
    database.close()


async def test_it_goes_on_where_it_was_when_it_is_opened_again(live: LiveMesh, path: Path) -> None:
    async with live.bus() as bus:
        for first in (0, 10, 20):
            await put(bus, *[context(f"t{n}") for n in range(first, first + 10)])
            database = open_database(path, SCHEMA)
            followed = projection(bus, database)
            assert followed.seq == first
            async with following(followed):
                await followed.reached(first + 10)
            database.close()
        database = open_database(path, SCHEMA)
        assert seen(database) == list(range(1, 31))
        database.close()


async def test_rows_and_place_are_one_transaction(live: LiveMesh, path: Path) -> None:
    database = open_database(path, SCHEMA)

    def fails_at_5(connection: sqlite3.Connection, message: StoredMessage) -> None:
        apply(connection, message)
        if message.seq == 5:
            raise OSError("no room")

    async with live.bus() as bus:
        await put(bus, *[context(f"t{n}") for n in range(8)])
        failing = Projection(bus, database, subjects.JOURNAL, "task.>", fails_at_5)
        with pytest.RaisesGroup(OSError):
            async with following(failing):
                await asyncio.Event().wait()
        assert seen(database) == [] and failing.seq == projection(bus, database).seq == 0
        async with following(projection(bus, database)) as followed:
            await followed.reached(8)
        assert seen(database) == list(range(1, 9))
    database.close()


FOLLOW = """
import asyncio, sys
from pathlib import Path
from mesh.bus import connect
from mesh.checkpoint import open_database
from tests.mesh.test_projection import SCHEMA, projection
async def main():
    url, key, inbox, path = sys.argv[1:]
    database = open_database(Path(path), SCHEMA)
    async with connect(url, name="follower", options={"nkeys_seed": key, "inbox_prefix": inbox}) as bus:
        await projection(bus, database).run()
asyncio.run(main())
"""


@pytest.mark.timeout(60)  # it starts three processes
async def test_a_follower_killed_anywhere_skips_nothing_and_repeats_nothing(live: LiveMesh, path: Path) -> None:
    options = live.identities["everyone"].nats_options()
    argv = (live.server.url, options["nkeys_seed"], options["inbox_prefix"], str(path))
    database = open_database(path, SCHEMA)
    writing = True
    async with live.bus() as bus:

        async def write() -> None:
            n = 0
            while writing:
                await put(bus, context(f"t{n}"))
                n += 1

        writer = asyncio.create_task(write())
        for _ in range(3):
            before = len(seen(database))
            follower = await asyncio.create_subprocess_exec(sys.executable, "-c", FOLLOW, *argv, cwd=ROOT)
            try:
                await until(lambda before=before: len(seen(database)) > before + 50)  # type: ignore[misc]
            finally:
                os.kill(follower.pid, signal.SIGKILL)
                await follower.wait()
        writing = False
        await writer
        async with following(projection(bus, database)) as followed:
            last = (await bus.api("STREAM.INFO.JOURNAL"))["state"]["last_seq"]
            await followed.reached(last)
        assert seen(database) == list(range(1, last + 1))
    database.close()


async def test_it_survives_a_killed_server(live: LiveMesh, path: Path) -> None:
    database = open_database(path, SCHEMA)
    async with live.bus() as bus, following(projection(bus, database)) as followed:
        for n in range(3):
            (seq,) = await put(bus, context(f"before{n}"))
            await followed.reached(seq)
            pid = live.kill()
            await until(lambda pid=pid: live.server.pid != pid)  # type: ignore[misc]
            await until(lambda: bus.is_connected)
            (seq,) = await put(bus, context(f"after{n}"))
            async with asyncio.timeout(10):
                await followed.reached(seq)
        assert seen(database) == list(range(1, 7))
    database.close()


async def test_rebuilt_from_the_stream_it_is_equal(live: LiveMesh, path: Path, tmp_path: Path) -> None:
    first, second = open_database(path, SCHEMA), open_database(tmp_path / "rebuilt.db", SCHEMA)
    async with live.bus() as bus:
        async with following(projection(bus, first)) as followed:
            for n in range(0, 600, 100):
                seqs = await put(bus, *[context(f"t{n + more}") for more in range(100)])
                await followed.reached(seqs[-1])
        async with following(projection(bus, second)) as rebuilt:
            await rebuilt.reached(600)
    query = "SELECT n, seq, subject FROM seen ORDER BY n"
    assert first.execute(query).fetchall() == second.execute(query).fetchall()
    for database in (first, second):
        database.close()


async def test_two_projections_can_share_a_database(live: LiveMesh, path: Path) -> None:
    database = open_database(path, SCHEMA)
    async with live.bus() as bus:
        await put(bus, context("t1"), plan("t1"))
        async with following(projection(bus, database, "task.plan.>")) as plans:
            await plans.reached(2)
        async with following(projection(bus, database, "task.context.>")) as contexts:
            await contexts.reached(1)
        assert sorted(seen(database)) == [1, 2]
        assert (projection(bus, database, "task.plan.>").seq, projection(bus, database, "task.context.>").seq) == (2, 1)
    database.close()


async def test_what_is_offered_in_stream_order_is_not_read(
    live: LiveMesh, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = open_database(path, SCHEMA)
    async with live.bus() as bus:
        await put(bus, *[context(f"t{n}") for n in range(30)])
        held = await bus.read(subjects.JOURNAL, 1, 30)
        followed = Projection(bus, database, subjects.JOURNAL, "task.>", apply, hints=False)
        for message in reversed(held[:20]):
            followed.offer(message)
        read, begins = bus.read, []

        async def reading(stream: str, seq: int, limit: int, subject: str = ">") -> list[StoredMessage]:
            begins.append(seq)
            return await read(stream, seq, limit, subject)

        monkeypatch.setattr(bus, "read", reading)
        async with following(followed):
            await followed.reached(30)
            assert seen(database) == list(range(1, 31))
            assert begins[0] == 21
    database.close()


async def test_an_offer_behind_a_gap_waits_for_what_is_missing(live: LiveMesh, path: Path) -> None:
    database = open_database(path, SCHEMA)
    async with live.bus() as bus:
        followed = Projection(bus, database, subjects.JOURNAL, "task.>", apply, hints=False)
        async with following(followed):
            await followed.caught_up.wait()
            await put(bus, *[context(f"t{n}") for n in range(10)])
            followed.offer((await bus.read(subjects.JOURNAL, 7, 1))[0])
            async with asyncio.timeout(5):
                await followed.reached(7)
            assert seen(database)[:7] == list(range(1, 8))
            followed.offer((await bus.read(subjects.JOURNAL, 3, 1))[0])
            async with asyncio.timeout(5):
                await followed.reached(10)
            assert seen(database) == list(range(1, 11))
    database.close()


async def test_fresh_has_taken_all_that_was_stored_before(live: LiveMesh, path: Path) -> None:
    database = open_database(path, SCHEMA)
    async with live.bus() as bus:
        slow = Projection(bus, database, subjects.JOURNAL, "task.>", apply, hints=False, pace_s=30)
        async with following(slow):
            for n in range(5):
                await put(bus, context(f"t{n}"))
                async with asyncio.timeout(5):
                    await slow.fresh()
                assert seen(database) == list(range(1, n + 2))
    database.close()
