"""Requests to a service, and what each answer and failure says of how far one got.

The rule: "not sent" where no connection was made or the service says it did nothing; a server's fault is uncertain.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, Self
from urllib.parse import urlencode

import httpx2
import msgspec

from mesh.clock import unix
from mesh.errors import NotSentError, ToolError, ToolRefusedError, UncertainError
from mesh.mounts.http import NOTHING_SENT, Bounded, said
from mesh.mounts.openapi_document import Operation
from mesh.mounts.secret import Auth, hidden
from mesh.records import NULL, Json
from mesh.tools import ToolCall

_READ_S = 600.0  # the tool's own time-out ends sooner
_KEPT_LONG = (httpx2.codes.TOO_MANY_REQUESTS, httpx2.codes.TOO_EARLY)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a service is, and how it is spoken to."""

    target: str
    url: str
    auth: Auth | None
    connect_s: float
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Settling:
    """What a tool tells the service with each call, for its effects' sake."""

    tool: str
    read_only: bool
    key_header: str = ""
    call_by_header: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """How to ask what came of a key."""

    operation: Operation
    key: str
    found: str


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a service answered: its JSON, or its text. All of it is text from outside."""

    status: int
    data: Json = NULL
    text: str = ""


class Service:
    """A client of one service."""

    def __init__(self, address: Address, client: httpx2.AsyncClient) -> None:
        self._at = address
        self._client = client

    @classmethod
    @asynccontextmanager
    async def open(cls, address: Address) -> AsyncIterator[Self]:
        """The client; nothing is sent yet."""
        waits = httpx2.Timeout(connect=address.connect_s, pool=address.connect_s, write=5.0, read=_READ_S)
        bounded = Bounded(address.max_bytes)
        async with httpx2.AsyncClient(transport=bounded, timeout=waits, trust_env=False) as client:
            yield cls(address, client)

    async def call(self, operation: Operation, args: Mapping[str, Any], settling: Settling, call: ToolCall) -> Answer:
        """Call an operation once; raises a ``ToolError`` that says how far it got."""
        request, secrets = self._request(operation, args, call)
        if settling.key_header:
            request.headers[settling.key_header] = call.key
        if settling.call_by_header:
            request.headers[settling.call_by_header] = formatdate(call.call_by, usegmt=True)
        if not settling.read_only and unix() >= call.call_by:
            raise NotSentError(f"the time to call {settling.tool} for {call.key} is over")
        response = await self._send(request, secrets)
        if response.is_success:
            return _answer(response, secrets)
        raise self._failure(response, settling, secrets)

    async def find(self, question: Question, call: ToolCall) -> Answer | None:
        """What came of the call's key: an answer, or ``None``. Raises a ``ToolError`` when the service does not say."""
        request, secrets = self._request(question.operation, {question.key: call.key}, call)
        response = await self._send(request, secrets)
        if response.status_code == httpx2.codes.NOT_FOUND:
            return None
        if not response.is_success:
            raise self._failure(response, Settling(question.operation.id, True), secrets)
        answer = _answer(response, secrets)
        return answer if _has(answer.data, question.found) else None

    def _request(
        self, operation: Operation, args: Mapping[str, Any], call: ToolCall
    ) -> tuple[httpx2.Request, tuple[str, ...]]:
        path, query, headers = operation.target(args)
        if any(part in (".", "..") for part in path.split("/")):
            raise ToolRefusedError("invalid_arguments", f"{operation.id}: a part of its path is {path!r}")
        if wrong := [name for name, value in headers.items() if not (value.isascii() and value.isprintable())]:
            raise ToolRefusedError("invalid_arguments", f"{operation.id}: {wrong[0]} holds what no header can")
        content = msgspec.json.encode(args["body"]) if "body" in args and operation.body is not None else None
        if content is not None:
            headers["content-type"] = "application/json"
        if call.traceparent:
            headers["traceparent"] = call.traceparent
        url = httpx2.URL(self._at.url.rstrip("/") + path)
        try:
            request = self._client.build_request(
                operation.method.upper(),
                url.copy_with(query=urlencode(query).encode()) if query else url,
                headers=headers,
                content=content,
            )
        except (httpx2.InvalidURL, ValueError) as error:
            raise ToolRefusedError("invalid_arguments", f"{operation.id}: no request can be made: {error}") from error
        return request, self._at.auth.put(request) if self._at.auth else ()

    async def _send(self, request: httpx2.Request, secrets: tuple[str, ...]) -> httpx2.Response:
        what = f"{request.method} {request.url.path} of {self._at.target}"
        try:
            return await self._client.send(request, follow_redirects=False)
        except NOTHING_SENT as error:
            raise NotSentError(hidden(f"{self._at.target} cannot be reached: {error!r}", *secrets)) from None
        except httpx2.RequestError as error:
            raise UncertainError(hidden(f"{what} got no answer: {error!r}", *secrets)) from None

    def _failure(self, response: httpx2.Response, settling: Settling, secrets: tuple[str, ...]) -> ToolError:
        """What an answer that is no success says of a call."""
        status = response.status_code
        message = hidden(f"{settling.tool}: {self._at.target} answered {status}: {said(response.text)}", *secrets)
        if status in _KEPT_LONG or (status == httpx2.codes.SERVICE_UNAVAILABLE and "retry-after" in response.headers):
            return NotSentError(message)  # the service says that it has not begun
        if status == httpx2.codes.CONFLICT and settling.key_header:
            return UncertainError(message)  # a call with this key is under way (draft-ietf-httpapi-idempotency-key)
        if status == httpx2.codes.REQUEST_TIMEOUT or not 300 <= status < 500:
            return UncertainError(message)
        if status in (httpx2.codes.MOVED_PERMANENTLY, httpx2.codes.FOUND, httpx2.codes.SEE_OTHER):
            return UncertainError(message)  # these may answer what was done; none is followed, to no host
        return ToolRefusedError(f"http_{status}", message)


def _answer(response: httpx2.Response, secrets: tuple[str, ...]) -> Answer:
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        text = hidden(response.text, *secrets)
        try:
            msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            raise UncertainError(f"{response.request.url.path} answered what is no JSON: {error}") from error
        return Answer(status=response.status_code, data=Json(text.encode()))
    return Answer(status=response.status_code, text=hidden(response.text, *secrets))


def _has(data: Json, pointer: str) -> bool:
    found = msgspec.json.decode(data)
    for part in pointer.split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and part.isdigit() and int(part) < len(found):
            found = found[int(part)]
        elif isinstance(found, dict) and part in found:
            found = found[part]
        else:
            return False
    return found is not None
