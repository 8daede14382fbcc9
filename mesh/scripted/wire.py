"""Answers as they go over the connection: whole, in events, or broken off.

The rule: what is broken off looks to the client as a network fault does, not as an answer.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import msgspec
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState


class Connection(H11Protocol):
    """uvicorn's connection, which a request can reach to break it off."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, {**app_state, "connection": self}, _loop)


class Dropped(Response):
    """Breaks the connection off, at once or in the middle of an answer."""

    def __init__(self, begun: Response | None = None) -> None:
        super().__init__()
        self._begun = begun

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send half the answer, if there is one, and close."""
        transport = scope["state"]["connection"].transport
        if self._begun is None:
            transport.abort()
        else:
            half = bytes(self._begun.body)[: len(self._begun.body) // 2]
            headers, status = self._begun.raw_headers, self._begun.status_code
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": half, "more_body": True})
            transport.close()
        while (await receive())["type"] != "http.disconnect":
            pass


def as_json(content: object, status: int = 200) -> Response:
    """An answer in JSON."""
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def as_events(events: Iterable[bytes]) -> Response:
    """An answer in server-sent events."""
    return StreamingResponse(_each(events), media_type="text/event-stream")


async def _each(events: Iterable[bytes]) -> AsyncIterator[bytes]:
    for event in events:
        yield event
        await asyncio.sleep(0)
