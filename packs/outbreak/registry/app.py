"""The registry's HTTP interface, and its public pages.

The one rule: all SQLite work runs in one dedicated thread, so there is one writer at a time and HTTP never waits on it.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any, ParamSpec, TypeVar

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from packs.outbreak.arguments import CHANGES, SeriesArgs
from packs.outbreak.page import POLICY, index, served
from packs.outbreak.registry import alerts
from packs.outbreak.registry.faults import FaultInjector, Faults
from packs.outbreak.registry.rules import DeadlinePassed, KeyReused, RuleViolation, UnknownKey
from packs.outbreak.registry.store import Store, Terms
from packs.outbreak.wire import AlertLine, Answer, Refusal

P = ParamSpec("P")
T = TypeVar("T")

MAX_BODY_BYTES = 64 * 1024
MAX_KEY_LENGTH = 255
MAX_LOG_PAGE = 10_000

log = structlog.get_logger()

_HEADERS = {"content-security-policy": POLICY, "x-content-type-options": "nosniff"}


class Invalid(Exception):
    """The request is not well formed; the message says what was expected."""


class ChangeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change: its kind, its arguments, and the people who approved it."""

    kind: str
    args: msgspec.Raw
    approved_by: Annotated[tuple[str, ...], msgspec.Meta(max_length=20)] = ()


class RegistryApp:
    """The endpoints over one store."""

    def __init__(self, store: Store, faults: FaultInjector | None = None) -> None:
        self._store = store
        self._faults = faults or FaultInjector(Faults())
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="registry-store")

    def application(self) -> Starlette:
        """The Starlette application."""
        routes = [
            Route("/", self.show_alerts),
            Route("/health", self.health),
            Route("/series", self.series),
            Route("/week", self.week),
            Route("/export", self.export),
            Route("/changes", self.list_changes, methods=["GET"]),
            Route("/changes", self.change, methods=["POST"]),
            Route("/changes/{key:path}", self.find_change, methods=["GET"]),
            Route("/alerts/{alert}", self.show_alert),
        ]
        return Starlette(routes=routes, exception_handlers=HANDLERS, lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        with self._thread:
            yield

    async def health(self, _: Request) -> Response:
        """Say that the registry runs."""
        return _json({"status": "ok"})

    async def series(self, request: Request) -> Response:
        """A series up to a week."""
        return _json(await self._run(self._store.series, _series_args(request)))

    async def week(self, request: Request) -> Response:
        """What bears on a number of a source for a week."""
        source = request.query_params.get("source", "")
        return _json(await self._run(self._store.week, _series_args(request), source))

    async def export(self, _: Request) -> Response:
        """All numbers, alerts and notices."""
        return _json(await self._run(self._store.export))

    async def list_changes(self, request: Request) -> Response:
        """A page of the log."""
        after = _whole_number(request.query_params.get("after", "0"), "after")
        limit = min(_whole_number(request.query_params.get("limit", "1000"), "limit"), MAX_LOG_PAGE)
        return _json({"changes": await self._run(self._store.log, after, limit)})

    async def find_change(self, request: Request) -> Response:
        """What a key did."""
        return _json(await self._run(self._store.answer, request.path_params["key"]))

    async def show_alerts(self, _: Request) -> Response:
        """The public list of alerts."""
        return HTMLResponse(index(await self._run(alerts.alerts_of, self._store.db)), headers=_HEADERS)

    async def show_alert(self, request: Request) -> Response:
        """The public page of one alert."""
        page, line = await self._run(self._page, request.path_params["alert"])
        return HTMLResponse(served(page, line), headers=_HEADERS)

    def _page(self, alert: str) -> tuple[str, AlertLine]:
        page, line = alerts.page_of(self._store.db, alert), alerts.alert_line(self._store.db, alert)
        if page is None or line is None:
            raise HTTPException(404)
        return page, line

    async def change(self, request: Request) -> Response:
        """Make one change, once under its key."""
        key, deadline = request.headers.get("idempotency-key", ""), request.headers.get("request-deadline")
        if not 1 <= len(key) <= MAX_KEY_LENGTH:
            raise Invalid(f"the Idempotency-Key header is required, with 1 to {MAX_KEY_LENGTH} characters")
        try:
            wanted = msgspec.json.decode(await _body(request), type=ChangeRequest)
            if wanted.kind not in CHANGES:
                raise Invalid(f"kind: expected one of {', '.join(CHANGES)}, not {wanted.kind!r}")
            args = msgspec.json.decode(wanted.args, type=CHANGES[wanted.kind])
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Invalid(str(error)) from error
        until = None if deadline is None else _seconds(deadline)
        terms = Terms(key=key, deadline=until, approved_by=wanted.approved_by)

        def work() -> Answer:
            self._store.before_commit = partial(self._faults.reached, "crash_before_commit", wanted.kind)
            answer = self._store.apply(wanted.kind, args, terms)
            if not answer.replayed:
                self._faults.reached("crash_after_commit", wanted.kind)
            return answer

        return _json(await self._run(work))

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(work, *args, **kwargs))


def _series_args(request: Request) -> SeriesArgs:
    wanted = {name: request.query_params.get(name, "") for name in SeriesArgs.__struct_fields__}
    try:
        return msgspec.convert(wanted, SeriesArgs)
    except msgspec.ValidationError as error:
        raise Invalid(str(error)) from error


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
