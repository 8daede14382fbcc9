"""Intake killed while a poller takes: before and after the events, and again; nothing is lost and nothing is twice."""

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from mesh.canonical import task_id
from mesh.quarantine import waiting
from mesh.records import OutcomeStatus
from tests.agents.intake.reception import MAPPINGS
from tests.ledger_pack.running import until
from tests.ledger_pack.world import World, world_in

pytestmark = [pytest.mark.crash, pytest.mark.timeout(240)]

POINTS = ("after_original", "after_publish")
COUNT = 40
MAILED = """reads: mail
rules:
  - name: entry
    type: ledger.entry.requested
    id: mail.subject
    source: '"erp/entries"'
    data: {account: '"k"', amount: 1, kind: '"post"'}
"""


def filled(folder: Path, kind: str) -> str:
    """A source of this kind with its entries, as a table of the settings."""
    if kind == "table":
        with closing(sqlite3.connect(folder / "erp.db")) as database, database:
            database.execute("CREATE TABLE outbox (id TEXT PRIMARY KEY, kind TEXT, account TEXT, amount TEXT)")
            rows = [(f"e{n:02}",) for n in range(COUNT)]
            database.executemany("INSERT INTO outbox VALUES (?, 'entry', 'k', '1')", rows)
        return f'kind = "table"\ndatabase = "{folder}/erp.db"\ntable = "outbox"\nmapping = "{MAPPINGS}/rows.yaml"'
    if kind == "maildir":
        for part in ("new", "cur", "tmp"):
            (folder / "mail" / part).mkdir(parents=True)
        for n in range(COUNT):
            letter = f"From: a@b.example\nSubject: e{n:02}\nMessage-ID: <{n}@b>\n\nx\n"
            (folder / "mail" / "new" / f"{n}.a").write_text(letter)
        (folder / "mail.yaml").write_text(MAILED)
        return f'kind = "maildir"\nfolder = "{folder}/mail"\nmapping = "{folder}/mail.yaml"'
    (folder / "in").mkdir()
    for n in range(COUNT):
        path = folder / "in" / f"{n:02}.csv"
        path.write_text(f"id,kind,account,amount\ne{n:02},entry,k,1\n")
        os.utime(path, (time.time() - 60, time.time() - 60))
    return f'kind = "folder"\nfolder = "{folder}/in"\nmapping = "{MAPPINGS}/rows.yaml"\nsettle_s = 0.1'


async def all_entered(world: World) -> None:
    """Each entry is made, once."""
    for n in range(COUNT):
        assert (await world.outcome(task_id("erp/entries", f"e{n:02}"))).status is OutcomeStatus.COMPLETED
    await world.settled("executor")
    assert len(world.applied(account="k")) == COUNT
    assert len({key for _, key, _ in world.applied(account="k")}) == COUNT


@pytest.mark.parametrize("kind", ["folder", "table", "maildir"])
async def test_a_poller_that_is_killed_loses_and_repeats_nothing(tmp_path: Path, kind: str) -> None:
    config = tmp_path / "intake.toml"
    config.write_text(f"[intake.sources.erp]\n{filled(tmp_path, kind)}\npoll_s = 0.1\n")
    fault = ",".join(f"intake.{point}=kill#{7 + 5 * n}@{tmp_path / point}" for n, point in enumerate(POINTS))
    env = {"WORKMESH_CONFIG": str(config)}
    async with (
        world_in(tmp_path, "perception", "planner", "policy", "executor") as world,
        world.role("intake", fault=fault, env=env) as intake,
    ):
        await all_entered(world)

        async def is_marked() -> bool:
            match kind:
                case "folder":
                    return len(list((tmp_path / "in" / "taken").iterdir())) == COUNT
                case "maildir":
                    return len(list((tmp_path / "mail" / "cur").glob("*:2,S"))) == COUNT
            return True

        await until(is_marked)
        assert all((tmp_path / point).exists() for point in POINTS)
        assert intake.child.restarts == len(POINTS)
        assert await waiting(world.bus) == []
        await all_entered(world)
