"""The kill between a statement's commit and its record: the site's own executor finds its entry in the books, once."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
import pytest_asyncio

from mesh.records import OutcomeStatus
from tests.ledger_pack.world import World, world_in

pytestmark = [pytest.mark.crash, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A running site without an executor, with its books."""
    folder = tmp_path_factory.mktemp("w")
    books = folder / "books.db"
    with closing(sqlite3.connect(books)) as database, database:
        database.execute("CREATE TABLE entry (account TEXT, amount INTEGER)")
    env = {"WORKMESH_PACKS__LEDGER__BOOKS": str(books)}
    async with world_in(folder, "perception", "planner", "policy", env=env) as found:
        yield found


def booked(folder: Path, account: str) -> tuple[list[tuple[int]], list[str]]:
    """The entries on an account, and all keys that the books know."""
    with closing(sqlite3.connect(folder / "books.db")) as database:
        entries = database.execute("SELECT amount FROM entry WHERE account = ?", (account,)).fetchall()
        keys = [key for (key,) in database.execute("SELECT key FROM workmesh_effect ORDER BY at")]
    return entries, keys


@pytest.mark.parametrize(
    ("recovery", "point"),
    [("idempotent", "after_call"), ("verifiable", "after_call"), ("verifiable", "after_effect")],
)
async def test_an_executor_killed_at_a_statement_has_it_once(world: World, recovery: str, point: str) -> None:
    name = f"{recovery}-{point.replace('_', '-')}"
    env = {"WORKMESH_PACKS__LEDGER__BOOK_RECOVERY": recovery}
    async with world.role("executor", fault=f"executor.{point}=kill@{world.folder / name}", env=env) as executor:
        task = await world.publish(name, kind="book", account=name)
        await executor.died()
        ending = await world.outcome(task)
        await world.settled("executor")
    assert ending.status is OutcomeStatus.COMPLETED
    entries, keys = booked(world.folder, name)
    assert entries == [(100,)] and keys.count(f"wm-{task}-enter") == 1
    assert await world.count("outcome", task) == 1
