"""The rows of DBOS: asynchronous workflows started in process, on SQLite and on Postgres."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from benchmarks.peers.engine import Details, Engine, Job
from benchmarks.peers.environments import python_of, versions
from benchmarks.peers.postgres import server
from benchmarks.peers.processes import Embedded

MODULE = "benchmarks.peers.dbos.worker"
NEEDED = "steps and workflow decorated; a workflow id for each task; restarted, `DBOS.launch` recovers"


class DbosOnSqlite:
    """The default database: a file."""

    name = "DBOS, SQLite"

    def __init__(self) -> None:
        self._python = Path()

    async def prepare(self, cache: Path) -> Details:
        """The environment."""
        self._python = await python_of("dbos", cache)
        return Details(
            versions(self._python, "dbos"), f"{NEEDED}; no server; its documentation keeps SQLite for trials"
        )

    @contextlib.asynccontextmanager
    async def opened(self, job: Job) -> AsyncIterator[Engine]:
        """A worker with a file of its own."""
        engine = Embedded(job, self._python, MODULE, store=f"sqlite:///{job.folder / 'dbos.sqlite'}")
        try:
            yield engine
        finally:
            await engine.close()


class DbosOnPostgres:
    """The database that its documentation recommends for production."""

    name = "DBOS, Postgres"

    def __init__(self) -> None:
        self._python = Path()
        self._cache = Path()

    async def prepare(self, cache: Path) -> Details:
        """The environments of DBOS and of Postgres."""
        self._cache = cache
        self._python = await python_of("dbos", cache)
        found = versions(self._python, "dbos") | {"postgres": await server.version(cache)}
        return Details(found, f"{NEEDED}; a Postgres server with `initdb`'s configuration")

    @contextlib.asynccontextmanager
    async def opened(self, job: Job) -> AsyncIterator[Engine]:
        """A server, and a worker."""
        async with server.served(job.folder, self._cache) as (url, process):
            engine = Embedded(job, self._python, MODULE, store=f"{url}/dbos", writer=process)
            try:
                yield engine
            finally:
                await engine.close()
