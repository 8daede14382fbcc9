"""Statements on a SQLite file, each in a thread and a connection of its own.

The rule: a statement that reads cannot write; one that writes commits its key with its change, not after its deadline.
"""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from mesh.clock import unix
from mesh.errors import NotSentError, ToolError, ToolRefusedError, UncertainError
from mesh.mounts.work import Rows, Work, rows_of, until

_TABLE = """CREATE TABLE IF NOT EXISTS workmesh_effect (
    key TEXT PRIMARY KEY, digest TEXT NOT NULL, answer TEXT NOT NULL, at REAL NOT NULL)"""
_STEPS = 2000  # virtual machine instructions between looks at the clock
_DENIED = {sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH, sqlite3.SQLITE_PRAGMA, sqlite3.SQLITE_TRANSACTION}


class Sqlite:
    """One database file."""

    def __init__(self, path: str) -> None:
        self._path = Path(path).expanduser()

    async def read(self, work: Work) -> Rows:
        """Run a statement on a connection that cannot write."""
        return await asyncio.to_thread(self._read, work)

    async def write(self, work: Work, key: str, call_by: float) -> Rows:
        """Run a statement once under its key; raises ``NotSentError`` where nothing was committed."""
        return await asyncio.to_thread(self._write, work, key, until(call_by))

    async def find(self, work: Work, key: str) -> Rows | None:
        """The answer under a key, or ``None`` when it was never committed."""
        return await asyncio.to_thread(self._find, work, key)

    def _read(self, work: Work) -> Rows:
        with self._open("ro", until(unix() + work.timeout_s)) as database, _refusing(work):
            database.execute("PRAGMA query_only = ON")
            with _guarded(database):
                cursor = database.execute(work.statement.text, work.values)
                rows = cursor.fetchmany(work.rows_max + 1)
            return rows_of(work.answer(_columns(cursor), rows, 0, effect=False))

    def _write(self, work: Work, key: str, end: float) -> Rows:
        with self._open("rw", end) as database:
            with _refusing(work):
                database.execute("PRAGMA synchronous = FULL")
                database.execute("BEGIN IMMEDIATE")
                database.execute(_TABLE)
                if (kept := _kept(database, key)) is not None:
                    database.execute("ROLLBACK")
                    return work.again(*kept)
                before = database.total_changes
                with _guarded(database):
                    cursor = database.execute(work.statement.text, work.values)
                    rows = cursor.fetchmany(work.rows_max + 1)
                    columns = _columns(cursor)
                    # A statement that begins with WITH has no count of its own.
                    changed = cursor.rowcount if cursor.rowcount >= 0 else database.total_changes - before
                    cursor.close()
                answer = work.answer(columns, rows, changed, effect=True)
                database.execute("INSERT INTO workmesh_effect VALUES (?, ?, ?, ?)", (key, work.digest, answer, unix()))
                if unix() >= end:
                    raise NotSentError(f"the time to commit {key} is over")
            database.set_progress_handler(None, 0)  # a commit is not interrupted half way
            try:
                database.execute("COMMIT")
            except sqlite3.Error as error:
                if database.in_transaction:  # it waits for readers: closing undoes it
                    raise NotSentError(f"{key} was not committed: {error}") from error
                raise UncertainError(f"{key} may or may not be committed: {error}") from error
            return rows_of(answer)

    def _find(self, work: Work, key: str) -> Rows | None:
        with self._open("ro", until(unix() + work.timeout_s)) as database, _refusing(work):
            known = database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'workmesh_effect'").fetchone()
            kept = _kept(database, key) if known else None
            return None if kept is None else work.again(*kept)

    @contextmanager
    def _open(self, mode: str, end: float) -> Iterator[sqlite3.Connection]:
        """A connection that gives up at ``end``; whatever it has not committed by then is undone."""
        left = end - unix()
        if left <= 0:
            raise NotSentError(f"the time to ask {self._path.name} is over")
        try:
            database = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=left
            )
        except sqlite3.Error as error:
            raise NotSentError(f"{self._path.name} cannot be opened: {error}") from error
        with closing(database):
            database.set_progress_handler(lambda: unix() >= end, _STEPS)
            yield database


@contextmanager
def _refusing(work: Work) -> Iterator[None]:
    """What a failure before the commit means: nothing was done, and closing the connection makes sure of it."""
    try:
        yield
    except ToolError:
        raise
    except sqlite3.OperationalError as error:
        code = error.sqlite_errorcode & 0xFF if hasattr(error, "sqlite_errorcode") else sqlite3.SQLITE_ERROR
        if code in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_READONLY):
            raise ToolRefusedError("sql_error", f"{work.tool}: {error}") from error
        raise NotSentError(f"{work.tool} was not done: {error}") from error
    except sqlite3.IntegrityError as error:
        raise ToolRefusedError("constraint", f"{work.tool}: {error}") from error
    except (sqlite3.Error, OverflowError) as error:
        raise ToolRefusedError("sql_error", f"{work.tool}: {error}") from error


@contextmanager
def _guarded(database: sqlite3.Connection) -> Iterator[None]:
    """While the statement runs it can open no other file, change no setting and end no transaction."""

    def allow(action: int, *names: str | None) -> int:
        if action in _DENIED or "workmesh_effect" in names:
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK

    database.set_authorizer(allow)
    try:
        yield
    finally:
        with suppress(sqlite3.Error):
            database.set_authorizer(None)


def _kept(database: sqlite3.Connection, key: str) -> tuple[str, str] | None:
    row: tuple[str, str] | None = database.execute(
        "SELECT digest, answer FROM workmesh_effect WHERE key = ?", (key,)
    ).fetchone()
    return row


def _columns(cursor: sqlite3.Cursor) -> tuple[str, ...]:
    return tuple(column[0] for column in cursor.description or ())
