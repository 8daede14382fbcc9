"""Intake's HTTP server: ``POST /events`` and ``POST /webhooks/<source>``.

The rule: 202 is said only of what is on disk; every other answer says what is wrong, where, and what to do.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agents.intake.arrival import CUT, Arrival
from agents.intake.cloud import RequestError, split, structured
from agents.intake.door import Admitted, ConflictingError, Door, Ready, Source
from agents.intake.pressure import Pressure
from agents.intake.signatures import UnsignedError, check
from agents.intake.tokens import Token
from mesh import faultpoints, metrics, subjects
from mesh.admission import Rejected, read
from mesh.clock import now, unix
from mesh.errors import RetryableError, TerminalError
from mesh.pack import Pack
from mesh.settings import IntakeSettings
from mesh.tokens import TokenFile

log = structlog.get_logger(__name__)

_BODY_S = 30.0  # a sender that trickles is not waited for
_DURABLE_S = 10.0
_DRAINED = 8  # bodies too large by less are read to their end: else their senders see a broken line, and no answer
_AGAIN_S = "5"
_STRANGERS_MAX = 256  # bodies at once of senders that only their signature will tell
_SECRET = re.compile(r"authorization|cookie|token|secret|passw|api-?key")  # in the names of headers that are not kept

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Hook:
    """The secrets of a webhook (read anew for each request, so that they can be changed), and how old one may be."""

    secrets: Callable[[], Sequence[str]]
    window_s: float


class Reception:
    """The endpoints."""

    def __init__(
        self,
        door: Door,
        pressure: Pressure,
        packs: Mapping[str, Pack],
        settings: IntakeSettings,
        tokens: TokenFile[Token],
        sources: Mapping[str, Source],
        hooks: Mapping[str, Hook],
    ) -> None:
        self._door = door
        self._pressure = pressure
        self._packs = packs
        self._settings = settings
        self._tokens = tokens
        self._sources = sources
        self._hooks = hooks
        self._strangers = 0

    def app(self) -> Starlette:
        """The ASGI application."""
        routes = [
            Route("/events", self._answering(self._events), methods=["POST"]),
            Route("/webhooks/{source}", self._answering(self._webhook), methods=["POST"]),
            Route("/health", self._health, methods=["GET"]),
        ]
        return Starlette(routes=routes, exception_handlers={HTTPException: _no_such_path})

    async def _events(self, request: Request) -> Response:
        sender = self._require_token(request)
        body = await self._body(request)
        parts, is_batch = split(_headers(request), body)
        ready = [
            self._ready(sender, data, headers, f"/{n}" if is_batch else "") for n, (data, headers) in enumerate(parts)
        ]
        try:
            async with asyncio.timeout(_DURABLE_S):
                admitted = await self._door.admit(ready)
        except ConflictingError as error:
            pointer = f"/{error.place}/id" if is_batch else "/id"
            raise RequestError(409, f"{error}: give a change an id of its own", pointer) from error
        await faultpoints.reach("intake.before_answer")
        said = [_said(each) for each in admitted]
        return JSONResponse(said if is_batch else said[0], 202)

    def _ready(self, sender: Token | None, data: bytes, headers: Mapping[str, str], pointer: str) -> Ready:
        found = read(data, headers, self._packs)
        if isinstance(found, Rejected):
            raise RequestError(400, found.detail, pointer + found.pointer)
        for name in ("channel", "original"):
            if getattr(found.event, name):
                raise RequestError(400, "is set by intake: leave it out", f"{pointer}/{name}")
        if sender is not None and not sender.may(found.domain):
            raise RequestError(403, f"{sender.name} may not send events of {found.domain}", f"{pointer}/type")
        return Ready(found, structured(found.event) if headers else data)

    async def _webhook(self, request: Request) -> Response:
        name = request.path_params["source"]
        hook = self._hooks.get(name)
        if hook is None:
            raise RequestError(404, f"no webhook {name!r} is configured here")
        source = self._sources[name]
        scheme = source.mapping.signature
        sender = self._require_token(request) if scheme == "none" else None
        if sender is not None:
            _require_domains(sender, source)
        body = await (self._body(request) if scheme == "none" else self._strangers_body(request))
        headers = _headers(request)
        if scheme != "none":
            try:
                check(scheme, body, headers, hook.secrets(), at=unix(), window_s=hook.window_s)
            except UnsignedError as error:
                raise RequestError(401, str(error)) from error
        kept = {header: value for header, value in headers.items() if header != CUT and not _SECRET.search(header)}
        arrival = Arrival(
            source=name,
            key=sha256(body).hexdigest(),
            data=body,
            content_type=headers.get("content-type", "application/json"),
            received_at=now(),
            headers=kept,
        )
        await faultpoints.reach("intake.before_taking")
        async with asyncio.timeout(_DURABLE_S):
            taken = await self._door.take(arrival)
        said = {
            "events": [_said(each) for each in taken.events],
            "quarantined": taken.quarantined,
            "ignored": taken.ignored,
        }
        await faultpoints.reach("intake.before_answer")
        return JSONResponse(said, 202)

    async def _health(self, request: Request) -> Response:
        if self._pressure.is_cut_off:
            return JSONResponse({"status": "the bus is away or full"}, 503)
        return JSONResponse({"status": "ok"})

    def _require_token(self, request: Request) -> Token | None:
        """Whose request this is; ``None`` for one with a client's certificate, where those are asked for."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if not given and self._settings.tls_clients:
            return None
        found = self._tokens.find(given.strip()) if scheme.lower() == "bearer" and given else None
        if found is None:
            reason = "send a token: `Authorization: Bearer <token>` (made by `workmesh intake token NAME`)"
            raise RequestError(401, reason, headers={"WWW-Authenticate": 'Bearer realm="workmesh"'})
        return found

    async def _strangers_body(self, request: Request) -> bytes:
        """The body of who has shown nothing yet: while it comes, it takes no place of those who have."""
        if self._strangers >= _STRANGERS_MAX:
            raise RequestError(429, "too many bodies come at once", headers={"Retry-After": _AGAIN_S})
        self._strangers += 1
        self._pressure.in_flight -= 1
        try:
            return await self._body(request)
        finally:
            self._pressure.in_flight += 1
            self._strangers -= 1

    async def _body(self, request: Request) -> bytes:
        most = self._settings.max_body_bytes
        too_large = RequestError(413, f"the body is larger than {most} bytes", headers={"Connection": "close"})
        found, size = bytearray(), 0
        try:
            async with asyncio.timeout(_BODY_S):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size <= most:
                        found += chunk
                    elif size > _DRAINED * most:
                        raise too_large
        except TimeoutError:
            raise RequestError(408, f"the body did not come within {_BODY_S:.0f} s") from None
        if size > most:
            raise too_large
        return bytes(found)

    def _answering(self, endpoint: Endpoint) -> Endpoint:
        """Back-pressure before the body is read, and the answers for what is not taken."""

        async def answer(request: Request) -> Response:
            response = await self._answer(endpoint, request)
            metrics.INTAKE_REQUESTS.labels(status=str(response.status_code)).inc()
            return response

        return answer

    async def _answer(self, endpoint: Endpoint, request: Request) -> Response:
        if self._pressure.is_cut_off:
            return _refusal(RequestError(503, "the bus is away or full", headers={"Retry-After": _AGAIN_S}))
        if wait_s := self._pressure.retry_after_s():
            return _refusal(RequestError(429, "too much waits here", headers={"Retry-After": str(wait_s)}))
        self._pressure.in_flight += 1
        try:
            return await endpoint(request)
        except RequestError as error:
            log.info("request_refused", path=request.url.path, status=error.status, reason=str(error))
            return _refusal(error)
        except (RetryableError, TerminalError, TimeoutError) as error:
            log.warning("request_not_taken", path=request.url.path, reason=str(error) or "not durable in time")
            reason = f"{error or 'not on disk in time'}: send it again, the same id is the same event"
            return _refusal(RequestError(503, reason, headers={"Retry-After": _AGAIN_S}))
        except ClientDisconnect:
            return Response(status_code=400)
        finally:
            self._pressure.in_flight -= 1


def _require_domains(sender: Token, source: Source) -> None:
    wrong = [rule.type for rule in source.mapping.rules if rule.type and not sender.may(subjects.domain_of(rule.type))]
    if wrong:
        raise RequestError(403, f"{sender.name} may not send what becomes {', '.join(wrong)}")


def _headers(request: Request) -> dict[str, str]:
    """The headers by lower-case name; of one that comes twice the values joined by a comma."""
    found: dict[str, str] = {}
    for name, value in request.headers.items():
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _said(admitted: Admitted) -> dict[str, Any]:
    return {"task_id": admitted.task_id, "seq": admitted.seq or None, "duplicate": admitted.is_duplicate}


def _refusal(error: RequestError) -> Response:
    said = {"error": error.reason, "pointer": error.pointer}
    return JSONResponse(said, error.status, headers=error.headers)


async def _no_such_path(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    reason = "POST /events or /webhooks/<source>" if status in (404, 405) else "not taken"
    return _refusal(RequestError(status, f"{request.method} {request.url.path}: {reason}"))
