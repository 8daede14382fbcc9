"""The registry over HTTP: what it is asked, and what each of its answers and failures says of how far a request got.

The rule: ``NotSentError`` only where nothing changed, ``ToolRefusedError`` only on the registry's word; else uncertain.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx2
import msgspec

from mesh.clock import unix
from mesh.errors import NotSentError, ToolError, ToolRefusedError, UncertainError
from mesh.tools import ToolCall
from packs.outbreak.arguments import Change
from packs.outbreak.wire import Answer, Refusal, SeriesView, WeekView

# A tool gives up after 5 s (packs.outbreak.tools); each wait here ends sooner, so the error can still say more.
TIMEOUT = httpx2.Timeout(connect=1.0, pool=1.0, write=1.0, read=4.0)
# Idle connections are dropped before the registry does so (uvicorn: after 5 s), else a request may meet a closed one.
LIMITS = httpx2.Limits(max_connections=32, max_keepalive_connections=32, keepalive_expiry=3.0)

_NOTHING_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)

T = TypeVar("T")


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the registry's log: its place, the key that the change came with, and what it was."""

    seq: int
    key: str
    kind: str


class _Log(msgspec.Struct):
    changes: tuple[LogLine, ...]


class RegistryClient:
    """A client of one registry, with its pool of connections."""

    def __init__(self, url: str, client: httpx2.AsyncClient) -> None:
        self._url = url.rstrip("/")
        self._client = client

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator[Self]:
        """A client of the registry at this URL; nothing is sent yet."""
        async with httpx2.AsyncClient(timeout=TIMEOUT, limits=LIMITS, trust_env=False) as client:
            yield cls(url, client)

    async def series(self, place: str, disease: str, week: str) -> SeriesView:
        """A series up to a week; raises ``NotSentError`` when the registry cannot tell."""
        return await self._get("/series", SeriesView, place=place, disease=disease, week=week)

    async def week(self, place: str, disease: str, week: str, source: str) -> WeekView:
        """What bears on a number of a source; raises ``NotSentError`` when the registry cannot tell."""
        return await self._get("/week", WeekView, place=place, disease=disease, week=week, source=source)

    async def changes(self, after: int) -> tuple[LogLine, ...]:
        """A page of the registry's log behind a sequence; raises ``NotSentError`` when the registry cannot tell."""
        return (await self._get("/changes", _Log, after=str(after), limit="500")).changes

    async def change(self, kind: str, args: Change, call: ToolCall) -> Answer:
        """Make a change once under the call's key; raises a ``ToolError`` that says how far it got."""
        if unix() >= call.call_by:
            raise NotSentError(f"the time to send {call.key} is over")
        content = msgspec.json.encode({"kind": kind, "args": args, "approved_by": call.approved_by})
        headers = {
            "content-type": "application/json",
            "idempotency-key": call.key,
            "request-deadline": f"{call.call_by:.6f}",
        }
        if call.traceparent:
            headers["traceparent"] = call.traceparent
        response = await self._send(httpx2.Request("POST", f"{self._url}/changes", headers=headers, content=content))
        if response.status_code != httpx2.codes.OK:
            raise _failure(response, f"{call.key} at POST /changes")
        try:
            return msgspec.json.decode(response.content, type=Answer)
        except msgspec.DecodeError as error:
            raise UncertainError(f"{call.key}: answered what is no change: {error}") from error

    async def change_of(self, key: str) -> Answer | None:
        """What took effect under this key, or ``None``; raises ``NotSentError`` when the registry cannot tell."""
        response = await self._read(f"/changes/{quote(key, safe='')}", {})
        if response.status_code == httpx2.codes.NOT_FOUND and _refusal(response).error == "unknown_key":
            return None
        return _decoded(response, Answer)

    async def _get(self, path: str, kind: type[T], **query: str) -> T:
        return _decoded(await self._read(path, query), kind)

    async def _read(self, path: str, query: dict[str, Any]) -> httpx2.Response:
        try:
            return await self._send(httpx2.Request("GET", self._url + path, params=query))
        except ToolError as error:
            raise NotSentError(str(error)) from error

    async def _send(self, request: httpx2.Request) -> httpx2.Response:
        try:
            return await self._client.send(request)
        except _NOTHING_SENT as error:
            raise NotSentError(f"the registry at {self._url} cannot be reached: {error!r}") from error
        except httpx2.RequestError as error:
            raise UncertainError(f"{request.method} {request.url.path} got no answer: {error!r}") from error


def _decoded(response: httpx2.Response, kind: type[T]) -> T:
    if response.status_code != httpx2.codes.OK:
        raise NotSentError(f"GET {response.request.url.path} answered {_said(response)}")
    try:
        return msgspec.json.decode(response.content, type=kind)
    except msgspec.DecodeError as error:
        raise NotSentError(f"GET {response.request.url.path} answered what is no {kind.__name__}: {error}") from error


def _failure(response: httpx2.Response, what: str) -> ToolError:
    """What an answer other than 200 says of a change."""
    status, refusal = response.status_code, _refusal(response)
    message = f"{what}: {refusal.detail or _said(response)}"
    if status == httpx2.codes.TOO_MANY_REQUESTS or refusal.error == "deadline_passed":
        return NotSentError(message)  # said of a request that changed nothing
    if status == httpx2.codes.REQUEST_TIMEOUT or not 400 <= status < 500:
        return UncertainError(message)
    return ToolRefusedError(refusal.error or f"http_{status}", message)


def _refusal(response: httpx2.Response) -> Refusal:
    try:
        return msgspec.json.decode(response.content, type=Refusal)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Refusal()


def _said(response: httpx2.Response) -> str:
    return f"{response.status_code} {_refusal(response).error}".rstrip()
