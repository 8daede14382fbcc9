"""Files and tables on a whole site: every row once, whatever is killed; what is wrong waits with its place."""

import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from mesh import quarantine, subjects
from mesh.canonical import task_id
from mesh.records import OutcomeStatus
from tests.agents.intake.reception import MAPPINGS
from tests.ledger_pack.running import Running, until
from tests.ledger_pack.world import World, world_in

pytestmark = [pytest.mark.crash, pytest.mark.timeout(180)]


@asynccontextmanager
async def site(folder: Path) -> AsyncIterator[tuple[World, Running]]:
    """A whole site with a watched folder for rows, one for invoices, and an outbox."""
    config = folder / "intake.toml"
    sources = {
        "exports": f'kind = "folder"\nfolder = "{folder}/exports"\nmapping = "{MAPPINGS}/rows.yaml"\nsettle_s = 0.1',
        "invoices": f'kind = "folder"\nfolder = "{folder}/invoices"\nmapping = "{MAPPINGS}/invoices.yaml"',
        "outbox": f'kind = "table"\ndatabase = "{folder}/erp.db"\ntable = "outbox"\nmapping = "{MAPPINGS}/rows.yaml"',
    }
    config.write_text("".join(f"[intake.sources.{name}]\n{lines}\npoll_s = 0.1\n" for name, lines in sources.items()))
    for name in ("exports", "invoices"):
        (folder / name).mkdir()
    with closing(sqlite3.connect(folder / "erp.db")) as database:
        database.execute("CREATE TABLE outbox (id TEXT PRIMARY KEY, kind TEXT, account TEXT, amount TEXT)")
    async with (
        world_in(folder, "perception", "planner", "policy", "executor") as world,
        world.role("intake", env={"WORKMESH_CONFIG": str(config)}) as intake,
    ):
        yield world, intake


def taken(folder: Path) -> int:
    """How many files of a folder were taken."""
    return len(list(folder.glob("taken/*")))


async def entered(world: World, *ids: str) -> None:
    """Wait until these entries are made, each once."""
    for each in ids:
        task = task_id("erp/entries", each)
        assert (await world.outcome(task)).status is OutcomeStatus.COMPLETED
        assert len(world.applied(task)) == 1


async def test_files_tables_and_invoices_become_events_once_though_intake_is_killed(
    tmp_path: Path, shared_data: Path
) -> None:
    async with site(tmp_path) as (world, intake):
        rows = "".join(f"e{number};entry;a;{number}\n" for number in range(1, 301))
        (tmp_path / "exports" / "one.csv").write_text(f"id;kind;account;amount\n{rows}bad;entry;a;much\nshort;entry\n")
        with closing(sqlite3.connect(tmp_path / "erp.db")) as database, database:
            database.executemany(
                "INSERT INTO outbox VALUES (?, 'entry', 'b', '1')", [(f"o{n:03}",) for n in range(300)]
            )
        for path in (shared_data / "invoices").glob("*.xml"):
            shutil.copy(path, tmp_path / "invoices")
        await world.record("context", task_id("erp/entries", "e1"))
        await intake.kill()
        (tmp_path / "exports" / "two.csv").write_text("id,kind,account,amount\ne1,entry,a,1\ne999,entry,a,9\n")

        async def is_taken() -> bool:
            return [taken(tmp_path / name) for name in ("exports", "invoices")] == [2, 4]

        await until(is_taken)
        await entered(world, *(f"e{number}" for number in (1, 2, 150, 300, 999)), "o000", "o299")
        await world.settled("executor")
        applied = world.applied(account="a")
        assert len(applied) == len({key for _, key, _ in applied}) == 301
        assert len(world.applied(account="b")) == 300
        events = [message.data for message in await world.bus.read(subjects.EVENTS, 1, 1000)]
        assert sum(b'"channel":"invoices"' in event for event in events) == 3

        async def is_told() -> bool:
            details = [item.detail for item in await quarantine.waiting(world.bus)]
            return len(details) == 2 and any("line 303: 2 cells" in each for each in details)

        await until(is_told)
