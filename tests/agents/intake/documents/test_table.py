"""An outbox table behind a high-water mark: nothing lost over restarts, late rows found; SQLite and PostgreSQL."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import msgspec
import psycopg
import pytest

from agents.intake.arrival import Arrival
from agents.intake.documents.table import poll_table
from mesh.errors import RetryableError
from mesh.lifetime import background
from mesh.sources import Table
from tests.ledger_pack.running import until
from tests.mesh.mounts.postgres_server import PASSWORD, PostgresServer, postgres_server

Run = Callable[[str], None]


class Marks:
    """Marks in memory."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def get(self, name: str) -> bytes | None:
        """The mark of this name."""
        return self.values.get(name)

    async def put(self, name: str, value: bytes) -> None:
        """Set it."""
        self.values[name] = value


class Taker:
    """Takes rows; ``fails_at`` is away when that row comes."""

    def __init__(self) -> None:
        self.found: list[Arrival] = []
        self.fails_at = 0

    async def __call__(self, arrival: Arrival) -> None:
        if msgspec.json.decode(arrival.data)["id"] == self.fails_at:
            raise RetryableError("away")
        self.found.append(arrival)

    @property
    def ids(self) -> list[int]:
        """The ids of the rows, in the order they were taken."""
        return [msgspec.json.decode(arrival.data)["id"] for arrival in self.found]

    async def has(self, *ids: int) -> None:
        """Wait until these are the rows that were taken."""

        async def is_so() -> bool:
            return self.ids == list(ids)

        await until(is_so)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL server."""
    with postgres_server() as found:
        yield found


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Run]]:
    """An outbox: what the settings call it, and how to write to it."""
    table = "CREATE TABLE outbox (id INTEGER PRIMARY KEY, kind TEXT, at TIMESTAMP, amount NUMERIC(10, 2))"
    if request.param == "sqlite":
        path = tmp_path / "erp.db"

        def run(statement: str) -> None:
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.execute(statement)

        run(table)
        yield str(path), run
        return
    conninfo = f"{request.getfixturevalue('server').conninfo} password={PASSWORD}"
    secret = tmp_path / "erp"
    secret.write_text(f"{conninfo}\n", encoding="utf-8")

    def execute(statement: str) -> None:
        with psycopg.connect(conninfo) as connection:
            connection.execute(statement.encode())

    execute(table)
    yield str(secret), execute
    execute("DROP TABLE outbox")


def insert(*ids: int) -> str:
    rows = ", ".join(f"({each}, 'order', '2026-01-02 03:04:05', 12.5)" for each in ids)
    return f"INSERT INTO outbox VALUES {rows}"


@asynccontextmanager
async def polled(database: str, taker: Taker, marks: Marks, overlap: int = 3) -> AsyncIterator[None]:
    setting = Table(mapping="m.yaml", database=database, table="outbox", overlap=overlap, poll_s=0.05)
    async with background(poll_table("erp", setting, taker, marks), "poll"):
        yield


async def test_rows_are_taken_in_order_and_not_again_after_a_restart(database: tuple[str, Run]) -> None:
    name, run = database
    marks, taker = Marks(), Taker()
    run(insert(1, 2, 3))
    async with polled(name, taker, marks):
        await taker.has(1, 2, 3)
        run(insert(4, 6))
        await taker.has(1, 2, 3, 4, 6)
        run(insert(5))  # a transaction that began earlier and ended later
        await taker.has(1, 2, 3, 4, 6, 5)
    assert taker.found[0].key == "outbox:1"
    row = msgspec.json.decode(taker.found[0].data)
    assert (row["kind"], float(row["amount"]), row["at"][:10]) == ("order", 12.5, "2026-01-02")
    run(insert(7, 8))
    after = Taker()
    async with polled(name, after, marks):
        await after.has(4, 5, 6, 7, 8)  # the last of before are known again by their keys
    async with polled(name, after := Taker(), marks, overlap=0):
        run(insert(9))
        await after.has(9)


async def test_a_row_that_cannot_be_taken_stays_and_so_does_what_follows(database: tuple[str, Run]) -> None:
    name, run = database
    marks, taker = Marks(), Taker()
    taker.fails_at = 2
    run(insert(1, 2, 3))
    async with polled(name, taker, marks):

        async def has_tried() -> bool:
            return taker.ids.count(1) >= 2

        await until(has_tried)
        assert set(taker.ids) == {1}
        taker.fails_at = 0

        async def has_all() -> bool:
            return taker.ids[-3:] == [1, 2, 3]

        await until(has_all)


async def test_a_table_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "later.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE other (id INTEGER)")
    taker = Taker()
    async with polled(str(path), taker, Marks()):
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("CREATE TABLE outbox (id INTEGER PRIMARY KEY)")
            connection.execute("INSERT INTO outbox VALUES (1)")
        await taker.has(1)


async def test_many_rows_are_read_by_the_page(tmp_path: Path) -> None:
    path = tmp_path / "many.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE outbox (id INTEGER PRIMARY KEY)")
        connection.executemany("INSERT INTO outbox VALUES (?)", [(number,) for number in range(1, 1801)])
    taker = Taker()
    async with polled(str(path), taker, Marks()):
        await taker.has(*range(1, 1801))
