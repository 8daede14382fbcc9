"""The CMS's HTTP interface: pages are put on the revision in ``If-Match``, everything is changed under a key.

The one rule: all SQLite work runs in one dedicated thread, so there is one writer at a time and HTTP never waits on it.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, ParamSpec, TypeVar

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from packs.content.cms.changes import AnyChange, PutPage
from packs.content.cms.documents import Page
from packs.content.cms.faults import FaultInjector
from packs.content.cms.store import Refused, Stale, Store

P = ParamSpec("P")
T = TypeVar("T")

MAX_BODY_BYTES = 64 * 1024
MAX_KEY_LENGTH = 255
LOG_PAGE = 1_000

log = structlog.get_logger()
_changes = msgspec.json.Decoder(AnyChange)


class Invalid(Exception):
    """The request is not well formed; the message says what was expected."""


class Cms:
    """The HTTP endpoints over one store."""

    def __init__(self, store: Store, faults: FaultInjector) -> None:
        self._store = store
        self._faults = faults
        store.before_commit = partial(faults.reached, "crash_before_commit")
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="cms-store")

    def application(self) -> Starlette:
        """Build the Starlette application."""
        routes = [
            Route("/health", self.health),
            Route("/staff", self.staff),
            Route("/glossary/{locale}", self.glossary),
            Route("/articles", self.articles),
            Route("/articles/{slug}", self.article),
            Route("/articles/{slug}/{locale}", self.head),
            Route("/articles/{slug}/{locale}/{revision:int}", self.page),
            Route("/merges/{name}", self.merge),
            Route("/outbox", self.outbox),
            Route("/changes", self.log, methods=["GET"]),
            Route("/changes", self.change, methods=["POST"]),
            Route("/changes/{key:path}", self.find, methods=["GET"]),
        ]
        return Starlette(routes=routes, exception_handlers=HANDLERS, lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        with self._thread:
            yield

    async def health(self, _: Request) -> Response:
        """Say that the CMS runs."""
        return _json({"status": "ok"})

    async def staff(self, _: Request) -> Response:
        """Answer the staff with their load."""
        return _json(await self._run(self._store.staff))

    async def glossary(self, request: Request) -> Response:
        """Answer the translations into a language."""
        return _json(await self._run(self._store.glossary, request.path_params["locale"]))

    async def articles(self, _: Request) -> Response:
        """Answer every article."""
        return _json(await self._run(self._store.articles))

    async def article(self, request: Request) -> Response:
        """Answer all that holds of an article; one without a brief is not there."""
        return _json(await self._run(self._store.article, request.path_params["slug"]))

    async def head(self, request: Request) -> Response:
        """Answer the head of a text, its revision as the ETag."""
        path = request.path_params
        article = await self._run(self._store.article, path["slug"])
        return _page(article.page(path["locale"]))

    async def page(self, request: Request) -> Response:
        """Answer one revision of a text."""
        path = request.path_params
        return _page(await self._run(self._store.page, path["slug"], path["locale"], path["revision"]))

    async def merge(self, request: Request) -> Response:
        """Answer a merge."""
        return _found(await self._run(self._store.merge, request.path_params["name"]))

    async def outbox(self, request: Request) -> Response:
        """Answer the events that the CMS has to tell, with their sequences."""
        events = await self._run(self._store.outbox, _whole_number(request, "after"))
        return _json([{"seq": seq, "event": msgspec.Raw(event)} for seq, event in events])

    async def log(self, request: Request) -> Response:
        """Answer a page of the log of changes."""
        return _json(await self._run(self._store.log, _whole_number(request, "after"), LOG_PAGE))

    async def find(self, request: Request) -> Response:
        """Answer what a key did."""
        return _found(await self._run(self._store.done, request.path_params["key"]))

    async def change(self, request: Request) -> Response:
        """Carry out one change."""
        key = request.headers.get("idempotency-key", "")
        if not 1 <= len(key) <= MAX_KEY_LENGTH:
            raise Invalid(f"the Idempotency-Key header is required, with 1 to {MAX_KEY_LENGTH} characters")
        try:
            wanted = _changes.decode(await _body(request))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Invalid(str(error)) from error
        if_match = _revision(request.headers.get("if-match", "")) if isinstance(wanted, PutPage) else None
        deadline = _seconds(request.headers.get("request-deadline"))
        self._faults.reached("crash_on_request")
        if self._faults.fails_before():
            return _refusal(500, "fault", "failed before anything was done")
        done = await self._run(self._commit, key, wanted, if_match, deadline)
        if not done.replayed and self._faults.fails_after():
            return _refusal(500, "fault", "failed after the commit")
        return _json(done)

    def _commit(self, *args: Any) -> Any:
        done = self._store.apply(*args)
        if not done.replayed:
            self._faults.reached("crash_after_commit")
        return done

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(work, *args, **kwargs))


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise Invalid(f"the body must have at most {MAX_BODY_BYTES} bytes")
    return bytes(body)


def _json(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), status, headers, "application/json")


def _refusal(status: int, code: str, detail: str = "", headers: dict[str, str] | None = None) -> Response:
    return _json({"error": code, "detail": detail}, status, headers)


def _found(content: object | None) -> Response:
    return _refusal(404, "unknown") if content is None else _json(content)


def _page(page: Page | None) -> Response:
    return _refusal(404, "unknown") if page is None else _json(page, headers={"etag": f'"{page.revision}"'})


def _revision(text: str) -> int:
    """The revision in an ``If-Match`` (RFC 9110 13.1.1): a page is never put without one; ``"0"`` is none yet."""
    digits = text.removeprefix('"').removesuffix('"')
    if text != f'"{digits}"' or not (digits.isascii() and digits.isdigit() and len(digits) < 10):
        raise Invalid('a page is put with If-Match: "<revision>", "0" for the first one')
    return int(digits)


def _whole_number(request: Request, name: str) -> int:
    text = request.query_params.get(name, "0")
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Invalid(f"{name} must be a whole number, not {text!r}")
    return int(text)


def _seconds(text: str | None) -> float | None:
    try:
        seconds = None if text is None else float(text)
    except ValueError:
        seconds = math.nan
    if seconds is not None and not math.isfinite(seconds):
        raise Invalid(f"Request-Deadline must be Unix seconds, not {text!r}")
    return seconds


async def _invalid(_: Request, error: Exception) -> Response:
    return _refusal(400, "invalid", str(error))


async def _stale(_: Request, error: Exception) -> Response:
    head = getattr(error, "head", 0)
    return _refusal(412, "stale", str(error), {"etag": f'"{head}"'})


async def _refused(_: Request, error: Exception) -> Response:
    code = getattr(error, "code", "refused")
    return _refusal(408 if code == "deadline_passed" else 409, code, str(error))


async def _http_error(_: Request, error: Any) -> Response:
    return _refusal(error.status_code, error.detail.lower().replace(" ", "_"))


async def _internal(request: Request, error: Exception) -> Response:
    log.error("request_failed", method=request.method, path=request.url.path, error=repr(error))
    return _refusal(500, "internal")


HANDLERS: dict[Any, Any] = {
    Invalid: _invalid,
    Stale: _stale,
    Refused: _refused,
    HTTPException: _http_error,
    Exception: _internal,
}
