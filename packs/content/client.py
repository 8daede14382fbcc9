"""The CMS over HTTP: what it is asked, and what each of its answers and failures says of how far a request got.

The rule: ``NotSentError`` only where nothing changed, ``ToolRefusedError`` only on the CMS's word; else uncertain.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self, TypeVar
from urllib.parse import quote

import httpx2
import msgspec

from mesh.clock import unix
from mesh.errors import NotSentError, ToolError, ToolRefusedError, UncertainError
from packs.content.cms.changes import AnyChange
from packs.content.cms.documents import Article, Done, Entry, Merge, Page, Person

# A tool gives up after 3 s (packs.content.tools); each wait here ends sooner, so the error can still say more.
TIMEOUT = httpx2.Timeout(connect=0.5, pool=0.5, write=0.5, read=1.8)
# Idle connections are dropped before the CMS does so (uvicorn: after 5 s), else a request may meet a closed one.
LIMITS = httpx2.Limits(max_connections=32, max_keepalive_connections=32, keepalive_expiry=3.0)

_NOTHING_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
T = TypeVar("T")


class StaleError(ToolRefusedError):
    """The page has moved on (412): it is at ``head`` now."""

    def __init__(self, head: int, message: str) -> None:
        super().__init__("stale", message)
        self.head = head


class _Refusal(msgspec.Struct, frozen=True, kw_only=True):
    error: str = ""
    detail: str = ""


class Cms:
    """A client of one CMS, with its pool of connections."""

    def __init__(self, url: str, client: httpx2.AsyncClient) -> None:
        self._url = url.rstrip("/")
        self._client = client

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, waits: httpx2.Timeout = TIMEOUT) -> AsyncIterator[Self]:
        """A client of the CMS at this URL; nothing is sent yet."""
        async with httpx2.AsyncClient(timeout=waits, limits=LIMITS, trust_env=False) as client:
            yield cls(url, client)

    async def article(self, slug: str) -> Article:
        """All that holds of an article; raises ``NotSentError`` when the CMS cannot tell, as all reads do."""
        return await self._get(f"/articles/{_part(slug)}", Article)

    async def articles(self) -> list[Article]:
        """Every article."""
        return await self._get("/articles", list[Article])

    async def page(self, slug: str, locale: str, revision: int) -> Page | None:
        """One revision of a text."""
        return await self._find(f"/articles/{_part(slug)}/{_part(locale)}/{revision}", Page)

    async def merge(self, name: str) -> Merge | None:
        """A merge, open or not."""
        return await self._find(f"/merges/{_part(name)}", Merge)

    async def staff(self) -> list[Person]:
        """The staff with their load."""
        return await self._get("/staff", list[Person])

    async def glossary(self, locale: str) -> dict[str, str]:
        """The studio's translations into a language."""
        return await self._get(f"/glossary/{_part(locale)}", dict[str, str])

    async def done(self, key: str) -> Done | None:
        """What took effect under a key."""
        return await self._find(f"/changes/{_part(key)}", Done)

    async def changes(self, after: int) -> list[Entry]:
        """A page of the CMS's log of changes, behind this sequence."""
        return await self._get(f"/changes?after={after}", list[Entry])

    async def change(
        self, change: AnyChange, *, key: str, call_by: float, on: int | None = None, traceparent: str = ""
    ) -> Done:
        """Carry out a change once under its key, not after ``call_by``; a page on the revision ``on``.

        Raises ``NotSentError``, ``UncertainError`` or ``ToolRefusedError``, of which ``StaleError`` is one.
        """
        if unix() >= call_by:
            raise NotSentError(f"the time to send {key} is over")
        headers = {"content-type": "application/json", "idempotency-key": key, "request-deadline": f"{call_by:.6f}"}
        if on is not None:
            headers["if-match"] = f'"{on}"'
        if traceparent:
            headers["traceparent"] = traceparent
        body = msgspec.json.encode(change)
        response = await self._send(httpx2.Request("POST", f"{self._url}/changes", headers=headers, content=body))
        if response.status_code != httpx2.codes.OK:
            raise _failure(response, key)
        try:
            return msgspec.json.decode(response.content, type=Done)
        except msgspec.DecodeError as error:
            raise UncertainError(f"{key}: answered what is no change: {error}") from error

    async def _get(self, path: str, kind: type[T]) -> T:
        found = await self._find(path, kind)
        if found is None:
            raise NotSentError(f"GET {path}: not there")
        return found

    async def _find(self, path: str, kind: type[T]) -> T | None:
        try:
            response = await self._send(httpx2.Request("GET", self._url + path))
        except ToolError as error:
            raise NotSentError(str(error)) from error
        if response.status_code == httpx2.codes.NOT_FOUND and _refusal(response).error == "unknown":
            return None
        if response.status_code != httpx2.codes.OK:
            raise NotSentError(f"GET {path} answered {response.status_code}")
        try:
            return msgspec.json.decode(response.content, type=kind)
        except msgspec.DecodeError as error:
            raise NotSentError(f"GET {path} answered what is none: {error}") from error

    async def _send(self, request: httpx2.Request) -> httpx2.Response:
        try:
            return await self._client.send(request)
        except _NOTHING_SENT as error:
            raise NotSentError(f"the CMS at {self._url} cannot be reached: {error!r}") from error
        except httpx2.RequestError as error:
            raise UncertainError(f"{request.method} {request.url.path} got no answer: {error!r}") from error


def _failure(response: httpx2.Response, key: str) -> ToolError:
    """What an answer other than 200 says of a change."""
    status, refusal = response.status_code, _refusal(response)
    message = refusal.detail or f"{key}: {status} {refusal.error}"
    if status == httpx2.codes.PRECONDITION_FAILED:
        digits = response.headers.get("etag", "").strip('"')
        return StaleError(int(digits) if digits.isdigit() else 0, message)
    if status == httpx2.codes.TOO_MANY_REQUESTS or refusal.error == "deadline_passed":
        return NotSentError(message)  # said of a request that changed nothing
    if status == httpx2.codes.REQUEST_TIMEOUT or not 400 <= status < 500:
        return UncertainError(message)
    return ToolRefusedError(refusal.error or f"http_{status}", message)


def _refusal(response: httpx2.Response) -> _Refusal:
    try:
        return msgspec.json.decode(response.content, type=_Refusal)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Refusal()


def _part(text: str) -> str:
    return quote(text, safe="")
