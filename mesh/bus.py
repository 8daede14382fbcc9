"""The connection to NATS: requests, stored messages by direct get, and what happens on a reconnect.

The rule: every await on the bus has a time limit, and what the bus refused is told with its reason.
"""

import asyncio
import json
import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

import nats
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from mesh import metrics
from mesh.errors import (
    BusUnavailableError,
    ConflictError,
    ForwardedError,
    SettingsError,
    TerminalError,
    TooManyResultsError,
)
from mesh.tls import TlsFiles

log = structlog.get_logger(__name__)

T = TypeVar("T")

Reconnected = Callable[[], Awaitable[None]]

_END_OF_BATCH = "204"
_NOT_FOUND = "404"
_TOO_MANY = "413"
_BLANK = " \t\n\r\x0b\x0c"
_NO_RESPONDERS = "503"
_WRONG_SEQUENCE = 10071
# The server says in these headers where a message it hands out stands. One that was stored with them is its answer to
# a read, sent to a subject that the reader may not write: the server holds no reply subject against the permissions.
SUBJECT_HEADER = "Nats-Subject"
EXPECTED_HEADER = "Nats-Expected-Last-Subject-Sequence"
_FORWARDED = "Nats-Subject-Before"
# A connection that carries nothing any more, and does not say so, is given up in 4 s: about what a dead server costs.
_PING_S, _PINGS = 1, 3
_CANCEL_AGAIN_S = 0.05
_DENIED_MAX = 4096  # subjects that were refused, remembered to say why; the oldest go first


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message as it stands in a stream. ``time`` is the server's RFC 3339 time of storing."""

    stream: str
    subject: str
    seq: int
    time: str
    data: bytes
    headers: Mapping[str, str]

    @property
    def is_forwarded(self) -> bool:
        """Whether nobody published it there: it is an answer of the server that somebody had sent there."""
        return _FORWARDED in self.headers

    def require_published(self) -> None:
        """Raise ``ForwardedError`` for one that is forwarded."""
        if self.is_forwarded:
            raise ForwardedError(self.subject, self.seq)


class Bus:
    """A connected NATS client with time limits. Made by ``connect``; closed by leaving it."""

    def __init__(self, client: Client, *, request_timeout_s: float) -> None:
        self.client = client
        self.request_timeout_s = request_timeout_s
        self.denied: dict[str, str] = {}
        self.connection = 1  # counts: what was heard and kept under one may have a gap under the next
        self._reconnected: list[Reconnected] = []
        self._inbox = client.new_inbox()
        self._replies: dict[str, _Waiting[Any]] = {}
        self._next = 0

    @property
    def is_connected(self) -> bool:
        """Whether the client is connected right now."""
        return self.client.is_connected

    def on_reconnect(self, callback: Reconnected) -> None:
        """Have ``callback`` awaited after each reconnect: what dies silently at a server restart is remade there."""
        self._reconnected.append(callback)

    def refused(self, subject: str, reason: str) -> None:
        """Remember that the server refused a publish, until the next connection, which may have other rights."""
        while len(self.denied) >= _DENIED_MAX:
            del self.denied[next(iter(self.denied))]
        self.denied[subject.lower()] = reason  # nats-py has the subject in lower case

    async def reconnected(self) -> None:
        """Tell everyone who asked that the connection is new."""
        self.denied.clear()
        metrics.RECONNECTS.inc()
        log.info("bus_reconnected", server=str(self.client.connected_url.netloc if self.client.connected_url else ""))
        for callback in self._reconnected:
            await callback()

    async def wait_connected(self, timeout_s: float) -> None:
        """Return once connected; raises ``BusUnavailableError`` after ``timeout_s``."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_s
        while not self.client.is_connected:
            if self.client.is_closed or loop.time() > end:
                raise BusUnavailableError(f"not connected to the bus within {timeout_s:g} s")
            await asyncio.sleep(0.02)

    async def publish(self, subject: str, data: bytes, headers: dict[str, str] | None = None, reply: str = "") -> None:
        """Publish without a confirmation; for acks, hints, and parts of a batch."""
        try:
            await self.client.publish(subject, data, reply=reply, headers=headers)
        except nats.errors.MaxPayloadError as error:
            raise TerminalError(_too_large(subject, data)) from error
        except (nats.errors.Error, OSError) as error:
            raise BusUnavailableError(f"publish to {subject}: {error or type(error).__name__}") from error

    async def request(
        self, subject: str, data: bytes, headers: dict[str, str] | None = None, timeout_s: float | None = None
    ) -> Msg:
        """One request, one answer; raises ``BusUnavailableError`` when none comes in time or nobody listens."""
        limit = timeout_s or self.request_timeout_s
        await self.wait_connected(limit)
        try:
            answer = await self._exchange(_Reply(), subject, data, headers, limit)
        except TimeoutError as error:
            if reason := self.denied.get(subject.lower()):
                raise TerminalError(f"this identity may not publish {subject}: {reason}") from error
            raise BusUnavailableError(f"no answer from {subject} within {limit:g} s") from error
        if (answer.headers or {}).get("Status") == _NO_RESPONDERS:
            raise BusUnavailableError(f"nobody answers {subject}")
        return answer

    async def api(self, name: str, payload: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A JetStream API request; the decoded answer, ``error`` included."""
        answer = await self.request(f"$JS.API.{name}", json.dumps(payload).encode() if payload else b"")
        decoded: dict[str, Any] = json.loads(answer.data)
        return decoded

    async def store(
        self, subject: str, data: bytes, expected: int | None = None, headers: Mapping[str, str] | None = None
    ) -> int:
        """Store one message; its sequence. ``expected`` is the sequence that the subject must stand at; 0 is nothing.

        Raises ``ConflictError`` when something else stands there, and ``BusUnavailableError``, as ``request`` does, or
        when the bus refuses it.
        """
        given = {**(headers or {}), **({} if expected is None else {EXPECTED_HEADER: str(expected)})}
        told = json.loads((await self.request(subject, data, given)).data)
        error = told.get("error")
        if error is None:
            return int(told["seq"])
        if error.get("err_code") == _WRONG_SEQUENCE:
            raise ConflictError(subject, "another copy has put something there since it was read")
        raise BusUnavailableError(
            f"the bus did not store {subject}: {error.get('description')} ({error.get('err_code')})"
        )

    async def last(self, stream: str, subject: str) -> StoredMessage | None:
        """The last message of one subject, or ``None``."""
        found = await self._direct(stream, {"last_by_subj": subject}, batch=False)
        return found[0] if found else None

    async def last_of_each(self, stream: str, filters: list[str]) -> list[StoredMessage]:
        """The last message of each subject that matches, in stream order (at most 1,024 subjects)."""
        found = await self._direct(stream, {"multi_last": filters}, batch=True)
        return sorted(found, key=lambda message: message.seq)

    async def read(self, stream: str, seq: int, limit: int, subject: str = ">") -> list[StoredMessage]:
        """Up to ``limit`` messages from ``seq`` on that match ``subject``, in stream order."""
        return await self._direct(stream, {"seq": max(seq, 1), "batch": limit, "next_by_subj": subject}, batch=True)

    async def first_since(self, stream: str, at: datetime, subject: str = ">") -> StoredMessage | None:
        """The first message that matches and was stored at this time (aware UTC) or after it, or ``None``."""
        request = {"start_time": at.isoformat().replace("+00:00", "Z"), "batch": 1, "next_by_subj": subject}
        found = await self._direct(stream, request, batch=True)
        # Where nothing was stored since then, the server (2.15.1) answers with the first message of all.
        return found[0] if found and datetime.fromisoformat(found[0].time) >= at else None

    async def at(self, stream: str, seq: int) -> StoredMessage | None:
        """The message with this sequence, or ``None`` when it is gone."""
        found = await self._direct(stream, {"seq": seq}, batch=False)
        return found[0] if found else None

    async def settle(self) -> None:
        """Return when the server has taken the subscriptions made so far.

        Twice: nats-py's ``flush`` writes its PING ahead of bytes that still wait, so one is no barrier.
        """
        for _ in range(2):
            try:
                await self.client.flush(timeout=max(1, int(self.request_timeout_s)))
            except (nats.errors.Error, OSError) as error:
                raise BusUnavailableError(f"the bus did not settle: {error or type(error).__name__}") from error

    def connection_lost(self) -> None:
        """Fail at once what waits for an answer that can no longer come."""
        self.connection += 1
        for waiting in list(self._replies.values()):
            if not waiting.done.done():
                waiting.done.set_exception(BusUnavailableError("the connection was lost before the answer came"))

    async def start(self) -> None:
        """Open the inbox of replies."""
        await self.client.subscribe(f"{self._inbox}.*", cb=self._on_reply)

    async def _on_reply(self, message: Msg) -> None:
        replies = self._replies.get(message.subject.rpartition(".")[2])
        if replies is not None:
            replies.take(message)

    async def _direct(self, stream: str, request: Mapping[str, Any], *, batch: bool) -> list[StoredMessage]:
        limit = self.request_timeout_s
        await self.wait_connected(limit)
        replies = _Replies(stream, batch=batch)
        subject = f"$JS.API.DIRECT.GET.{stream}"
        try:
            return await self._exchange(replies, subject, json.dumps(request).encode(), None, limit)
        except TimeoutError as error:
            raise BusUnavailableError(f"no answer to a direct get of {stream}: {request}") from error

    async def _exchange(
        self, waiting: "_Waiting[T]", subject: str, data: bytes, headers: dict[str, str] | None, limit_s: float
    ) -> T:
        """Publish with a reply subject of its own, and wait for what ``waiting`` makes of the answers."""
        self._next += 1
        token = str(self._next)
        self._replies[token] = waiting
        try:
            async with asyncio.timeout(limit_s):
                await self.publish(subject, data, headers, reply=f"{self._inbox}.{token}")
                return await waiting.done
        finally:
            del self._replies[token]


class _Waiting(ABC, Generic[T]):
    """What waits for answers; ``done`` holds what came of them."""

    def __init__(self) -> None:
        self.done: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    @abstractmethod
    def take(self, message: Msg) -> None:
        """Take one answer in."""


class _Reply(_Waiting[Msg]):
    """Waits for one answer."""

    def take(self, message: Msg) -> None:
        if not self.done.done():
            self.done.set_result(message)


class _Replies(_Waiting[list[StoredMessage]]):
    """Collects the answers to one direct get until the end of the batch."""

    def __init__(self, stream: str, *, batch: bool) -> None:
        super().__init__()
        self._stream = stream
        self._batch = batch
        self._messages: list[StoredMessage] = []

    def take(self, message: Msg) -> None:
        headers = message.headers or {}
        status = headers.get("Status", "")
        if self.done.done():
            return
        if status in (_END_OF_BATCH, _NOT_FOUND):
            self.done.set_result(self._messages)
        elif status == _TOO_MANY:
            self.done.set_exception(
                TooManyResultsError(f"a direct get of {self._stream} has more results than one answer")
            )
        elif status:
            self.done.set_exception(BusUnavailableError(f"direct get of {self._stream} answered {headers}"))
        else:
            self._messages.append(
                StoredMessage(
                    stream=headers["Nats-Stream"],
                    subject=headers["Nats-Subject"],
                    seq=int(headers["Nats-Sequence"]),
                    time=headers["Nats-Time-Stamp"],
                    data=message.data,
                    headers=headers,
                )
            )
            if not self._batch:
                self.done.set_result(self._messages)


def _too_large(subject: str, data: bytes) -> str:
    return f"{len(data)} bytes for {subject} are more than the server takes in one message"


class _Client(Client):
    """nats-py's client with a quicker reading of headers: every message of a stream has some.

    With ``tls_files`` it speaks TLS or not at all: left to itself it does what the server's first line asks for.
    """

    tls_files: TlsFiles | None = None

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """What the files hold now: they may have been renewed since the last connection."""
        try:
            return (self.tls_files or TlsFiles()).context()
        except SettingsError as error:  # it goes on trying, as with any other failed connection
            raise nats.errors.Error(str(error)) from error

    def _connect_command(self) -> bytes:
        if self.tls_files is not None and not self._server_info.get("tls_required"):
            raise nats.errors.Error("the server speaks plain text, and TLS was asked for")
        return bytes(super()._connect_command())

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        headers: dict[str, str] = {}
        for line in raw.decode("utf-8", "replace").split("\r\n"):
            name, colon, value = line.partition(":")
            name = name.strip(_BLANK)
            if colon and name.isascii() and "".join(name.split()) == name:
                if name == SUBJECT_HEADER and name in headers:
                    headers[_FORWARDED] = headers[name]
                headers[name] = value.strip(_BLANK)
        return headers


async def _within(work: Coroutine[Any, Any, None], limit_s: float) -> None:
    """Await, for ``limit_s`` at most; raises ``TimeoutError``.

    It is cancelled until it ends: ``asyncio.wait_for``, which nats-py uses, loses a cancellation now and then (3.11),
    and a client that a server refuses would then try for ever.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait([task], timeout=limit_s)
        if not done:
            raise TimeoutError
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=_CANCEL_AGAIN_S)
    task.result()


class _Listener:
    """What the client tells of its connection, passed on to the bus.

    ``told`` is the server's last refusal, else the last error: a server that refuses a user closes the connection,
    and the client may see only the reset of the tries after it.
    """

    def __init__(self) -> None:
        self.bus: Bus | None = None
        self.told = ""
        self._refused = False

    async def on_error(self, error: Exception) -> None:
        text = str(error)
        refused = "authorization" in text.lower()
        if refused or not self._refused:
            self.told, self._refused = text, refused
        if "permissions violation for publish" in text.lower() and self.bus is not None:
            subject = text.split('"')[1] if text.count('"') > 1 else text.rpartition(" ")[2].strip("'\"")
            self.bus.refused(subject, text)
        log.warning("bus_error", error=text or type(error).__name__)

    async def on_disconnect(self) -> None:
        log.warning("bus_disconnected")
        if self.bus is not None:
            self.bus.connection_lost()

    async def on_reconnect(self) -> None:
        if self.bus is not None:
            await self.bus.reconnected()


@asynccontextmanager
async def connect(
    url: str,
    *,
    name: str,
    options: Mapping[str, Any] | None = None,
    tls: TlsFiles | None = None,
    connect_timeout_s: float = 5.0,
    request_timeout_s: float = 3.0,
) -> AsyncIterator[Bus]:
    """Connect and stay connected: reconnects for ever, with the same subscriptions; closes on leaving.

    ``url`` may be several, joined by commas: the servers of one cluster; it goes on with the next when one is away.
    ``options`` are further arguments of ``nats.connect`` (an identity's). With ``tls``, or where one address is
    ``tls://``, nothing is said in plain text. Raises ``BusUnavailableError``, and ``SettingsError`` for wrong files.
    """
    listener = _Listener()
    client = _Client()
    urls = [each.strip() for each in url.split(",")]
    if tls is not None or any(each.startswith("tls://") for each in urls):
        client.tls_files = tls or TlsFiles()
        client.tls_files.context()
    try:
        connecting = client.connect(
            urls,
            name=name,
            error_cb=listener.on_error,
            disconnected_cb=listener.on_disconnect,
            reconnected_cb=listener.on_reconnect,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.1,  # type: ignore[arg-type]  # slept as a float
            connect_timeout=2,
            ping_interval=_PING_S,
            max_outstanding_pings=_PINGS,
            pending_size=16 * 1024 * 1024,
            allow_reconnect=True,
            **(options or {}),
        )
        await _within(connecting, connect_timeout_s)
    except (nats.errors.Error, OSError, TimeoutError) as error:
        await client.close()
        reason = listener.told or str(error) or type(error).__name__
        raise BusUnavailableError(f"cannot connect to {url} as {name}: {reason}") from error
    bus = listener.bus = Bus(client, request_timeout_s=request_timeout_s)
    try:
        await bus.start()
        yield bus
    finally:
        try:
            await client.close()
        except (nats.errors.Error, OSError) as error:  # it closes all the same, while it is reconnecting for one
            log.debug("bus_closed_while_away", error=str(error) or type(error).__name__)
