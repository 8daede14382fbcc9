"""Serves ``/metrics``, ``/health`` and ``/ready`` from a thread: it costs 0.1 MB, uvicorn would cost 5.

The rule: ``/health`` and ``/ready`` are answered by the event loop, so a process whose loop hangs is neither. Who is
not healthy is started anew; who is not ready yet, or has lost the bus, is only waited for.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import msgspec
from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from mesh.errors import SettingsError
from mesh.settings import MetricsSettings

Health = Callable[[], str]
"""Says in words why the process is not healthy, or not ready; nothing when it is."""

_LOOP_ANSWERS_S = 2.0


@asynccontextmanager
async def serve(settings: MetricsSettings, health: Health = str, ready: Health = str) -> AsyncIterator[str]:
    """Serve until left; yields the URL, or "" when the port is -1. Raises ``SettingsError`` when it is taken."""
    if settings.port < 0:
        yield ""
        return
    app = _app(asyncio.get_running_loop(), {"/health": health, "/ready": ready})
    try:
        server = make_server(settings.host, settings.port, app, _Server, _QuietHandler)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise SettingsError(f"metrics cannot be served on {where} ({error.strerror}): set metrics.port") from error
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="metrics", daemon=True)
    thread.start()
    try:
        host = settings.address or settings.host
        yield f"http://{f'[{host}]' if ':' in host else host}:{server.server_port}"
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()


class _Server(ThreadingWSGIServer):
    block_on_close = False  # a scraper that hangs does not hold up the end of the process


class _QuietHandler(WSGIRequestHandler):
    timeout = 10.0

    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes are not worth a line."""


def _app(loop: asyncio.AbstractEventLoop, asked: Mapping[str, Health]) -> Callable[..., Iterable[bytes]]:
    metrics = make_wsgi_app()

    async def ask(path: str) -> str:
        return asked[path]()

    def reason(path: str) -> str:
        answer = asyncio.run_coroutine_threadsafe(ask(path), loop)
        try:
            return answer.result(_LOOP_ANSWERS_S)
        except TimeoutError:
            answer.cancel()
            return f"the event loop did not answer within {_LOOP_ANSWERS_S:g} s"

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            page: Iterable[bytes] = metrics(environ, start_response)
            return page
        if path not in asked:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"here are /metrics, /health and /ready\n"]
        why = reason(path)
        start_response("503 Service Unavailable" if why else "200 OK", [("Content-Type", "application/json")])
        return [msgspec.json.encode({"status": "failing", "reason": why} if why else {"status": "ok"})]

    return app
