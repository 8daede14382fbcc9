"""The row of LangGraph: a graph invoked with ``durability="sync"`` on ``AsyncSqliteSaver``."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from benchmarks.peers.engine import Details, Engine, Job
from benchmarks.peers.environments import python_of, versions
from benchmarks.peers.processes import Embedded


class LangGraph:
    """The engine is the worker's process."""

    name = "LangGraph, SQLite"

    def __init__(self) -> None:
        self._python = Path()

    async def prepare(self, cache: Path) -> Details:
        """The environment."""
        self._python = await python_of("langgraph", cache)
        found = versions(self._python, "langgraph", "langgraph-checkpoint-sqlite")
        needed = (
            "a graph of four nodes; a thread id for each task; it recovers nothing by itself: the worker lists the "
            "threads after a restart and invokes each again; no server; its documentation advises Postgres for "
            "production"
        )
        return Details(found, needed)

    @contextlib.asynccontextmanager
    async def opened(self, job: Job) -> AsyncIterator[Engine]:
        """A worker with a file of its own."""
        store = str(job.folder / "checkpoints.sqlite")
        engine = Embedded(job, self._python, "benchmarks.peers.langgraph.worker", store=store)
        try:
            yield engine
        finally:
            await engine.close()
