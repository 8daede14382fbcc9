"""An HTTP server inside a process: its socket, its end, and whose signals it leaves alone."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from mesh.errors import SettingsError
from mesh.lifetime import background

_BACKLOG = 1024
_HEAD_S = 10.0  # the head of a request comes in this time
_CONNECTIONS_MAX = 2000  # open at once; those beyond are closed


@dataclass(frozen=True, slots=True)
class Tls:
    """A server's certificate and key, and the authorities that its clients must have a certificate of ("": any)."""

    certificate: str
    key: str
    clients: str = ""

    def context(self) -> ssl.SSLContext:
        """The context of the server; raises ``SettingsError`` naming the file that cannot be used."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.certificate, self.key or None)
            if self.clients:
                context.load_verify_locations(self.clients)
                context.verify_mode = ssl.CERT_REQUIRED
        except OSError as error:
            raise SettingsError(f"TLS with {self.certificate}, {self.key}, {self.clients}: {error}") from error
        return context


class _Protocol(H11Protocol):
    """HTTP/1.1 that waits only so long for the head of a request, and for the rest of one that is answered."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection that says nothing is not kept."""
        super().connection_made(transport)
        if len(self.connections) > _CONNECTIONS_MAX:
            transport.abort()
            return
        self._deadline = self.loop.call_later(_HEAD_S, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let its timer go."""
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """What came; the first byte of a head begins its time."""
        super().data_received(data)
        if not self._is_idle():
            self._stop()
        elif self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(_HEAD_S, self._too_slow)

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _too_slow(self) -> None:
        self._deadline = None
        if self._is_idle():
            self.transport.abort()

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _unambiguous(app: Callable[..., Any]) -> Callable[..., Any]:
    """The application, which is not asked where a request has both a length and a transfer coding.

    Some proxies go by the one, some by the other: what they take for a body could be the next request here (RFC 9112,
    6.1 and 11.2). Two different lengths are refused by the parser already.
    """

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        names = {name for name, _ in scope.get("headers", ())}
        if not {b"content-length", b"transfer-encoding"} <= names:
            await app(scope, receive, send)
            return
        headers = [(b"connection", b"close"), (b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 400, "headers": headers})
        await send({"type": "http.response.body", "body": b"both a length and a transfer coding"})

    return answer


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the process, not to a server inside it."""
        yield


@asynccontextmanager
async def serving(
    app: Callable[..., Any],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: Tls | None = None,
    drain_s: int = 5,
    keep_alive_s: int = 30,
    http: type[H11Protocol] | None = None,
    closing: Callable[[], None] = lambda: None,
    **config: Any,
) -> AsyncIterator[str]:
    """Serve an ASGI application while the block runs; its address. Port 0 takes a free one.

    ``closing`` is called before it stops; requests that are under way then have ``drain_s``. ``http`` is a
    protocol other than the one that bounds what a sender may do; ``config`` is uvicorn's.
    Raises ``SettingsError`` when it cannot listen there.
    """
    options = uvicorn.Config(
        _unambiguous(app),
        ws="none",
        http=http or _Protocol,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=keep_alive_s,
        timeout_graceful_shutdown=drain_s,
        **config,
    )
    options.load()
    if tls is not None:
        options.ssl = tls.context()
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise SettingsError(f"cannot listen on {host} port {port}: {error.strerror}") from error
    with listener:
        server = _Server(options)
        async with background(server.serve(sockets=[listener]), "http") as running:
            shown = f"[{host}]" if ":" in host else host
            try:
                yield f"{'https' if tls else 'http'}://{shown}:{listener.getsockname()[1]}"
            finally:
                closing()
                server.should_exit = True
                await asyncio.wait([running])
