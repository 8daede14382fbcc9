"""The Messages API over HTTP on loopback, answered from conversations: what tests and the demonstration ask.

The rule: what the official client can tell apart is told apart here: ids, headers, error bodies, streams and batches.
"""

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mesh import clock
from mesh.scripted import batches
from mesh.scripted.calls import Call
from mesh.scripted.conversations import Conversation, load
from mesh.scripted.provider import Provider, Terms
from mesh.scripted.recording import Recorder
from mesh.scripted.replies import Refused, error_body
from mesh.scripted.stream import events
from mesh.scripted.wire import Connection, Dropped, as_events, as_json
from mesh.serving import serving

Source = Path | Conversation
Handler = Callable[[Request, str], Awaitable[Response]]

_MAX_BYTES = 32 * 1024 * 1024  # the provider's limit; of a batch 256 MB
_MAX_BATCH_BYTES = 256 * 1024 * 1024
_KEEP_ALIVE_S = 3600  # a client never finds a connection of its pool closed by us
_DRAIN_S = 2
_RELEASED = "2025-01-01T00:00:00Z"


class ScriptedModel:
    """The running server: where it is, what it was asked, and what it is to say."""

    def __init__(self, url: str, provider: Provider) -> None:
        self.url = url
        self._provider = provider

    @property
    def calls(self) -> list[Call]:
        """Every request up to now, and what of it is billed."""
        return list(self._provider.calls())

    @property
    def billed(self) -> list[Call]:
        """The requests that are billed."""
        return [call for call in self._provider.calls() if call.billed]

    @property
    def traceparents(self) -> list[str]:
        """The ``traceparent`` of every request to a model, "" where there was none."""
        return list(self._provider.traceparents)

    def add(self, *sources: Source) -> None:
        """Have it answer by these first; raises ``SettingsError`` where a file is wrong."""
        self._provider.script.add(read_all(sources))


@asynccontextmanager
async def scripted_model(
    sources: Iterable[Source] = (),
    *,
    port: int = 0,
    terms: Terms | None = None,
    recorder: Recorder | None = None,
    now: Callable[[], float] = clock.unix,
) -> AsyncIterator[ScriptedModel]:
    """Serve these conversations on loopback while the block runs; port 0 takes a free one.

    With a ``recorder``, what none of them is meant for is asked and recorded there.
    """
    provider = Provider(terms or Terms(), now)
    provider.script.add(read_all(sources))
    app = Starlette(routes=_Api(provider, recorder).routes(), exception_handlers={HTTPException: _no_such_path})
    async with serving(
        app, port=port, http=Connection, drain_s=_DRAIN_S, keep_alive_s=_KEEP_ALIVE_S, closing=provider.closing.set
    ) as url:
        yield ScriptedModel(url, provider)


def read_all(sources: Iterable[Source]) -> list[Conversation]:
    """The conversations of files and those given as such, in order."""
    found: list[Conversation] = []
    for source in sources:
        found += load(source) if isinstance(source, Path) else [source]
    return found


class _Api:
    def __init__(self, provider: Provider, recorder: Recorder | None) -> None:
        self._provider = provider
        self._terms = provider.terms
        self._recorder = recorder

    def routes(self) -> list[Route]:
        one = batches.PATH + "/{id}"
        served: list[tuple[str, str, Handler]] = [
            ("POST", "/v1/messages", self._message),
            ("POST", "/v1/messages/count_tokens", self._count),
            ("POST", batches.PATH, self._create_batch),
            ("GET", batches.PATH, self._list_batches),
            ("GET", one, self._find_batch),
            ("DELETE", one, self._delete_batch),
            ("POST", one + "/cancel", self._cancel_batch),
            ("GET", one + "/results", self._batch_results),
            ("GET", "/v1/models", self._models),
            ("GET", "/v1/models/{id}", self._model),
        ]
        routes = [Route(path, self._as_the_provider(handler), methods=[method]) for method, path, handler in served]
        return [*routes, Route("/_scripted/calls", self._calls)]

    def _as_the_provider(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Who asks, what is to fail, and the headers that every answer has."""

        async def endpoint(request: Request) -> Response:
            request_id = self._provider.name("req")
            try:
                self._check(request)
                fault = self._provider.script.fault(request.url.path)
                request.state.lost = fault is not None
                await self._provider.think(fault.delay_s if fault else 0.0)
                if fault and fault.status:
                    raise Refused(fault.status, fault.error, fault.retry_after)
                if fault and fault.disconnect == "before":
                    return Dropped()
                response = await handler(request, request_id)
                if fault:
                    return Dropped(response if fault.disconnect == "midway" else None)
            except Refused as error:
                response = as_json(error_body(error.status, str(error), request_id), error.status)
                if error.retry_after is not None:
                    response.headers["retry-after"] = _seconds(error.retry_after)
            response.headers["request-id"] = request_id
            response.headers.update(self._provider.limits.headers())
            return response

        return endpoint

    def _check(self, request: Request) -> None:
        given = request.headers.get("x-api-key") or request.headers.get("authorization", "").removeprefix("Bearer ")
        if not given or self._terms.api_key not in ("", given):
            raise Refused(401, "invalid x-api-key")
        if "anthropic-version" not in request.headers:
            raise Refused(400, "anthropic-version: header is required")

    async def _message(self, request: Request, request_id: str) -> Response:
        body = await _body(request, _MAX_BYTES)
        self._provider.traceparents.append(request.headers.get("traceparent", ""))
        asked, recorder = self._provider.read(body), self._recorder

        async def listens() -> bool:
            return not request.state.lost and not await request.is_disconnected()

        elsewhere = partial(recorder.ask, asked, body, request.headers) if recorder else None
        answered = await self._provider.answer(asked, request_id, listens, elsewhere)
        if answered.drop in ("before", "after"):
            return Dropped()
        if answered.malformed:
            return Response(answered.malformed, media_type="application/json")
        if answered.drop and answered.stream:
            return Dropped(Response(b"".join(events(answered.message)), media_type="text/event-stream"))
        whole = as_events(events(answered.message)) if answered.stream else as_json(answered.message)
        return Dropped(whole) if answered.drop else whole

    async def _count(self, request: Request, _: str) -> Response:
        asked = self._provider.read(await _body(request, _MAX_BYTES), counting=True)
        return as_json({"input_tokens": asked.tokens})

    async def _create_batch(self, request: Request, _: str) -> Response:
        return self._batch(request, self._provider.batches.create(await _body(request, _MAX_BATCH_BYTES)))

    async def _find_batch(self, request: Request, _: str) -> Response:
        return self._batch(request, self._provider.batches.find(request.path_params["id"]))

    async def _cancel_batch(self, request: Request, _: str) -> Response:
        return self._batch(request, self._provider.batches.cancel(request.path_params["id"]))

    async def _delete_batch(self, request: Request, _: str) -> Response:
        batch_id = request.path_params["id"]
        self._provider.calls()
        self._provider.batches.delete(batch_id)
        return as_json({"id": batch_id, "type": "message_batch_deleted"})

    async def _batch_results(self, request: Request, _: str) -> Response:
        lines = self._provider.batches.results(request.path_params["id"])
        return Response(b"".join(msgspec.json.encode(line) + b"\n" for line in lines), media_type="application/x-jsonl")

    async def _list_batches(self, request: Request, _: str) -> Response:
        query = request.query_params
        limit = query.get("limit", "20")
        if not limit.isdecimal():
            raise Refused(400, f"limit: a whole number, not {limit!r}")
        after, before = query.get("after_id", ""), query.get("before_id", "")
        return as_json(self._provider.batches.page(after, before, int(limit), _url(request)))

    def _batch(self, request: Request, batch: batches.Batch) -> Response:
        return as_json(self._provider.batches.plain(batch, _url(request)))

    async def _models(self, _: Request, __: str) -> Response:
        data = [_model_info(name) for name in self._names()]
        first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
        return as_json({"data": data, "has_more": False, "first_id": first, "last_id": last})

    async def _model(self, request: Request, _: str) -> Response:
        name = request.path_params["id"]
        if name not in self._names():
            raise Refused(404, f"model: {name}")
        return as_json(_model_info(name))

    def _names(self) -> tuple[str, ...]:
        return self._terms.models or self._provider.script.models()

    async def _calls(self, _: Request) -> Response:
        return as_json(self._provider.calls())


async def _body(request: Request, most: int) -> Any:
    """The JSON of a request; one that is too large is read to its end, so that the client hears why."""
    body, size = bytearray(), 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= most:
            body += chunk
    if size > most:
        raise Refused(413, f"Request exceeds the maximum size of {most} bytes")
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise Refused(400, f"The request body is not valid JSON: {error}") from error


async def _no_such_path(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    return as_json(error_body(status, f"{request.method} {request.url.path} is not served here", ""), status)


def _model_info(name: str) -> dict[str, Any]:
    return {"id": name, "type": "model", "display_name": name, "created_at": _RELEASED, "lifecycle": "active"}


def _url(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def _seconds(retry_after: float) -> str:
    """Whole seconds, as the header has them, but for less than one: a test cannot wait that long."""
    return str(math.ceil(retry_after)) if retry_after > 1 else f"{retry_after:.3f}"
