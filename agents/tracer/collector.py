"""One request of OTLP over HTTP (https://opentelemetry.io/docs/specs/otlp/#otlphttp), and what its answer means.

The rule: an answer says of a batch that it is taken, that it is bad, or that it is to come again. One about the address
or the credentials says nothing of the batch, which then waits for better settings.
"""

import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import httpx2
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from agents.tracer.target import Target
from mesh.errors import WorkmeshError

Why = Literal["away", "busy", "settings"]

_OK = range(200, 300)
_BUSY = (429, 502, 503, 504)  # those that the specification lets come again
_SETTINGS = (401, 403, 404, 405, 407)
_TOO_LARGE = 413
_RETRY_MAX_S = 300.0
_TOLD_MAX = 65_536  # of an answer: it holds a sentence


class WaitError(WorkmeshError):
    """The batch was not taken and may come again, after ``after_s`` where the collector named a time."""

    def __init__(self, why: Why, message: str, after_s: float | None = None) -> None:
        super().__init__(message)
        self.why = why
        self.after_s = after_s


class BadBatchError(WorkmeshError):
    """The collector will never take this batch."""


class TooLargeError(BadBatchError):
    """The batch has more bytes than the collector takes at once."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A batch that is with the collector, but for ``refused`` spans of it."""

    refused: int = 0
    why: str = ""


class Collector:
    """A collector over HTTP. Made by ``collector``."""

    def __init__(self, client: httpx2.AsyncClient, target: Target) -> None:
        self._client = client
        self._target = target
        self._headers = {
            **target.headers,
            "content-type": "application/x-protobuf",
            **({"content-encoding": "gzip"} if target.compress else {}),
        }

    async def send(self, request: ExportTraceServiceRequest) -> Taken:
        """Hand over a batch; raises ``WaitError``, ``TooLargeError`` or ``BadBatchError``."""
        body = request.SerializeToString()
        if self._target.compress:
            body = gzip.compress(body, 6)
        try:
            async with self._client.stream("POST", self._target.url, content=body, headers=self._headers) as answer:
                told = await _told(answer)
        except httpx2.HTTPError as error:
            raise WaitError("away", f"{type(error).__name__} {error}".strip()) from error
        return _meaning(answer, told)


@asynccontextmanager
async def collector(target: Target, timeout_s: float) -> AsyncIterator[Collector]:
    """The collector at this address; raises ``SettingsError`` for TLS files that cannot be used."""
    verify = target.tls() if target.url.startswith("https") else False
    async with httpx2.AsyncClient(verify=verify, timeout=timeout_s, trust_env=False) as client:
        yield Collector(client, target)


async def _told(answer: httpx2.Response) -> bytes:
    """The beginning of an answer's body."""
    told = b""
    async for chunk in answer.aiter_bytes():
        told += chunk
        if len(told) > _TOLD_MAX:
            break
    return told[:_TOLD_MAX]


def _meaning(answer: httpx2.Response, told: bytes) -> Taken:
    status = answer.status_code
    if status in _OK:
        return _partly(told)
    said = f"it answered {status}"
    if status in _BUSY:
        raise WaitError("busy", said, _after_s(answer))
    if status in _SETTINGS or 300 <= status < 400:
        raise WaitError("settings", f"{said}: look at traces.endpoint and at the headers")
    if status == _TOO_LARGE:
        raise TooLargeError(said)
    raise BadBatchError(said)


def _partly(told: bytes) -> Taken:
    """What a success says; an answer that is no message of OTLP is one all the same: the status counts."""
    try:
        partial = ExportTraceServiceResponse.FromString(told).partial_success
    except DecodeError:
        return Taken()
    return Taken(max(0, int(partial.rejected_spans)), partial.error_message)


def _after_s(answer: httpx2.Response) -> float | None:
    try:
        return min(max(0.0, float(answer.headers.get("retry-after", ""))), _RETRY_MAX_S)
    except ValueError:  # none, or a date: then our own pace
        return None
