"""A process's local checkpoint: one SQLite file that survives its death (outbox, dispatched effects, snapshots).

The rule: what was put is on disk before ``put`` returns. The file is the process's own; losing it loses no truth,
only the knowledge that an effect was certainly not sent.
"""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from mesh.journal import Message

T = TypeVar("T")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS outbox (subject TEXT PRIMARY KEY, data BLOB NOT NULL, expected INTEGER);
CREATE TABLE IF NOT EXISTS dispatched (key TEXT NOT NULL, epoch INTEGER NOT NULL, PRIMARY KEY (key, epoch));
CREATE TABLE IF NOT EXISTS snapshot (name TEXT PRIMARY KEY, data BLOB NOT NULL);
"""


def open_database(path: Path, schema: str, *, full_sync: bool = False) -> sqlite3.Connection:
    """A SQLite database in WAL mode with this schema, readable by its owner only.

    ``full_sync`` is for truth; what can be rebuilt from a stream does without.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute(f"PRAGMA synchronous={'FULL' if full_sync else 'NORMAL'}")
    database.execute("PRAGMA busy_timeout=5000")
    database.executescript(schema)
    return database


class Checkpoint:
    """The local checkpoint. Writes that are ready together share one transaction and one sync to disk."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: list[tuple[str, tuple[Any, ...], asyncio.Future[None] | None]] = []
        self._flushing: asyncio.Task[None] | None = None

    async def put(self, message: Message) -> None:
        """Keep a message that is to be committed to the bus, until ``drop``."""
        await self._write(
            "INSERT OR REPLACE INTO outbox VALUES (?, ?, ?)", (message.subject, message.data, message.expected)
        )

    def drop(self, subject: str) -> None:
        """Forget a message that is committed; written with the next transaction, since a repeat does no harm."""
        self._pending.append(("DELETE FROM outbox WHERE subject = ?", (subject,), None))

    def drop_dispatched(self, key: str) -> None:
        """Forget that a call was dispatched: its result is on the bus."""
        self._pending.append(("DELETE FROM dispatched WHERE key = ?", (key,), None))

    async def outbox(self) -> list[Message]:
        """What is kept and not yet known to be committed, oldest first."""
        rows = await self._read("SELECT subject, data, expected FROM outbox ORDER BY rowid")
        return [Message(subject, data, expected) for subject, data, expected in rows]

    async def dispatch(self, key: str, epoch: int) -> None:
        """Note that a call is about to leave: without this note it certainly did not."""
        await self._write("INSERT OR IGNORE INTO dispatched VALUES (?, ?)", (key, epoch))

    async def was_dispatched(self, key: str, epoch: int) -> bool:
        """Whether this process may have sent the call."""
        return bool(await self._read("SELECT 1 FROM dispatched WHERE key = ? AND epoch = ?", (key, epoch)))

    async def save(self, name: str, data: bytes) -> None:
        """Keep a snapshot of something cached."""
        await self._write("INSERT OR REPLACE INTO snapshot VALUES (?, ?)", (name, data))

    async def load(self, name: str) -> bytes | None:
        """The snapshot of this name, or ``None``."""
        rows = await self._read("SELECT data FROM snapshot WHERE name = ?", (name,))
        return rows[0][0] if rows else None

    async def close(self) -> None:
        """Write what is pending and close the file."""
        if self._flushing is not None:
            await self._flushing
        if self._pending:
            await self._flush()
        self._thread.shutdown(wait=True)
        self._database.close()

    async def _write(self, sql: str, values: tuple[Any, ...]) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((sql, values, done))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush(), name="checkpoint-flush")
        await done

    async def _flush(self) -> None:
        while self._pending:
            pending, self._pending = self._pending, []
            try:
                await self._in_thread(partial(self._transact, pending))
            except Exception as error:  # noqa: BLE001 - whoever waits must be told, whatever it was
                for _, _, done in pending:
                    if done is not None and not done.done():
                        done.set_exception(error)
            else:
                for _, _, done in pending:
                    if done is not None and not done.done():
                        done.set_result(None)

    def _transact(self, pending: list[tuple[str, tuple[Any, ...], asyncio.Future[None] | None]]) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            for sql, values, _ in pending:
                self._database.execute(sql, values)
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    async def _read(self, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        return await self._in_thread(lambda: self._database.execute(sql, values).fetchall())

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


@asynccontextmanager
async def checkpoint(path: Path) -> AsyncIterator[Checkpoint]:
    """The checkpoint in this file, fully synced to disk at each write."""
    opened = Checkpoint(open_database(path, _SCHEMA, full_sync=True))
    try:
        yield opened
    finally:
        await opened.close()
