"""Starts the processes of a site, restarts with back-off what dies, and stops them all cleanly.

The rule: a child never outlives its supervisor, and its state is always known.
"""

import asyncio
import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

log = structlog.get_logger(__name__)

_BACKOFF_FIRST_S = 0.1
_BACKOFF_MAX_S = 10.0
# A child that was ready and lived this long was healthy: its back-off starts anew.
_HEALTHY_S = 1.0
_STOP_S = 15.0
_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


class ChildState(StrEnum):
    """Where a child process stands."""

    STARTING = "starting"
    READY = "ready"
    BACKING_OFF = "backing off"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """A process to keep running. ``env`` is added to our own; output goes to ``log_file``."""

    name: str
    argv: tuple[str, ...]
    log_file: Path
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Child:
    """A child process as it stands now. ``down_since`` is monotonic, 0 while it is ready."""

    spec: ChildSpec
    state: ChildState = ChildState.STARTING
    pid: int = 0
    restarts: int = 0
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    exit_code: int | None = None
    started: float = 0.0


# Exit codes of a child that will not get better by being started again (wrong settings, wrong use).
_HOPELESS = {2}


class Supervisor:
    """An async context manager: entered, it keeps its children running; left, all are stopped."""

    def __init__(self, specs: Sequence[ChildSpec], folder: Path) -> None:
        self.children = {spec.name: Child(spec) for spec in specs}
        self._folder = folder
        self._tasks = asyncio.TaskGroup()
        self._watching: list[asyncio.Task[None]] = []
        self._socket: socket.socket | None = None
        self._told_ready: set[int] = set()

    async def __aenter__(self) -> Self:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / "notify.sock"
        address = _short(path)
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        try:
            self._socket.bind(address)
        except OSError:
            self._socket.close()
            raise
        asyncio.get_running_loop().add_reader(self._socket, self._on_notice)
        await self._tasks.__aenter__()
        for child in self.children.values():
            self._watching.append(self._tasks.create_task(self._keep(child), name=f"keep-{child.spec.name}"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._watching:
            if not task.cancelling():  # a second time would cut off the stopping of its child
                task.cancel()
        try:
            await self._tasks.__aexit__(None, None, None)
        finally:
            if self._socket is not None:
                asyncio.get_running_loop().remove_reader(self._socket)
                self._socket.close()

    async def wait_ready(self, timeout_s: float) -> None:
        """Return when every child is ready; raises ``TimeoutError`` naming those that are not."""
        try:
            async with asyncio.timeout(timeout_s):
                for child in self.children.values():
                    await child.ready.wait()
        except TimeoutError:
            late = [f"{name} ({child.state})" for name, child in self.children.items() if not child.ready.is_set()]
            raise TimeoutError(f"not ready within {timeout_s:g} s: {', '.join(late)}") from None

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to a child; its pid, or 0 when it does not run."""
        child = self.children[name]
        if child.pid:
            child.ready.clear()
            os.kill(child.pid, number)
        return child.pid

    async def _keep(self, child: Child) -> None:
        delay = _BACKOFF_FIRST_S
        while True:
            process = await self._start(child)
            try:
                child.exit_code = await process.wait()
            except asyncio.CancelledError:
                await _stop(process)
                child.state, child.pid = ChildState.STOPPED, 0
                child.ready.clear()
                raise
            child.pid = 0
            was_ready = child.state is ChildState.READY
            child.ready.clear()
            if child.exit_code in _HOPELESS:
                child.state = ChildState.FAILED
                log.error(
                    "child_failed", child=child.spec.name, exit_code=child.exit_code, log=str(child.spec.log_file)
                )
                return
            if was_ready and time.monotonic() - child.started > _HEALTHY_S:
                delay = _BACKOFF_FIRST_S
            child.state = ChildState.BACKING_OFF
            child.restarts += 1
            log.warning("child_died", child=child.spec.name, exit_code=child.exit_code, restart_in_s=delay)
            try:
                await asyncio.sleep(delay)
            except asyncio.CancelledError:
                child.state = ChildState.STOPPED
                raise
            delay = min(delay * 2, _BACKOFF_MAX_S)

    async def _start(self, child: Child) -> asyncio.subprocess.Process:
        child.state = ChildState.STARTING
        child.started = time.monotonic()
        spec = child.spec
        parent = os.getpid()

        def die_with_parent() -> None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)

        descriptor = os.open(spec.log_file, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            process = await asyncio.create_subprocess_exec(
                *spec.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                env={**os.environ, **spec.env, "NOTIFY_SOCKET": str(self._folder / "notify.sock")},
                preexec_fn=die_with_parent if sys.platform == "linux" else None,
                start_new_session=True,
            )
        finally:
            os.close(descriptor)
        child.pid = process.pid
        if process.pid in self._told_ready:
            self._told_ready.discard(process.pid)
            self._ready(child)
        return process

    def _ready(self, child: Child) -> None:
        child.state = ChildState.READY
        child.ready.set()
        log.info("child_ready", child=child.spec.name, seconds=round(time.monotonic() - child.started, 2))

    def _on_notice(self) -> None:
        assert self._socket is not None
        try:
            data, control, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(12))
        except OSError:
            return
        pid = next((int.from_bytes(raw[:4], sys.byteorder) for _, _, raw in control), 0)
        if b"READY=1" not in data:
            return
        for child in self.children.values():
            if child.pid == pid:
                self._ready(child)
                return
        if any(child.pid == 0 and child.state is ChildState.STARTING for child in self.children.values()):
            self._told_ready.add(pid)  # it was faster than ``_start``


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(_STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _short(path: Path) -> str:
    """The path as an address; raises ``OSError`` when it does not fit into the 108 bytes of ``sun_path``."""
    text = str(path)
    if len(text.encode()) < 108:
        return text
    raise OSError(f"{text} is too long for a socket (107 bytes): choose a shorter state_dir")
