"""Statements on a PostgreSQL server, over a few connections that are kept.

The rule: the key is written first, so that a second call with it waits for the first, and gets its answer.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

import psycopg
from psycopg import AsyncConnection, AsyncRawCursor, AsyncRawServerCursor
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from mesh.clock import unix
from mesh.errors import NotSentError, SettingsError, ToolError, ToolRefusedError, UncertainError
from mesh.mounts.secret import hidden, read_secret
from mesh.mounts.work import Rows, Work, rows_of, until

_TABLE = """CREATE TABLE IF NOT EXISTS workmesh_effect (
    key text PRIMARY KEY, digest text NOT NULL, answer text NOT NULL, at timestamptz NOT NULL DEFAULT now())"""
_LIMITS = """SELECT set_config('statement_timeout', $1, true), set_config('lock_timeout', $1, true),
    set_config('idle_in_transaction_session_timeout', $1, true)"""
_CLAIM = "INSERT INTO workmesh_effect (key, digest, answer) VALUES ($1, $2, '') ON CONFLICT DO NOTHING"
_KEPT = "SELECT digest, answer FROM workmesh_effect WHERE key = $1"
_CONNECT_S = 3
# Classes of SQLSTATE (PostgreSQL, appendix A) that are the statement's own fault; all others may pass.
_REFUSED = ("22", "23", "25006", "26", "2B", "42", "44", "0A", "P0")

Connection = AsyncConnection[Any]
Cursor = AsyncRawCursor[Any] | AsyncRawServerCursor[Any]


class Postgres:
    """One database. A connection that failed is thrown away."""

    def __init__(self, conninfo: str, password_file: str, connections: int) -> None:
        self._conninfo = conninfo
        self._password_file = password_file
        self._idle: list[Connection] = []
        self._free = asyncio.Semaphore(connections)
        self._has_table = False

    @classmethod
    @asynccontextmanager
    async def open(cls, conninfo: str, password_file: str, connections: int) -> AsyncIterator[Self]:
        """The database; nothing is connected yet. Raises ``SettingsError`` for a string with a password in it."""
        try:
            if "password" in conninfo_to_dict(conninfo):
                raise SettingsError("a password belongs into a file (password_file), not into the connection string")
        except psycopg.ProgrammingError as error:
            raise SettingsError(f"no connection string: {error}") from error
        database = cls(conninfo, password_file, connections)
        try:
            yield database
        finally:
            for connection in database._idle:
                await connection.close()

    async def read(self, work: Work) -> Rows:
        """Run a statement in a transaction that cannot write."""
        async with self._transaction(work, until(unix() + work.timeout_s), read_only=True) as connection:
            async with AsyncRawServerCursor(
                connection, "workmesh"
            ) as cursor:  # so that no more rows come than are taken
                rows = await _run(cursor, work)
                return rows_of(work.answer(_columns(cursor), rows, 0, effect=False))

    async def write(self, work: Work, key: str, call_by: float) -> Rows:
        """Run a statement once under its key; raises ``NotSentError`` where nothing was committed."""
        await self._make_table(work)
        async with self._transaction(work, until(call_by)) as connection:
            async with AsyncRawCursor(connection) as cursor:
                await cursor.execute(_CLAIM, (key, work.digest))
                if cursor.rowcount == 0:
                    await cursor.execute(_KEPT, (key,))
                    kept = await cursor.fetchone()
                    if kept is None:
                        raise NotSentError(f"the key {key} is under way elsewhere")
                    return work.again(*kept)
                rows = await _run(cursor, work)
                changed = max(cursor.rowcount, 0)
                answer = work.answer(_columns(cursor), rows, changed, effect=True)
                await cursor.execute("UPDATE workmesh_effect SET answer = $2 WHERE key = $1", (key, answer))
            if unix() >= call_by:
                raise NotSentError(f"the time to commit {key} is over")
            await _commit(connection, work, key)
            return rows_of(answer)

    async def find(self, work: Work, key: str) -> Rows | None:
        """The answer under a key, or ``None`` when it was never committed."""
        await self._make_table(work)
        async with self._transaction(work, until(unix() + work.timeout_s), read_only=True) as connection:
            async with AsyncRawCursor(connection) as cursor:
                await cursor.execute(_KEPT, (key,))
                kept = await cursor.fetchone()
                return None if kept is None else work.again(*kept)

    async def _make_table(self, work: Work) -> None:
        if self._has_table:
            return
        async with self._transaction(work, until(unix() + work.timeout_s)) as connection:
            async with AsyncRawCursor(connection) as cursor:
                await cursor.execute("SELECT to_regclass('workmesh_effect') IS NOT NULL")
                if await cursor.fetchone() == (False,):
                    await cursor.execute("SELECT pg_advisory_xact_lock(7301)")  # two at once would collide
                    await cursor.execute(_TABLE)
            await connection.commit()
        self._has_table = True

    @asynccontextmanager
    async def _transaction(self, work: Work, end: float, *, read_only: bool = False) -> AsyncIterator[Connection]:
        """A transaction that the server itself ends at ``end``; undone unless the block commits it."""
        async with self._free:
            connection = self._idle.pop() if self._idle else await self._connect()
            try:
                left = max(1, int((end - unix()) * 1000))
                await connection.set_read_only(read_only)
                async with AsyncRawCursor(connection) as cursor:
                    await cursor.execute(_LIMITS, (str(left),))
                yield connection
                await connection.rollback()
                self._idle.append(connection)
            except psycopg.Error as error:
                await _close(connection)
                self._has_table = self._has_table and getattr(error, "sqlstate", None) != "42P01"
                raise _failed(error, work) from error
            except ToolError as error:
                if isinstance(error, UncertainError):
                    await _close(connection)
                else:
                    await self._undo(connection)
                raise
            except BaseException:
                await _close(connection)
                raise

    async def _undo(self, connection: Connection) -> None:
        try:
            await connection.rollback()
        except psycopg.Error:
            await _close(connection)
        else:
            self._idle.append(connection)

    async def _connect(self) -> Connection:
        password = await asyncio.to_thread(read_secret, self._password_file) if self._password_file else ""
        extra: dict[str, Any] = {"password": password} if password else {}
        conninfo = make_conninfo(self._conninfo, connect_timeout=_CONNECT_S, application_name="workmesh", **extra)
        try:
            return await AsyncConnection.connect(conninfo)
        except psycopg.Error as error:
            raise NotSentError(hidden(f"the database cannot be reached: {error}", password)) from None


async def _run(cursor: Cursor, work: Work) -> list[Any]:
    text, names = work.statement.numbered()
    await cursor.execute(text, [work.values[name] for name in names])
    return await cursor.fetchmany(work.rows_max + 1) if cursor.description else []


async def _commit(connection: Connection, work: Work, key: str) -> None:
    try:
        await connection.commit()
    except psycopg.Error as error:
        if error.sqlstate and not error.sqlstate.startswith(("08", "57")):
            raise _failed(error, work) from error  # a constraint that is looked at last: the server has undone all
        raise UncertainError(f"{key} may or may not be committed: {error}") from error


def _failed(error: psycopg.Error, work: Work) -> ToolError:
    """What a failure before the commit means: nothing was done."""
    state = error.sqlstate or ""
    message = f"{work.tool}: {error.diag.message_primary or error}"
    if state.startswith("23"):
        return ToolRefusedError("constraint", message)
    if state.startswith(_REFUSED):
        return ToolRefusedError("sql_error", message)
    if not state and isinstance(error, psycopg.ProgrammingError | psycopg.DataError):
        return ToolRefusedError("sql_error", message)
    return NotSentError(message)


async def _close(connection: Connection) -> None:
    with suppress(psycopg.Error):
        await connection.close()


def _columns(cursor: Cursor) -> tuple[str, ...]:
    return tuple(column.name for column in cursor.description or ())
