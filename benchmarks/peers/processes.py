"""Processes of a run: each has its output in a file, and none outlives its context."""

import asyncio
import contextlib
import ctypes
import os
import pwd
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from benchmarks.peers.engine import IN_FLIGHT, Job, Report

ROOT = Path(__file__).parents[2]
STOP_S = 20.0
REPORT_S = 1800.0
READY_S = 60.0
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def as_user(user: str | None) -> dict[str, Any]:
    """What makes a child run as another user; only root can. Its working folder is one that every user can enter."""
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": [], "cwd": "/"}


def _die_with(parent: int) -> Callable[[], None] | None:
    """Have a child killed when we die, however that comes; Linux only (prctl(2))."""
    if sys.platform != "linux":
        return None

    def in_child() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return in_child


class Process:
    """A child with a log file; ``env`` is added to ours."""

    def __init__(
        self, command: Sequence[str | Path], log: Path, *, env: Mapping[str, str] | None = None, user: str | None = None
    ) -> None:
        self._command = [str(part) for part in command]
        self._log = log
        self._env = dict(os.environ) | {"PYTHONPATH": str(ROOT)} | dict(env or {})
        self._user = user
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Of its present or last life."""
        assert self._process is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.returncode if self._process is not None else None

    async def start(self) -> None:
        """Begin a life, in a session of its own."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                start_new_session=True,
                preexec_fn=_die_with(os.getpid()),
                **as_user(self._user),
            )

    async def kill(self) -> None:
        """SIGKILL to it and to what it started."""
        await self._end(signal.SIGKILL)

    async def stop(self, number: int = signal.SIGTERM) -> None:
        """Ask it to end; kill it when it does not."""
        try:
            async with asyncio.timeout(STOP_S):
                await self._end(number)
        except TimeoutError:
            await self.kill()

    async def ended(self) -> int:
        """Its exit code, when it has one."""
        assert self._process is not None
        return await self._process.wait()

    def tail(self) -> str:
        """The end of its log, for an error message."""
        return self._log.read_text(encoding="utf-8", errors="replace")[-2000:] if self._log.exists() else ""

    async def _end(self, number: int) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
        await self._process.wait()


@contextlib.asynccontextmanager
async def running(
    process: Process, ready: Callable[[], Awaitable[bool]] | None = None, *, number: int = signal.SIGTERM
) -> AsyncIterator[Process]:
    """Start it, wait until it is ready, and stop it at the end by a signal."""
    await process.start()
    try:
        if ready is not None:
            await until(ready, process)
        yield process
    finally:
        await process.stop(number)


async def until(condition: Callable[[], Awaitable[bool]], process: Process) -> None:
    """Wait for a condition; raises ``RuntimeError`` with the log's end when the process ends before it."""
    async with asyncio.timeout(READY_S):
        while not await condition():
            if process.exit_code is not None:
                raise RuntimeError(f"ended with {process.exit_code} before it was ready: {process.tail()}")
            await asyncio.sleep(0.05)


async def reachable(url: str) -> bool:
    """Whether anything answers there."""
    async with httpx2.AsyncClient(timeout=2) as client:
        try:
            return (await client.get(url)).status_code < 500
        except httpx2.TransportError:
            return False


async def read_report(process: Process, file: Path) -> Report:
    """The report that a worker writes when its tasks have ended; raises ``RuntimeError`` when it ends without."""
    async with asyncio.timeout(REPORT_S):
        code = await process.ended()
    try:
        return _decoded(file)
    except FileNotFoundError:
        raise RuntimeError(f"ended with {code} and no report: {process.tail()}") from None


def _decoded(file: Path) -> Report:
    return msgspec.json.decode(file.read_bytes(), type=Report)


def worker_arguments(job: Job, *, store: str, target: str | None = None) -> list[str]:
    """What every worker takes; see ``client.arguments``."""
    given = {"target": target or f"{job.target}/effects", "store": store, "report": str(job.folder / "report.json")}
    numbers = {"tasks": job.tasks, "warm": job.warm, "in-flight": IN_FLIGHT}
    return [f"--{name}={value}" for name, value in (given | numbers).items()]


class Embedded:
    """An engine that is a library: the process that runs its steps is the one that submits and records."""

    def __init__(self, job: Job, python: Path, module: str, *, store: str, writer: Process | None = None) -> None:
        command: list[str | Path] = [python, "-m", module, *worker_arguments(job, store=store)]
        self._worker = Process(command, job.folder / "worker.log")
        self._report = job.folder / "report.json"
        self._writer = writer or self._worker

    @property
    def writer_pid(self) -> int:
        """The worker, or the database server that it uses."""
        return self._writer.pid

    async def start(self) -> None:
        """Begin the worker's first life."""
        await self._worker.start()

    async def kill(self) -> None:
        """SIGKILL the worker."""
        await self._worker.kill()

    async def resume(self) -> None:
        """Begin its next life."""
        await self._worker.start()

    async def report(self) -> Report:
        """What the last life wrote."""
        return await read_report(self._worker, self._report)

    async def close(self) -> None:
        """End the worker, whatever it does."""
        await self._worker.kill()
