"""A connection to one MCP server: made when it is needed, made anew when it is lost, closed with its owner.

The rule: a call is sent only to a tool that is as it was pinned, and once; what became of it is said exactly, or said
to be unknown.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Self, cast

import anyio
import httpx2
import msgspec
import structlog
from mcp import ClientSession
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CallToolRequest,
    CallToolRequestParams,
    CallToolResult,
    PaginatedRequestParams,
    RequestParamsMeta,
    ToolListChangedNotification,
)
from pydantic import ValidationError

from mesh.clock import unix
from mesh.errors import NotSentError, ToolError, ToolRefusedError, UncertainError
from mesh.lifetime import background
from mesh.mounts.http import LARGEST, Bounded, said
from mesh.mounts.mcp_answers import Answering, Output, fate, output_of
from mesh.mounts.pins import definition_digest
from mesh.mounts.secret import Auth, hidden, read_secret
from mesh.mounts.stdio import Child, Command, stdio
from mesh.tools import ToolCall

log = structlog.get_logger(__name__)

KEY = "workmesh/idempotency-key"  # in `_meta` of a call; a server that knows it can do a key once

_PAGES = 50
_TOOLS = 2000
_SHARE = 0.8  # of a call's time, for getting as far as sending it
_AMBIGUOUS = "defined twice"
# What a server can make the SDK raise, by whatever it sends; none of it may end the process.
_FOREIGN = (
    ExceptionGroup,
    MCPError,
    ValidationError,
    OSError,
    httpx2.HTTPError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """How a server is reached, and the digests that its tools must have."""

    target: str
    source: str
    pinned: Mapping[str, str]
    command: tuple[str, ...] = ()
    folder: str | None = None
    env: tuple[str, ...] = ("PATH",)
    env_files: Mapping[str, str] = field(default_factory=dict)
    url: str = ""
    auth: Auth | None = None
    start_s: float = 15.0
    recheck_s: float = 30.0
    longest_s: float = 5.0
    max_bytes: int = 32_768


@dataclass(frozen=True, slots=True)
class Wanted:
    """A tool to call: its name at the server and here, and how its call and errors are taken."""

    name: str
    tool: str
    read_only: bool
    timeout_s: float
    key_argument: str = ""
    errors: Literal["refused", "uncertain"] = "uncertain"


@dataclass(frozen=True, slots=True)
class Definition:
    """A tool as the server defines it now."""

    name: str
    description: str
    input_schema: Mapping[str, Any]
    digest: str


@dataclass(slots=True)
class Live:
    """A connection that stands. ``definitions`` are of ``listed_at``; ``ended`` is set when it is of no more use.

    ``heard_at`` is when the server answered last: one that is busy for as long as a tool may take is not hung.
    """

    session: ClientSession
    ended: asyncio.Event
    secrets: Sequence[str]
    definitions: dict[str, Definition] = field(default_factory=dict)
    listed_at: float = float("-inf")
    listing: asyncio.Lock = field(default_factory=asyncio.Lock)
    heard_at: float = field(default_factory=time.monotonic)


class McpServer:
    """One server, as long as its owner lives."""

    def __init__(self, arrangement: Arrangement) -> None:
        self._as = arrangement
        self._live: Live | None = None
        self._wanted = asyncio.Event()
        self._next: asyncio.Future[Live] | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, arrangement: Arrangement) -> AsyncIterator[Self]:
        """The server, not started yet; stopped with the block."""
        server = cls(arrangement)
        async with background(server._keep(), f"mcp-{arrangement.target}"):
            yield server

    async def call(self, wanted: Wanted, args: msgspec.Struct, call: ToolCall) -> Output:
        """Call a tool once; raises a ``ToolError`` that says how far it got."""
        end = unix() + _SHARE * (wanted.timeout_s if wanted.read_only else min(wanted.timeout_s, call.call_by - unix()))
        live = await self._connection(end)
        await self._renew(live, end)
        self._check(live, wanted, call)
        arguments = msgspec.to_builtins(args)
        if wanted.key_argument:
            arguments[wanted.key_argument] = call.key
        meta: dict[str, Any] = {KEY: call.key} | ({"traceparent": call.traceparent} if call.traceparent else {})
        params = CallToolRequestParams(name=wanted.name, arguments=arguments, _meta=cast(RequestParamsMeta, meta))
        if not wanted.read_only and unix() >= call.call_by:
            raise NotSentError(f"the time to call {wanted.tool} for {call.key} is over")
        result = await self._send(live, wanted, CallToolRequest(params=params))
        output = output_of(result, self._as.max_bytes, live.secrets)
        if result.is_error:
            raise self._reported(wanted, output.text)
        return output

    async def definitions(self) -> dict[str, Definition]:
        """What the server defines now, by name; raises ``NotSentError``."""
        live = await self._connection(unix() + self._as.start_s)
        live.listed_at = float("-inf")
        await self._renew(live, unix() + self._as.start_s)
        return live.definitions

    async def _send(self, live: Live, wanted: Wanted, request: CallToolRequest) -> CallToolResult:
        try:
            result = await live.session.send_request(request, CallToolResult)
        except asyncio.CancelledError:
            live.listed_at = float("-inf")  # no answer: before the next call it must show that it still answers
            raise
        except MCPError as error:
            told, over = fate(error, f"{wanted.name} of {self._as.target}")
            if over:
                live.ended.set()
            raise _shown(told, live.secrets) from error
        except ValidationError as error:
            raise UncertainError(f"{wanted.name} of {self._as.target} answered what is no result of a tool") from error
        except (RuntimeError, anyio.ClosedResourceError, anyio.BrokenResourceError) as error:
            live.ended.set()
            raise UncertainError(f"{self._as.target} was lost in a call of {wanted.name}: {error!r}") from error
        live.heard_at = time.monotonic()
        return result

    def _reported(self, wanted: Wanted, text: str) -> ToolError:
        message = f"{wanted.name} of {self._as.target} reports an error: {said(text)}"
        if wanted.errors == "refused" or wanted.read_only:
            return ToolRefusedError("tool_error", message)
        return UncertainError(message)

    def _check(self, live: Live, wanted: Wanted, call: ToolCall) -> None:
        """Refuse a tool that is not as it was reviewed. A key that may have been sent before is not failed for that."""
        found = live.definitions.get(wanted.name)
        pinned = self._as.pinned.get(wanted.name, "nothing")
        if found is not None and found.digest == pinned:
            return
        now = "gone" if found is None else found.digest
        message = (
            f"{wanted.tool} is refused until it is reviewed: {wanted.name} of {self._as.target} was pinned as {pinned} "
            f"and is now {now}; see `workmesh tools check {self._as.source}`, accept with "
            f"`workmesh tools pin {self._as.source} --tool {wanted.tool}`"
        )
        raise NotSentError(message) if call.epoch > 1 else ToolRefusedError("tool_changed", message)

    async def _connection(self, end: float) -> Live:
        if self._live is not None and not self._live.ended.is_set():
            return self._live
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
            self._next.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._wanted.set()
        try:
            async with asyncio.timeout(max(0.0, end - unix())):
                return await asyncio.shield(self._next)
        except TimeoutError as error:
            raise NotSentError(f"{self._as.target} is not ready yet") from error

    async def _renew(self, live: Live, end: float) -> None:
        """Have the definitions no older than ``recheck_s``; raises ``NotSentError`` if the server is silent."""
        async with live.listing:
            if time.monotonic() - live.listed_at < self._as.recheck_s:
                return
            try:
                async with asyncio.timeout(max(0.0, end - unix())):
                    live.definitions = await _definitions(live.session)
            except _FOREIGN as error:
                silent_s = time.monotonic() - live.heard_at
                if not isinstance(error, TimeoutError) or silent_s > self._as.longest_s:
                    live.ended.set()
                raise NotSentError(f"{self._as.target} does not say what its tools are: {error!r}") from error
            live.listed_at = live.heard_at = time.monotonic()

    async def _keep(self) -> None:
        """Connect when somebody wants it, and again when the connection is lost."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            child, secrets = list[Child](), list[str]()
            try:
                async with self._connected(child, secrets) as live:
                    self._settle(live)
                    await live.ended.wait()
                    words = hidden(said(" ".join(child[0].said)), *secrets) if child else ""
                    log.warning("mcp_server_ended", target=self._as.target, said=words)
            except (NotSentError, *_FOREIGN) as error:
                why = str(error) if isinstance(error, NotSentError) else repr(_first(error))
                why = hidden(f"{why} {said(' '.join(child[0].said)) if child else ''}".rstrip(), *secrets)
                log.warning("mcp_server_lost", target=self._as.target, why=why)
                if self._live is None:  # else who waits already waits for the next connection
                    self._settle(NotSentError(f"{self._as.target} cannot be reached: {why}"))
            finally:
                self._live = None

    def _settle(self, found: Live | NotSentError) -> None:
        self._live = found if isinstance(found, Live) else None
        waiting, self._next = self._next, None
        if waiting is None or waiting.done():
            return
        if isinstance(found, Live):
            waiting.set_result(found)
        else:
            waiting.set_exception(found)

    @asynccontextmanager
    async def _connected(self, child: list[Child], secrets: list[str]) -> AsyncIterator[Live]:
        async with AsyncExitStack() as stack:
            ended = asyncio.Event()
            async with asyncio.timeout(self._as.start_s):
                if self._as.command:
                    streams, started = await self._start(stack, secrets)
                    child.append(started)
                    ended = started.ended
                else:
                    streams = self._dial(stack, secrets)
                live: Live | None = None

                async def heard(message: object) -> None:
                    if live is not None and isinstance(message, ToolListChangedNotification):
                        live.listed_at = float("-inf")

                client = Client(streams, message_handler=heard, cache=None)
                await stack.enter_async_context(client)
                live = Live(client.session, ended, secrets, await _definitions(client.session), time.monotonic())
            try:
                yield live
            finally:
                ended.set()  # nobody begins a call while it is being closed

    async def _start(self, stack: AsyncExitStack, secrets: list[str]) -> tuple[Any, Child]:
        """The server's process, with the streams to it."""
        env = {name: os.environ[name] for name in self._as.env if name in os.environ}
        for name, file in self._as.env_files.items():
            env[name] = await asyncio.to_thread(read_secret, file)
            secrets.append(env[name])
        command = Command(self._as.command, env, self._as.folder, LARGEST)
        read, write, child = await stack.enter_async_context(stdio(command))
        return _given(read, write), child

    def _dial(self, stack: AsyncExitStack, secrets: list[str]) -> Any:
        """The streams to a server by HTTP."""
        transport = Answering(Bounded(), self._as.auth, secrets)
        waits = httpx2.Timeout(connect=2.0, pool=2.0, write=5.0, read=self._as.longest_s + 5.0)
        client = httpx2.AsyncClient(transport=transport, timeout=waits, trust_env=False)
        stack.push_async_callback(client.aclose)
        return streamable_http_client(self._as.url, http_client=client, max_sse_event_size=LARGEST)


@asynccontextmanager
async def _given(read: Any, write: Any) -> AsyncIterator[tuple[Any, Any]]:
    yield read, write


async def _definitions(session: ClientSession) -> dict[str, Definition]:
    """All tools of the server; one that is defined twice has no digest that could be pinned."""
    found: dict[str, Definition] = {}
    cursor: str | None = None
    for _ in range(_PAGES):
        page = await session.list_tools(params=PaginatedRequestParams(cursor=cursor))
        for tool in page.tools:
            text = tool.description or ""
            digest = _AMBIGUOUS if tool.name in found else definition_digest(tool.name, text, tool.input_schema)
            found[tool.name] = Definition(tool.name, text, tool.input_schema, digest)
        cursor = page.next_cursor
        if cursor is None or len(found) > _TOOLS:
            return found
    return found


def _shown(error: ToolError, secrets: Sequence[str]) -> ToolError:
    text = hidden(str(error), *secrets)
    return ToolRefusedError(error.code, text) if isinstance(error, ToolRefusedError) else type(error)(text)


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
