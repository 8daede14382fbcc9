"""The work as a DBOS workflow of four steps; runs in the DBOS environment and recovers by ``DBOS.launch``."""

import asyncio

import aiohttp
import sqlalchemy
import uvloop
from dbos import DBOS, SetWorkflowID
from dbos._dbos import _get_dbos_instance

from benchmarks.peers.client import NOTE, arguments, drive

SHOWN = {
    "sqlite": {"journal_mode": "PRAGMA journal_mode", "synchronous": "PRAGMA synchronous"},
    "postgresql": {name: f"SHOW {name}" for name in ("fsync", "synchronous_commit", "wal_sync_method")},
}
parser = arguments()
session: aiohttp.ClientSession
target = ""


@DBOS.step()
async def perceive(task: str) -> dict[str, str]:
    """The first record."""
    return {"task": task, "note": NOTE}


@DBOS.step()
async def plan(context: dict[str, str]) -> dict[str, str]:
    """The second record."""
    return {"task": context["task"], "tool": "effects.post", "note": NOTE}


@DBOS.step()
async def decide(planned: dict[str, str]) -> dict[str, str]:
    """The third record."""
    return {**planned, "verdict": "allow"}


@DBOS.step()
async def act(decision: dict[str, str]) -> int:
    """The effect; its key is the workflow's id, which is the same in every life of the process."""
    key = str(DBOS.workflow_id)
    async with session.post(target, json={"task": decision["task"]}, headers={"Idempotency-Key": key}) as response:
        response.raise_for_status()
        return int((await response.json())["number"])


@DBOS.workflow()
async def work(task: str) -> int:
    """Four durable steps, one effect."""
    return int(await act(await decide(await plan(await perceive(task)))))


async def run(task: str) -> int:
    """Start the task, or find it; an id that is known is the same workflow."""
    with SetWorkflowID(task):
        handle = await DBOS.start_workflow_async(work, task)
    result: int = await handle.get_result()
    return result


async def settings() -> dict[str, str]:
    """What is in force on the engine's own connections."""
    engine: sqlalchemy.Engine = _get_dbos_instance()._sys_db.engine
    with engine.connect() as connection:
        return {
            name: str(connection.execute(sqlalchemy.text(query)).scalar())
            for name, query in SHOWN[engine.dialect.name].items()
        }


async def main() -> None:
    """Launch, which recovers what an earlier life left, and run all tasks."""
    global session, target
    args = parser.parse_args()
    target = args.target
    DBOS(config={"name": "workmesh-bench", "system_database_url": args.store, "log_level": "WARNING"})
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        DBOS.launch()
        await drive(args, run, settings)
        await asyncio.to_thread(DBOS.destroy)


if __name__ == "__main__":
    uvloop.run(main())
