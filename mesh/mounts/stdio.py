"""A server in a process of its own, spoken to over its standard input and output, a line a message.

The rule: it gets the environment that it is given and no other, its lines are bounded, and it ends with whoever started
it, children and all.
"""

import asyncio
import ctypes
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_GARBAGE = 100  # lines that are no message, until the server is taken for no MCP server
_STOP_S = 1.0  # for each of: its own end, SIGTERM, SIGKILL
_WRITE_S = 5.0
_QUEUED = 256
_libc = ctypes.CDLL(None, use_errno=True)

Reading = anyio.abc.ObjectReceiveStream[SessionMessage | Exception]
Writing = anyio.abc.ObjectSendStream[SessionMessage]


@dataclass(frozen=True, slots=True)
class Command:
    """What to start: arguments, its whole environment, its folder, and the longest line that is taken from it."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    folder: str | None = None
    longest: int = 8 * 1024 * 1024


@dataclass(slots=True)
class Child:
    """A running server. ``ended`` is set once nothing more comes from it; ``said`` is the end of its error output."""

    process: asyncio.subprocess.Process
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    said: deque[str] = field(default_factory=lambda: deque(maxlen=3))


@asynccontextmanager
async def stdio(command: Command) -> AsyncIterator[tuple[Reading, Writing, Child]]:
    """Start a server, and stop it with the block. Raises ``OSError`` when it cannot be started."""
    child = Child(await _start(command))
    incoming, read = anyio.create_memory_object_stream[SessionMessage | Exception](_QUEUED)
    write, outgoing = anyio.create_memory_object_stream[SessionMessage](_QUEUED)
    async with incoming, read, write, outgoing, anyio.create_task_group() as tasks:
        tasks.start_soon(_read, child, incoming)
        tasks.start_soon(_write, child, outgoing)
        tasks.start_soon(_listen, child)
        try:
            yield read, write, child
        finally:
            with anyio.CancelScope(shield=True):
                await _surely(_stop(child.process))
            tasks.cancel_scope.cancel()


async def _start(command: Command) -> asyncio.subprocess.Process:
    parent = os.getpid()

    def die_with_parent() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return await asyncio.create_subprocess_exec(
        *command.argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(command.env),
        cwd=command.folder,
        limit=command.longest,
        preexec_fn=die_with_parent if sys.platform == "linux" else None,
        start_new_session=True,
    )


async def _read(child: Child, incoming: anyio.abc.ObjectSendStream[SessionMessage | Exception]) -> None:
    """Pass messages on until the server ends, sends what is too long, or too much that is none."""
    assert child.process.stdout is not None
    garbage = 0
    try:
        async with incoming:
            while garbage < _GARBAGE:
                line = await child.process.stdout.readuntil(b"\n")
                try:
                    message = jsonrpc_message_adapter.validate_json(line, by_name=False)
                except ValueError:
                    garbage += 1
                    continue
                await incoming.send(SessionMessage(message))
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
        pass  # it has ended, or sends what is taken for its end
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        pass  # nobody listens any more
    finally:
        child.ended.set()


async def _write(child: Child, outgoing: anyio.abc.ObjectReceiveStream[SessionMessage]) -> None:
    """Send messages; a server that takes none for some seconds is killed, so that nobody waits behind it."""
    assert child.process.stdin is not None
    try:
        async with outgoing:
            async for item in outgoing:
                child.process.stdin.write(
                    item.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"
                )
                async with asyncio.timeout(_WRITE_S):
                    await child.process.stdin.drain()
    except (OSError, TimeoutError):
        _signal(child.process, signal.SIGKILL)
    finally:
        child.ended.set()


async def _listen(child: Child) -> None:
    """Take what it writes to its error output, and keep the end of it."""
    assert child.process.stderr is not None
    with suppress(OSError):
        while chunk := await child.process.stderr.read(4096):
            child.said.append(chunk.decode("utf-8", "replace")[-500:])


async def _surely(work: Coroutine[Any, Any, None]) -> None:
    """Do it to its end, however often this task is cancelled meanwhile: a scope shields from scopes only."""
    task = asyncio.create_task(work, name="mcp-stop")
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Close its input, then ask its process group to end, then kill it; also children that outlived it."""
    if process.stdin is not None:
        process.stdin.close()
    if not await _ended(process):
        _signal(process, signal.SIGTERM)
        await _ended(process)
    _signal(process, signal.SIGKILL)
    await _ended(process)
    transport = getattr(process, "_transport", None)  # a child that kept a pipe would keep it open
    if transport is not None:
        transport.close()


async def _ended(process: asyncio.subprocess.Process) -> bool:
    # Not wait(): that also waits for the pipes, which a child of the server may hold.
    end = asyncio.get_running_loop().time() + _STOP_S
    while process.returncode is None and asyncio.get_running_loop().time() < end:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return process.returncode is not None


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
