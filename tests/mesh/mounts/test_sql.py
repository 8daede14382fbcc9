"""SQL statements as tools, on SQLite and PostgreSQL alike: once under a key, and never another text."""

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from mesh.errors import NotSentError, SettingsError, ToolRefusedError
from mesh.mounts.folder import read_mount
from mesh.mounts.statement import parse
from tests.mesh.mounts.mounting import Mounted, mounted, write
from tests.mesh.mounts.postgres_server import PostgresServer

ITEM = {"type": "string", "maxLength": 40}
COUNT = {"type": "integer", "minimum": 1, "maximum": 1000}
RESERVE = {
    "tool": "stock.reserve",
    "statement": "UPDATE stock SET free = free - :count WHERE item = :item AND free >= :count RETURNING item, free",
    "parameters": {"item": ITEM, "count": COUNT},
    "changes": 1,
    "timeout_s": 4,
}
TOOLS: list[Mapping[str, Any]] = [
    RESERVE,
    {
        "tool": "stock.add",
        "statement": "INSERT INTO stock VALUES (:item, :count)",
        "parameters": {"item": ITEM, "count": COUNT},
    },
    {
        "tool": "stock.free",
        "statement": "SELECT item, free FROM stock WHERE item >= :item ORDER BY item",
        "parameters": {"item": ITEM},
        "read_only": True,
        "rows_max": 2,
    },
]


@dataclass
class Stock:
    """A database with a table of stock, as its owner sees it."""

    content: dict[str, Any]
    postgres: PostgresServer | None
    path: Path

    def run(self, command: str) -> list[str]:
        """Run a command, as another program would; its rows, columns joined with ``|``."""
        if self.postgres is not None:
            return self.postgres.psql(command).splitlines()
        with closing(sqlite3.connect(self.path)) as database, database:
            return ["|".join(str(part) for part in row) for row in database.execute(command).fetchall()]

    @asynccontextmanager
    async def mount(self, tools: list[Mapping[str, Any]] = TOOLS) -> AsyncIterator[Mounted]:
        """Its tools."""
        async with mounted(write(self.path.parent / "mounts", "stock", {**self.content, "tools": tools})) as found:
            yield found


@pytest.fixture(params=["sqlite", "postgres"])
def stock(request: pytest.FixtureRequest, tmp_path: Path) -> Stock:
    """The stock in each engine, with five nuts and some others."""
    path = tmp_path / "stock.db"
    content: dict[str, Any] = {"kind": "sql", "target": "stock", "engine": request.param, "database": str(path)}
    server: PostgresServer | None = None
    if request.param == "postgres":
        server = request.getfixturevalue("postgres")
        assert server is not None
        content |= {"database": server.conninfo, "password_file": server.password_file}
    else:
        path.touch()
    found = Stock(content, server, path)
    for command in ("DROP TABLE IF EXISTS stock", "DROP TABLE IF EXISTS workmesh_effect"):
        found.run(command)
    found.run("CREATE TABLE stock (item VARCHAR(40) PRIMARY KEY, free INTEGER NOT NULL CHECK (free >= 0))")
    found.run("INSERT INTO stock VALUES ('bolt', 7), ('nut', 5), ('pin', 1), ('rod', 2)")
    return found


async def test_an_effect_happens_once_under_its_key_however_often_and_at_once_it_is_asked_for(stock: Stock) -> None:
    async with stock.mount() as box:
        answers = await asyncio.gather(*(box.call("stock.reserve", "wm-t-r", item="nut", count=2) for _ in range(8)))
        assert {str(answer) for answer in answers} == {
            str({"rows": [{"item": "nut", "free": 3}], "changed": 1, "more": False})
        }
        assert await box.verify("stock.reserve", "wm-t-r", item="nut", count=2) == answers[0]
        assert await box.verify("stock.reserve", "wm-t-other", item="nut", count=2) is None
    assert stock.run("SELECT free FROM stock WHERE item = 'nut'") == ["3"]
    assert stock.run("SELECT count(*) FROM workmesh_effect") == ["1"]


async def test_a_key_stands_for_one_thing_only(stock: Stock) -> None:
    async with stock.mount() as box:
        await box.call("stock.reserve", "wm-t-r", item="nut", count=2)
        with pytest.raises(ToolRefusedError) as caught:
            await box.call("stock.reserve", "wm-t-r", item="nut", count=3)
    assert caught.value.code == "key_used" and stock.run("SELECT free FROM stock WHERE item = 'nut'") == ["3"]


async def test_an_effect_that_changes_another_number_of_rows_is_undone_with_its_key(stock: Stock) -> None:
    async with stock.mount() as box:
        with pytest.raises(ToolRefusedError, match="would change 0 rows, not 1"):
            await box.call("stock.reserve", "wm-t-r", item="nut", count=6)
        assert await box.verify("stock.reserve", "wm-t-r", item="nut", count=6) is None
        wide = {**RESERVE, "statement": "UPDATE stock SET free = free - :count WHERE item >= :item AND free > 0"}
    async with stock.mount([wide]) as box:
        with pytest.raises(ToolRefusedError, match="would change 3 rows"):
            await box.call("stock.reserve", "wm-t-w", item="nut", count=1)
    assert stock.run("SELECT free FROM stock ORDER BY item") == ["7", "5", "1", "2"]


async def test_what_a_constraint_forbids_is_refused_and_leaves_no_key(stock: Stock) -> None:
    async with stock.mount() as box:
        with pytest.raises(ToolRefusedError) as caught:
            await box.call("stock.add", "wm-t-a", item="nut", count=1)
        assert caught.value.code == "constraint"
        await box.call("stock.add", "wm-t-a", item="cog", count=1)
    assert stock.run("SELECT key FROM workmesh_effect") == ["wm-t-a"]


async def test_a_read_answers_so_many_rows_and_says_that_there_are_more(stock: Stock) -> None:
    async with stock.mount() as box:
        found = await box.call("stock.free", item="a")
        assert [row["item"] for row in found["rows"]] == ["bolt", "nut"] and found["more"]
        assert not (await box.call("stock.free", item="pin"))["more"]


@pytest.mark.parametrize("text", ["nut'; DROP TABLE stock; --", "%s", ":count", "$1", "nut' OR '1'='1"])
async def test_a_value_is_never_a_part_of_the_statement(stock: Stock, text: str) -> None:
    async with stock.mount() as box:
        await box.call("stock.add", item=text, count=3)
        found = await box.call("stock.free", item=text)
    assert {"item": text, "free": 3} in found["rows"] and len(stock.run("SELECT item FROM stock")) == 5


async def test_a_statement_that_reads_cannot_write(stock: Stock) -> None:
    sneaky = "WITH gone AS (SELECT 1) SELECT * FROM gone"
    async with stock.mount([{"tool": "stock.look", "statement": sneaky, "read_only": True}]) as box:
        assert (await box.call("stock.look"))["rows"] == [{"1" if stock.postgres is None else "?column?": 1}]
    if stock.postgres is not None:
        stock.run(
            "CREATE OR REPLACE FUNCTION steal() RETURNS int AS 'UPDATE stock SET free = 0; SELECT 1' LANGUAGE sql"
        )
        async with stock.mount([{"tool": "stock.look", "statement": "SELECT steal()", "read_only": True}]) as box:
            with pytest.raises(ToolRefusedError, match="read-only"):
                await box.call("stock.look")
    assert stock.run("SELECT free FROM stock WHERE item = 'nut'") == ["5"]


async def test_a_lock_that_is_held_too_long_means_that_nothing_was_done(stock: Stock) -> None:
    brief = {**RESERVE, "timeout_s": 0.5, "attempts": 1}
    async with stock.mount([brief]) as box:
        await box.call("stock.reserve", "wm-t-1", item="nut", count=1)
        async with locked(stock):
            with pytest.raises(NotSentError):
                await box.call("stock.reserve", "wm-t-2", item="nut", count=1, in_s=0.4)
        assert await box.verify("stock.reserve", "wm-t-2", item="nut", count=1) is None
        await box.call("stock.reserve", "wm-t-2", item="nut", count=1)
    assert stock.run("SELECT free FROM stock WHERE item = 'nut'") == ["3"]


@asynccontextmanager
async def locked(stock: Stock) -> AsyncIterator[None]:
    """Somebody else holds the row of nuts."""
    if stock.postgres is None:
        with closing(sqlite3.connect(stock.path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            yield
        return
    conninfo = f"{stock.postgres.conninfo} password=s3cr3t"
    async with await psycopg.AsyncConnection.connect(conninfo) as connection:
        await connection.execute("SELECT free FROM stock WHERE item = 'nut' FOR UPDATE")
        yield


KILLED = """
import asyncio, os, sys
from pathlib import Path
from tests.mesh.mounts.mounting import mounted

async def main():
    async with mounted(Path(sys.argv[1])) as box:
        calls = (box.call("stock.reserve", key, item="nut", count=1) for key in sys.argv[2:])
        await asyncio.gather(*calls)
        os.kill(os.getpid(), 9)

asyncio.run(main())
"""


async def test_a_process_that_is_killed_between_commit_and_record_has_done_it_once(stock: Stock) -> None:
    path = write(stock.path.parent / "mounts", "stock", {**stock.content, "tools": TOOLS})
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    keys = [f"wm-t{n}-r" for n in range(3)]
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, str(path), *keys, env=env)
    assert await process.wait() == -signal.SIGKILL
    async with stock.mount() as box:  # who comes next has no record of it, and asks or calls again
        for key in keys:
            found = await box.verify("stock.reserve", key, item="nut", count=1)
            again = await box.call("stock.reserve", key, epoch=2, item="nut", count=1)
            assert found == again
    assert stock.run("SELECT free FROM stock WHERE item = 'nut'") == ["2"]
    assert stock.run("SELECT count(*) FROM workmesh_effect") == ["3"]


async def test_a_server_that_is_away_was_sent_nothing(tmp_path: Path) -> None:
    content = {"kind": "sql", "target": "stock", "engine": "sqlite", "database": str(tmp_path / "none.db")}
    async with mounted(write(tmp_path, "stock", {**content, "tools": TOOLS})) as box:
        with pytest.raises(NotSentError, match="cannot be opened"):
            await box.call("stock.reserve", item="nut", count=1)
    assert not (tmp_path / "none.db").exists()
    away = {**content, "engine": "postgres", "database": f"host={tmp_path} user=postgres"}
    async with mounted(write(tmp_path, "stock", {**away, "tools": TOOLS})) as box:
        with pytest.raises(NotSentError, match="cannot be reached"):
            await box.call("stock.reserve", item="nut", count=1)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
async def test_connections_are_made_anew_after_the_server_was_away(
    postgres: PostgresServer, tmp_path: Path, how: signal.Signals
) -> None:
    postgres.psql("DROP TABLE IF EXISTS stock; CREATE TABLE stock (item text PRIMARY KEY, free int)")
    postgres.psql("INSERT INTO stock VALUES ('nut', 5)")
    content = {"kind": "sql", "target": "stock", "engine": "postgres", "database": postgres.conninfo}
    content |= {"password_file": postgres.password_file}
    key = f"wm-{tmp_path.name}"
    async with mounted(write(tmp_path, "stock", {**content, "tools": TOOLS})) as box:
        first = await box.call("stock.reserve", key, item="nut", count=1)
        await asyncio.to_thread(postgres.stop, how)
        with pytest.raises(NotSentError):
            await box.call("stock.reserve", f"{key}-2", item="nut", count=1)
        await asyncio.to_thread(postgres.start)
        assert await box.call("stock.reserve", key, epoch=2, item="nut", count=1) == first
        await box.call("stock.reserve", f"{key}-2", item="nut", count=1)
    assert postgres.psql("SELECT free FROM stock") == "3"


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1; DELETE FROM stock",
        "DELETE FROM stock WHERE item = :item -- all of them",
        "DELETE FROM stock /* */ WHERE item = :item",
        "COMMIT",
        "BEGIN",
        "PRAGMA writable_schema = 1",
        "ATTACH 'x' AS y",
        "DROP TABLE stock",
        "COPY stock TO PROGRAM 'id'",
        "DELETE FROM stock WHERE item = $$x$$",
        "DELETE FROM stock WHERE item = E'\\''",
        "DELETE FROM stock WHERE item = ?",
        "DELETE FROM workmesh_effect WHERE key = :item",
        "DELETE FROM stock WHERE item = 'x",
        "",
    ],
)
def test_what_is_not_one_plain_command_is_no_statement(statement: str) -> None:
    with pytest.raises(SettingsError, match=r"stock\.x"):
        parse("stock.x", statement, read_only=False)


@pytest.mark.parametrize(
    "statement", ["DELETE FROM stock", "WITH x AS (DELETE FROM stock RETURNING *) SELECT * FROM x"]
)
def test_what_writes_is_not_for_reading(statement: str) -> None:
    with pytest.raises(SettingsError, match=r"stock\.x"):
        parse("stock.x", statement, read_only=True)


def test_names_within_texts_casts_and_identifiers_are_no_parameters() -> None:
    found = parse("x", "SELECT ':a', \":b\", c::text FROM t WHERE d = :d AND e = :e AND f = :d;", read_only=True)
    assert found.names == ("d", "e", "d")
    text, order = found.numbered()
    assert order == ("d", "e")
    assert text == "SELECT ':a', \":b\", c::text FROM t WHERE d = $1 AND e = $2 AND f = $1"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"parameters": {"item": ITEM}}, "differ in count"),
        ({"parameters": {"item": ITEM, "count": COUNT, "more": ITEM}}, "differ in more"),
        ({"parameters": {"item": {"type": "strange"}, "count": COUNT}}, "no JSON Schema"),
        ({"cache_s": 5}, "never cached"),
    ],
)
def test_a_declaration_that_does_not_fit_its_statement_stops_the_start(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    content = {"kind": "sql", "target": "stock", "engine": "sqlite", "database": "x", "tools": [{**RESERVE, **change}]}
    path = write(tmp_path, "stock", content)
    with pytest.raises(SettingsError, match=words):
        read_mount(path, {}).tools()


async def test_a_password_stands_in_no_mount(tmp_path: Path) -> None:
    content = {
        "kind": "sql",
        "target": "stock",
        "engine": "postgres",
        "database": "host=/x password=hush",
        "tools": TOOLS,
    }
    mount = read_mount(write(tmp_path, "stock", content), {})
    with pytest.raises(SettingsError, match="password_file"):
        async with mount.open():
            pass
