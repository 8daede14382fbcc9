"""A table that rows are added to, such as an outbox, read behind a high-water mark.

The rule: the mark moves when the rows before it are durable; rows that become visible late, behind the mark, are still
found, as long as they are among the last ``overlap``.
"""

import asyncio
import base64
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import psycopg
import structlog
from psycopg.rows import dict_row

from agents.intake.arrival import Arrival, Marks, Take
from agents.intake.documents.rows import ROW
from mesh.clock import now
from mesh.errors import BusUnavailableError, RetryableError, SettingsError
from mesh.sources import Table

log = structlog.get_logger(__name__)

_PAGE = 500
_ERROR_WAIT_S = 5.0
_SQLITE = b"SQLite format 3\x00"
_TIMEOUT_S = 10

Row = Mapping[str, Any]


class _TableError(Exception):
    """The database could not be read."""


async def poll_table(name: str, setting: Table, take: Take, marks: Marks) -> None:
    """Take the rows of a table until cancelled."""
    taken: set[str] = set()
    mark: Any = None
    is_known = False
    while True:
        try:
            if not is_known:
                stored = await marks.get(name)
                mark = msgspec.json.decode(stored) if stored else None
                is_known = True
            mark, taken = await _pass(name, setting, take, marks, mark, taken)
        except (_TableError, RetryableError, BusUnavailableError) as error:
            log.warning("table_not_read", source=name, reason=str(error))
            await asyncio.sleep(min(_ERROR_WAIT_S, setting.poll_s))
        await asyncio.sleep(setting.poll_s)


async def _pass(
    name: str, setting: Table, take: Take, marks: Marks, mark: Any, taken: set[str]
) -> tuple[Any, set[str]]:
    """Take what is new since the mark, and what has become visible before it; the new mark, and what was taken."""
    since = None if mark is None else await asyncio.to_thread(_overlap_start, setting, mark)
    seen: set[str] = set()
    after = since
    while rows := await asyncio.to_thread(_rows, setting, after):
        for row in rows:
            plain = {column: _plain(value) for column, value in row.items()}
            key = f"{setting.table}:{plain[setting.mark]}"
            seen.add(key)
            if key not in taken:
                await take(_arrival(name, key, plain))
        after = _plain(rows[-1][setting.mark])
        if mark is None or _is_later(after, mark):
            mark = after
            await marks.put(name, msgspec.json.encode(mark))
    return mark, seen


def _arrival(name: str, key: str, plain: Mapping[str, Any]) -> Arrival:
    return Arrival(source=name, key=key, data=msgspec.json.encode(plain), content_type=ROW, received_at=now())


def _is_later(one: Any, other: Any) -> bool:
    try:
        return bool(one > other)
    except TypeError:
        return True


def _overlap_start(setting: Table, mark: Any) -> Any:
    """The mark of the row that is ``overlap`` rows before this one; ``None`` where there are not so many."""
    column, table = setting.mark, setting.table
    query = f"SELECT {column} FROM {table} WHERE {column} <= ? ORDER BY {column} DESC LIMIT 1 OFFSET ?"
    rows = _query(setting, query, (mark, setting.overlap))
    return _plain(rows[0][column]) if rows else None


def _rows(setting: Table, after: Any) -> Sequence[Row]:
    column, table = setting.mark, setting.table
    if after is None:
        return _query(setting, f"SELECT * FROM {table} ORDER BY {column} LIMIT ?", (_PAGE,))
    query = f"SELECT * FROM {table} WHERE {column} > ? ORDER BY {column} LIMIT ?"
    return _query(setting, query, (after, _PAGE))


def _query(setting: Table, query: str, values: Sequence[Any]) -> Sequence[Row]:
    """Run a query that only reads; raises ``_TableError``."""
    url = _address(setting.database)
    try:
        if url:
            with psycopg.connect(url, connect_timeout=_TIMEOUT_S, row_factory=dict_row) as connection:
                connection.read_only = True
                return connection.execute(query.replace("?", "%s").encode(), values).fetchall()
        with closing(sqlite3.connect(f"file:{setting.database}?mode=ro", uri=True, timeout=_TIMEOUT_S)) as database:
            database.row_factory = sqlite3.Row
            database.text_factory = _text  # one row that is no UTF-8 must not hold up those behind it
            return [dict(row) for row in database.execute(query, values)]
    except (sqlite3.Error, psycopg.Error) as error:
        raise _TableError(f"{setting.table}: {str(error).splitlines()[0]}") from error


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def _address(database: str) -> str:
    """The address (URL or key words of libpq) of a PostgreSQL database that a file holds; "" for a SQLite file."""
    path = Path(database)
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise SettingsError(f"the database {database} cannot be opened: {error.strerror}") from error
    return "" if not head or head.startswith(_SQLITE) else head.decode("utf-8", "replace").strip()


def _plain(value: Any) -> Any:
    """A value of a column as JSON has it."""
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return _plain_text(value)
        case Decimal():
            return str(value)
        case datetime() | date() | time():
            return value.isoformat()
        case UUID():
            return str(value)
        case bytes() | memoryview():
            return _text_or_base64(bytes(value))
        case dict():
            return {_plain_text(str(name)): _plain(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
    return _plain_text(str(value))


def _text_or_base64(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return base64.b64encode(data).decode()


def _plain_text(text: str) -> str:
    """Text without halves of surrogate pairs, which JSON of a database can hold, and no other JSON may."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
