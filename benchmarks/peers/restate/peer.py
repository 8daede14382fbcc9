"""The row of Restate: the server with its default configuration, and a Python endpoint that it calls."""

import contextlib
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path

from benchmarks.peers.engine import Details, Engine, Job, Report, UnavailableError
from benchmarks.peers.environments import command, node_packages, python_of, versions
from benchmarks.peers.processes import Process, reachable, read_report, running, until, worker_arguments
from mesh.ports import free_port

PACKAGE = Path(__file__).parent


class Restate:
    """The server survives; the endpoint, which makes the effects, is what is killed."""

    name = "Restate"

    def __init__(self) -> None:
        self._python = Path()
        self._server = Path()

    async def prepare(self, cache: Path) -> Details:
        """The environment of the SDK, the server's binary, and what the server's own dump says of its syncing."""
        self._python = await python_of("restate", cache)
        modules = await node_packages("restate", cache)
        found = sorted(modules.glob("@restatedev/restate-server-*/bin/restate-server"))
        if not found:
            raise UnavailableError("npm has no restate-server for this machine")
        self._server = found[0]
        server_version = (await command(self._server, "--version")).split()[-1]
        dump = tomllib.loads(_toml(await command(self._server, "--dump-config")))
        needed = (
            "a server beside the worker; a handler of four `ctx.run`; the endpoint registered; the ingress called "
            "with an idempotency key for each task; restarted, the server calls the endpoint again"
        )
        found_versions = versions(self._python, "restate-sdk", "hypercorn") | {"restate-server": server_version}
        return Details(found_versions, needed, wal_settings(dump))

    @contextlib.asynccontextmanager
    async def opened(self, job: Job) -> AsyncIterator[Engine]:
        """A server with an empty folder."""
        fabric, ingress, admin = (f"127.0.0.1:{free_port()}" for _ in range(3))
        env = {
            "RESTATE_LISTEN_MODE": "tcp",
            "RESTATE_BIND_ADDRESS": fabric,
            "RESTATE_INGRESS__BIND_ADDRESS": ingress,
            "RESTATE_ADMIN__BIND_ADDRESS": admin,
            "RESTATE_NODE_NAME": "bench",
            "RESTATE_DISABLE_TELEMETRY": "true",
        }
        command_line: list[str | Path] = [self._server, "--base-dir", job.folder / "restate", "--no-logo"]
        server = Process(command_line, job.folder / "restate.log", env=env)

        async def ready() -> bool:
            return await reachable(f"http://{ingress}/restate/health") and await reachable(f"http://{admin}/health")

        async with running(server, ready):
            engine = _Running(job, self._python, server, f"http://{ingress}", f"http://{admin}")
            try:
                yield engine
            finally:
                await engine.close()


class _Running:
    def __init__(self, job: Job, python: Path, server: Process, ingress: str, admin: str) -> None:
        self._server = server
        self._port = free_port()
        self._report = job.folder / "report.json"
        module = "benchmarks.peers.restate"
        serve = [f"--port={self._port}", f"--target={job.target}/effects"]
        worker: list[str | Path] = [python, "-m", f"{module}.worker", *serve]
        self._worker = Process(worker, job.folder / "worker.log")
        submit = [*worker_arguments(job, store=admin, target=ingress), f"--endpoint=http://127.0.0.1:{self._port}"]
        submitter: list[str | Path] = [python, "-m", f"{module}.submit", *submit]
        self._submit = Process(submitter, job.folder / "submit.log")

    @property
    def writer_pid(self) -> int:
        """The server."""
        return self._server.pid

    async def start(self) -> None:
        """The endpoint, then the submitter."""
        await self.resume()
        await self._submit.start()

    async def kill(self) -> None:
        """SIGKILL the endpoint."""
        await self._worker.kill()

    async def resume(self) -> None:
        """The endpoint, on the port that the server knows."""
        await self._worker.start()
        await until(lambda: reachable(f"http://127.0.0.1:{self._port}/health"), self._worker)

    async def report(self) -> Report:
        """What the submitter saw."""
        return await read_report(self._submit, self._report)

    async def close(self) -> None:
        """End the submitter and the endpoint."""
        await self._submit.kill()
        await self._worker.kill()


def wal_settings(dump: dict[str, object]) -> dict[str, str]:
    """Every switch of the write-ahead logs in a dump of the configuration, each under its table's name."""
    found: dict[str, str] = {}

    def visit(table: dict[str, object], path: str) -> None:
        for name, value in table.items():
            if isinstance(value, dict):
                visit(value, f"{path}{name}.")
            elif name in ("rocksdb-disable-wal", "rocksdb-disable-wal-fsync"):
                found[f"{path}{name}"] = str(value).lower()

    visit(dump, "")
    return found


def _toml(output: str) -> str:
    """The dump without what the server logs before it."""
    lines = output.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("roles ="))
    return "\n".join(lines[start:])
