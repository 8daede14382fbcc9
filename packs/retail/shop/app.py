"""The shop's HTTP interface.

The one rule: all SQLite work runs in one dedicated thread, so there is one writer at a time and HTTP never waits on it.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
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

from packs.retail.shop.answers import Answer, DeadlinePassed, KeyReused, LogEntry, Terms, UnknownKey
from packs.retail.shop.documents import ChangeRequest
from packs.retail.shop.faults import FaultInjector, Faults
from packs.retail.shop.rules import RuleViolation
from packs.retail.shop.store import Store

P = ParamSpec("P")
T = TypeVar("T")

MAX_BODY_BYTES = 64 * 1024
MAX_KEY_LENGTH = 255
MAX_LOG_PAGE = 10_000

log = structlog.get_logger()


class Invalid(Exception):
    """The request is not well formed; the message says what was expected."""


class Refusal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Every answer that is not a 200: a code, and words where there are any."""

    error: str
    detail: str | None = None


class LogPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the log of applied changes."""

    changes: list[LogEntry]


class Shop:
    """The HTTP endpoints over one store; `faults` is None unless the shop was started to be faulty."""

    def __init__(self, store: Store, faults: FaultInjector | None) -> None:
        self._store = store
        self._may_be_faulty = faults is not None
        self._faults = faults or FaultInjector(Faults())
        store.before_commit = partial(self._faults.reached, "crash_before_commit")
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="shop-store")

    def application(self) -> Starlette:
        """Build the Starlette application."""
        return Starlette(routes=self._routes(), exception_handlers=HANDLERS, lifespan=self._lifespan)

    def _routes(self) -> list[Route]:
        routes = [
            Route("/health", self.health),
            Route("/lookup", self.lookup),
            Route("/customers", self.customers),
            Route("/export", self.export),
            Route("/changes", self.list_changes, methods=["GET"]),
            Route("/changes", self.change, methods=["POST"]),
            Route("/changes/{key:path}/undo", self.undo, methods=["POST"]),
            Route("/changes/{key:path}", self.find_change, methods=["GET"]),
        ]
        if self._may_be_faulty:
            routes += [
                Route("/faults", self.show_faults, methods=["GET"]),
                Route("/faults", self.put_faults, methods=["PUT"]),
            ]
        return routes

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        with self._thread:
            yield

    async def health(self, _: Request) -> Response:
        """Say that the shop runs."""
        return _json({"status": "ok"})

    async def lookup(self, request: Request) -> Response:
        """Answer one order, one user and any variants, null where there is none."""
        query = request.query_params
        wanted = query.get("order"), query.get("user"), query.getlist("variant")
        found = await self._run(self._store.lookup, *wanted, siblings=query.get("siblings") == "yes")
        return _json(found)

    async def customers(self, request: Request) -> Response:
        """Answer who has an address."""
        return _json({"users": await self._run(self._store.customers, request.query_params.get("email", ""))})

    async def export(self, _: Request) -> Response:
        """Answer every order and user."""
        return _json(await self._run(self._store.export))

    async def list_changes(self, request: Request) -> Response:
        """Answer a page of the log."""
        after = _whole_number(request.query_params.get("after", "0"), "after")
        limit = min(_whole_number(request.query_params.get("limit", "1000"), "limit"), MAX_LOG_PAGE)
        return _json(LogPage(changes=await self._run(self._store.log, after, limit)))

    async def find_change(self, request: Request) -> Response:
        """Answer what a key did."""
        return _json(await self._run(self._store.answer, request.path_params["key"]))

    async def change(self, request: Request) -> Response:
        """Carry out one change request."""
        key, terms = self._key_and_terms(request)
        try:
            wanted = msgspec.json.decode(await _body(request), type=ChangeRequest)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Invalid(str(error)) from error
        return await self._commit(partial(self._store.apply, key, wanted, terms))

    async def undo(self, request: Request) -> Response:
        """Take one change back."""
        key, terms = self._key_and_terms(request)
        return await self._commit(partial(self._store.undo, key, request.path_params["key"], terms))

    async def show_faults(self, _: Request) -> Response:
        """Answer the faults in force."""
        return _json(self._faults.current)

    async def put_faults(self, request: Request) -> Response:
        """Put a whole new set of faults in force; absent fields take their defaults."""
        try:
            self._faults.set(msgspec.json.decode(await _body(request), type=Faults))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Invalid(str(error)) from error
        return _json(self._faults.current)

    def _key_and_terms(self, request: Request) -> tuple[str, Terms]:
        key, deadline = request.headers.get("idempotency-key", ""), request.headers.get("request-deadline")
        if not 1 <= len(key) <= MAX_KEY_LENGTH:
            raise Invalid(f"the Idempotency-Key header is required, with 1 to {MAX_KEY_LENGTH} characters")
        faults = self._faults.current
        honour = faults.keys == "honour"
        until = None if deadline is None else _seconds(deadline)
        return key, Terms(deadline=until, honour_keys=honour, refuse_kinds=faults.refuse_kinds)

    async def _commit(self, work: Callable[[], Answer]) -> Response:
        self._faults.reached("crash_on_request")
        if self._faults.fails_before():
            return _json(Refusal(error="fault", detail="failed before anything was done"), 500)
        if delay_ms := self._faults.current.delay_ms:
            await asyncio.sleep(delay_ms / 1000)
        answer = await self._run(self._committed, work)
        if not answer.replayed and self._faults.fails_after():
            return _json(Refusal(error="fault", detail="failed after the commit"), 500)
        return _json(answer)

    def _committed(self, work: Callable[[], Answer]) -> Answer:
        answer = work()
        if not answer.replayed:
            self._faults.reached("crash_after_commit")
        return answer

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(work, *args, **kwargs))


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise Invalid(f"the body must have at most {MAX_BODY_BYTES} bytes")
    return bytes(body)


def _json(content: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status_code=status, media_type="application/json")


def _whole_number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Invalid(f"{name} must be a whole number, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError as error:
        raise Invalid(f"Request-Deadline must be Unix seconds, not {text!r}") from error
    if not math.isfinite(seconds):
        raise Invalid(f"Request-Deadline must be Unix seconds, not {text!r}")
    return seconds


def _refuse(status: int, say: Callable[[Any], Refusal]) -> Callable[[Request, Any], Awaitable[Response]]:
    async def handler(_: Request, error: Any) -> Response:
        return _json(say(error), status)

    return handler


async def _http_error(_: Request, error: Any) -> Response:
    return _json(Refusal(error=error.detail.lower().replace(" ", "_")), error.status_code)


async def _internal(request: Request, error: Exception) -> Response:
    log.error("request_failed", method=request.method, path=request.url.path, error=repr(error))
    return _json(Refusal(error="internal"), 500)


HANDLERS: dict[Any, Any] = {
    Invalid: _refuse(400, lambda error: Refusal(error="invalid", detail=str(error))),
    UnknownKey: _refuse(404, lambda _: Refusal(error="unknown_key")),
    DeadlinePassed: _refuse(408, lambda _: Refusal(error="deadline_passed")),
    RuleViolation: _refuse(409, lambda error: Refusal(error=error.code, detail=error.detail)),
    KeyReused: _refuse(422, lambda _: Refusal(error="key_reused")),
    HTTPException: _http_error,
    Exception: _internal,
}
