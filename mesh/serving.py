"""An HTTP server inside a process: its socket, its end, and whose signals it leaves alone."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn

from mesh.errors import SettingsError
from mesh.lifetime import background

_BACKLOG = 1024


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
    closing: Callable[[], None] = lambda: None,
    **config: Any,
) -> AsyncIterator[str]:
    """Serve an ASGI application while the block runs; its address. Port 0 takes a free one.

    ``closing`` is called before it stops; requests that are under way then have ``drain_s``. ``config`` is uvicorn's.
    Raises ``SettingsError`` when it cannot listen there.
    """
    options = uvicorn.Config(
        app,
        ws="none",
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
