"""The local checkpoint: what was put is on disk, for its owner alone, and outlives the process."""

import asyncio
import os
import signal
import sqlite3
import stat
import sys
from pathlib import Path

import pytest

from mesh.checkpoint import Checkpoint, checkpoint
from mesh.journal import Message

ROOT = Path(__file__).parents[2]


def message(n: int) -> Message:
    """A message to keep."""
    return Message(f"task.result.d.t{n}.s", f"data {n}".encode(), expected=n)


async def test_what_is_put_stands_until_it_is_dropped_oldest_first(tmp_path: Path) -> None:
    path = tmp_path / "state" / "checkpoint.db"
    async with checkpoint(path) as local:
        for n in (2, 1, 3):
            await local.put(message(n))
        assert await local.outbox() == [message(2), message(1), message(3)]
        local.drop(message(1).subject)
    async with checkpoint(path) as local:
        assert await local.outbox() == [message(2), message(3)]


async def test_a_message_without_an_expectation_comes_back_without_one(tmp_path: Path) -> None:
    async with checkpoint(tmp_path / "c.db") as local:
        await local.put(Message("event.a.b", b"\x00\xff", expected=None))
        assert await local.outbox() == [Message("event.a.b", b"\x00\xff", expected=None)]


async def test_a_message_put_again_replaces_the_one_before(tmp_path: Path) -> None:
    async with checkpoint(tmp_path / "c.db") as local:
        await local.put(message(1))
        later = Message(message(1).subject, b"later", expected=9)
        await local.put(later)
        local.drop("task.result.d.none.s")
        assert await local.outbox() == [later]


async def test_only_what_was_dispatched_is_known_as_dispatched(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    async with checkpoint(path) as local:
        await local.dispatch("wm-t1-s1", 2)
        await local.dispatch("wm-t1-s1", 2)
        assert await local.was_dispatched("wm-t1-s1", 2)
        assert not await local.was_dispatched("wm-t1-s1", 1)
        assert not await local.was_dispatched("wm-t1-s2", 2)
    async with checkpoint(path) as local:
        assert await local.was_dispatched("wm-t1-s1", 2)
        local.drop_dispatched("wm-t1-s1")
    async with checkpoint(path) as local:
        assert not await local.was_dispatched("wm-t1-s1", 2)


async def test_a_snapshot_is_the_last_one_saved(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    async with checkpoint(path) as local:
        assert await local.load("activation") is None
        await local.save("activation", b"one")
        await local.save("activation", b"two")
    async with checkpoint(path) as local:
        assert await local.load("activation") == b"two"


async def test_its_files_are_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "checkpoint.db"
    before = os.umask(0)
    try:
        async with checkpoint(path) as local:
            await local.put(message(1))
            modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert set(modes.values()) == {0o600} and "checkpoint.db" in modes
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def transactions(path: Path) -> int:
    """How often the file has been committed to: the frames of its write-ahead log that end a transaction."""
    wal = path.with_name(path.name + "-wal").read_bytes()
    page = int.from_bytes(wal[8:12], "big")
    frames = [wal[at : at + 24] for at in range(32, len(wal), 24 + page)]
    return sum(int.from_bytes(frame[4:8], "big") != 0 for frame in frames)


async def test_puts_that_are_ready_together_share_transactions(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    async with checkpoint(path) as local:
        await local.put(message(0))
        before = transactions(path)
        await asyncio.gather(*[local.put(message(n)) for n in range(1, 200)])
        assert transactions(path) - before <= 3
        assert len(await local.outbox()) == 200


PUT = """
import asyncio, sys
from pathlib import Path
from mesh.checkpoint import checkpoint
from tests.mesh.test_checkpoint import message
async def main():
    async with checkpoint(Path(sys.argv[1])) as local:
        for n in range(1_000_000):
            await asyncio.gather(local.put(message(n)), local.dispatch(f"k{n}", n))
            sys.stdout.write(f"{n}\\n")
            sys.stdout.flush()
asyncio.run(main())
"""


@pytest.mark.crash
async def test_what_was_put_survives_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PUT, str(path), stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    async with asyncio.timeout(15):
        while int(await process.stdout.readline()) < 50:
            pass
    os.kill(process.pid, signal.SIGKILL)
    told = [int(line) for line in (await process.stdout.read()).splitlines()]
    await process.wait()
    last = max([50, *told])
    async with checkpoint(path) as local:
        kept = await local.outbox()
        assert kept[: last + 1] == [message(n) for n in range(last + 1)]
        assert len(kept) <= last + 2
        assert all([await local.was_dispatched(f"k{n}", n) for n in range(last + 1)])


async def test_a_write_that_fails_is_told_to_who_asked_and_the_next_one_works(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    async with checkpoint(path) as local:
        await local.put(message(1))
        with pytest.raises(OverflowError):
            await local.put(Message("s", b"", expected=2**70))
        await local.put(message(2))
        assert await local.outbox() == [message(1), message(2)]


async def test_a_transaction_that_cannot_be_committed_leaves_the_file_usable(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "c.db", isolation_level=None, check_same_thread=False)
    database.executescript(
        """
        PRAGMA foreign_keys = ON;
        CREATE TABLE allowed (subject TEXT PRIMARY KEY);
        CREATE TABLE outbox (
            subject TEXT PRIMARY KEY REFERENCES allowed DEFERRABLE INITIALLY DEFERRED, data BLOB, expected INTEGER
        );
        """
    )
    local = Checkpoint(database)
    with pytest.raises(sqlite3.IntegrityError):
        await local.put(message(1))  # fails at its COMMIT, as a full disk does
    database.execute("INSERT INTO allowed VALUES (?)", (message(1).subject,))
    await local.put(message(1))
    assert await local.outbox() == [message(1)]
    await local.close()
