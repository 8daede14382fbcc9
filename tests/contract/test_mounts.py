"""What every mount keeps, whatever its target: one suite for MCP, OpenAPI, SQL on both engines, and mail."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from mesh.errors import NotSentError, SettingsError, ToolRefusedError
from mesh.mounts.folder import read_mount, read_mounts, tools_of
from mesh.mounts.review import accept
from mesh.ports import free_port
from mesh.tools import Recovery
from tests.mesh.mounts.billing import BODY, CREATE, Billing, mount_file
from tests.mesh.mounts.mounting import PAYING, Hostile, Mounted, mounted, write
from tests.mesh.mounts.postgres_server import PostgresServer, postgres_server
from tests.mesh.mounts.test_smtp import LETTER, Inbox


@dataclass
class Target:
    """A target with one tool that has an effect: how it is called, how often it took effect, and how it is away."""

    path: Path
    tool: str
    args: dict[str, Any]
    effects: Callable[[], int]
    up: Callable[[], AbstractAsyncContextManager[None]]
    away: dict[str, Any] = field(default_factory=dict)

    @asynccontextmanager
    async def mounted(self) -> AsyncIterator[Mounted]:
        """Its mount, while it is up."""
        async with self.up(), mounted(self.path) as box:
            yield box


@asynccontextmanager
async def always() -> AsyncIterator[None]:
    """A target that needs nothing to be up."""
    yield


def _mcp(folder: Path, request: pytest.FixtureRequest) -> Target:
    server = Hostile(folder)
    server.behave()

    @asynccontextmanager
    async def up() -> AsyncIterator[None]:
        server.behave()
        yield
        server.behave(start="fail")

    more = {"timeout_s": 5, "attempts": 1}
    return Target(
        server.file({**PAYING, **more}), "bank.pay", {"account": "a", "cents": 5}, lambda: len(server.done), up
    )


def _openapi(folder: Path, request: pytest.FixtureRequest) -> Target:
    billing = Billing()
    path = mount_file(folder, billing, tools=[CREATE])
    return Target(path, "billing.create", {"body": BODY}, lambda: len(billing.invoices), billing.serving)


_INSERT = {
    "tool": "stock.add",
    "statement": "INSERT INTO stock VALUES (:item)",
    "parameters": {"item": {"type": "string"}},
    "attempts": 1,
}


def _sqlite(folder: Path, request: pytest.FixtureRequest) -> Target:
    database, hidden = folder / "stock.db", folder / "away.db"

    def run(command: str) -> list[Any]:
        with closing(sqlite3.connect(database if database.exists() else hidden)) as opened, opened:
            return opened.execute(command).fetchall()

    @asynccontextmanager
    async def up() -> AsyncIterator[None]:
        hidden.rename(database)
        yield
        database.rename(hidden)

    run("CREATE TABLE stock (item TEXT)")
    content = {"kind": "sql", "target": "stock", "engine": "sqlite", "database": str(database), "tools": [_INSERT]}
    effects = lambda: int(run("SELECT count(*) FROM stock")[0][0])  # noqa: E731
    return Target(write(folder, "stock", content), "stock.add", {"item": "nut"}, effects, up)


def _postgres(folder: Path, request: pytest.FixtureRequest) -> Target:
    server: PostgresServer = request.getfixturevalue("cluster")
    counted = [0]

    @asynccontextmanager
    async def up() -> AsyncIterator[None]:
        await asyncio.to_thread(server.start)
        server.psql("DROP TABLE IF EXISTS workmesh_effect")
        server.psql("CREATE TABLE IF NOT EXISTS stock (item TEXT); DELETE FROM stock")
        yield
        counted[0] = int(server.psql("SELECT count(*) FROM stock"))
        await asyncio.to_thread(server.stop)

    content = {"kind": "sql", "target": "stock", "engine": "postgres", "database": server.conninfo, "tools": [_INSERT]}
    path = write(folder, "stock", {**content, "password_file": server.password_file})
    return Target(path, "stock.add", {"item": "nut"}, lambda: counted[0], up)


def _smtp(folder: Path, request: pytest.FixtureRequest) -> Target:
    inbox, port = Inbox(), free_port()

    @asynccontextmanager
    async def up() -> AsyncIterator[None]:
        controller = Controller(inbox, hostname="127.0.0.1", port=port)
        await asyncio.to_thread(controller.start)
        yield
        await asyncio.to_thread(controller.stop)

    content = {"kind": "smtp", "target": "mail", "host": "127.0.0.1", "port": str(port), "require_tls": False}
    content |= {"sender": "a@shop.example", "tools": [{"tool": "mail.send", "attempts": 1}]}
    return Target(write(folder, "mail", content), "mail.send", LETTER, lambda: len(inbox.letters), up)


@pytest.fixture(scope="module")
def cluster() -> Iterator[PostgresServer]:
    """A PostgreSQL that is not running, as a cluster of files."""
    with postgres_server() as server:
        server.stop()
        yield server


@pytest.fixture(params=[_mcp, _openapi, _sqlite, _postgres, _smtp], ids=lambda make: make.__name__.strip("_"))
async def target(request: pytest.FixtureRequest, tmp_path: Path) -> Target:
    """Each target in turn, not up yet."""
    made: Target = request.param(tmp_path, request)
    if request.param in (_mcp, _openapi):
        await accept(read_mount(made.path, {}))
    return made


async def test_a_mount_keeps_what_a_tool_must_keep(target: Target) -> None:
    async with target.mounted() as box:
        await box.call(target.tool, "wm-t1-s", **target.args)
        with pytest.raises(ToolRefusedError) as caught:
            await box.call(target.tool, "wm-t2-s", **target.args, unheard_of=1)
        assert caught.value.code == "invalid_arguments"
        with pytest.raises(ToolRefusedError):
            await box.call(target.tool, "wm-t3-s")
        with pytest.raises(NotSentError, match="is over"):
            await box.call(target.tool, "wm-t4-s", **target.args, in_s=-1.0)
        tool = box.box.find(target.tool)
        assert tool.target == box.mount.target and not tool.read_only
        if tool.recovery is Recovery.IDEMPOTENT:
            await box.call(target.tool, "wm-t1-s", epoch=2, **target.args)
        if tool.verify is not None:
            assert await box.verify(target.tool, "wm-t1-s", **target.args) is not None
            assert await box.verify(target.tool, "wm-t9-s", **target.args) is None
    assert target.effects() == 1


async def test_a_target_that_is_away_fails_no_start_and_was_sent_nothing(target: Target) -> None:
    async with target.up():
        pass
    async with mounted(target.path) as box:
        with pytest.raises(NotSentError):
            await box.call(target.tool, "wm-t1-s", **target.args)
        async with target.up():
            await box.call(target.tool, "wm-t1-s", **target.args)
    assert target.effects() == 1


def test_two_mounts_of_a_pack_never_share_a_target_or_a_tool(tmp_path: Path) -> None:
    content = {"kind": "sql", "target": "stock", "engine": "sqlite", "database": "x", "tools": [_INSERT]}
    write(tmp_path, "a", content)
    assert [tool.name for tool in tools_of(read_mounts(tmp_path, {}))] == ["stock.add"]
    write(tmp_path, "b", {**content, "target": "other"})
    with pytest.raises(SettingsError, match=r"more than one tool named stock\.add"):
        read_mounts(tmp_path, {})
    write(tmp_path, "b", {**content, "tools": []})
    with pytest.raises(SettingsError, match="more than one target named stock"):
        read_mounts(tmp_path, {})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "ftp"}, "kind is one of mcp, openapi, smtp, sql, not 'ftp'"),
        ({"unheard_of": 1}, "unheard_of"),
        ({"database": "${where}/x"}, r"needs a value for \$\{where\}"),
        ({"tools": [{**_INSERT, "risk": "none"}]}, "risk"),
        ({"tools": [{**_INSERT, "compensation": "stock.add"}]}, "cannot undo itself"),
        ({"tools": [{**_INSERT, "tool": "Stock"}]}, "tool"),
    ],
)
def test_a_mount_that_is_not_understood_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    content = {"kind": "sql", "target": "stock", "engine": "sqlite", "database": "x", "tools": [_INSERT]}
    path = write(tmp_path, "stock", {**content, **change})
    with pytest.raises(SettingsError, match=words):
        read_mount(path, {})


def test_values_stand_in_for_names_and_nothing_else_is_touched(tmp_path: Path) -> None:
    statement = {**_INSERT, "description": "$5 and $${where} for ${where}"}
    content = {"kind": "sql", "target": "stock", "engine": "sqlite", "database": "${where}.db", "tools": [statement]}
    mount = read_mount(write(tmp_path, "stock", content), {"where": "here"})
    assert mount.declarations[0].description == "$5 and ${where} for here"
