"""What an MCP server's answers and failures say of a call, and what is taken of an answer.

The rule: "not sent" and "refused" only where that is certain, or the server's own word; everything else is uncertain.
"""

import secrets as random
from collections.abc import Iterable
from typing import Any

import httpx2
import msgspec
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CONNECTION_CLOSED,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    CallToolResult,
    EmbeddedResource,
    ResourceLink,
    TextContent,
    TextResourceContents,
)

from mesh.errors import NotSentError, ToolError, ToolRefusedError, UncertainError
from mesh.mounts.http import NOTHING_SENT, said
from mesh.mounts.secret import Auth, hidden
from mesh.records import NULL, Json

_NOT_TAKEN = frozenset({401, 403, 404, 405, 413, 429})  # said before a request is looked at
_REFUSED = frozenset({INVALID_PARAMS, METHOD_NOT_FOUND})
# Known to this process only, so that no server can claim that its call was not sent.
_OWN = random.token_hex(16)
_SESSION_ENDED = "Session terminated"  # the SDK's word for 404 in a session


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """What a tool answered: text from outside, all of it.

    ``structured`` is its JSON, if it gave some; ``left_out`` tells of parts that are no text; ``truncated`` says that
    there was more than the mount takes.
    """

    text: str = ""
    structured: Json = NULL
    left_out: tuple[str, ...] = ()
    truncated: bool = False


def output_of(result: CallToolResult, max_bytes: int, secrets: Iterable[str] = ()) -> Output:
    """What is taken of an answer: at most so many bytes of text, and of JSON; without these secrets."""
    texts: list[str] = []
    left_out: list[str] = []
    for part in result.content:
        match part:
            case TextContent():
                texts.append(part.text)
            case EmbeddedResource(resource=TextResourceContents() as resource):
                texts.append(resource.text)
            case ResourceLink():
                left_out.append(said(f"link {part.uri}"))
            case _:
                left_out.append(part.type)
    whole = hidden("\n".join(texts), *secrets).encode("utf-8", "replace")
    text = whole[:max_bytes].decode("utf-8", "ignore")
    structured = NULL
    large = len(whole) > max_bytes
    if result.structured_content is not None:
        raw = hidden(msgspec.json.encode(result.structured_content).decode(), *secrets).encode()
        large = large or len(raw) > max_bytes
        structured = Json(raw) if len(raw) <= max_bytes else NULL
    return Output(text=text, structured=structured, left_out=tuple(left_out[:100]), truncated=large)


def fate(error: MCPError, what: str) -> tuple[ToolError, bool]:
    """What a protocol error says of a call, and whether the connection is over."""
    message = f"{what}: {said(error.message)}"
    if isinstance(error.data, dict) and error.data.get("own") == _OWN:
        return NotSentError(message) if error.data["not_sent"] else UncertainError(message), True
    if error.code == INVALID_REQUEST and error.message == _SESSION_ENDED:
        return NotSentError(message), True
    if error.code in _REFUSED:
        return ToolRefusedError("mcp_refused", message), False
    return UncertainError(message), error.code == CONNECTION_CLOSED


class Answering(httpx2.AsyncBaseTransport):
    """Sends requests under the mount's secret, and answers in the server's place where it cannot be asked.

    The SDK would lose what it means that a connection was refused; so it is told in the form of an error of its own.
    """

    def __init__(self, inner: httpx2.AsyncBaseTransport, auth: Auth | None, secrets: list[str]) -> None:
        self._inner = inner
        self._auth = auth
        self._secrets = secrets

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send it."""
        identity = _identity(request)
        try:
            if self._auth is not None:
                forms = self._auth.put(request)
                self._secrets.extend(form for form in forms if form not in self._secrets)
            response = await self._inner.handle_async_request(request)
        except NotSentError as error:
            return _instead(request, identity, str(error), not_sent=True)
        except NOTHING_SENT as error:
            return _instead(request, identity, f"cannot be reached: {error!r}", not_sent=True)
        except httpx2.TransportError as error:
            if identity is None:
                raise
            return _instead(request, identity, f"no answer: {error!r}", not_sent=False)
        if identity is not None and response.status_code in _NOT_TAKEN:
            await response.aclose()
            return _instead(request, identity, f"HTTP {response.status_code}", not_sent=True)
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        await self._inner.aclose()


def _identity(request: httpx2.Request) -> Any:
    """The id of the JSON-RPC request in an HTTP request, if it is one."""
    if request.method != "POST":
        return None
    try:
        message = msgspec.json.decode(request.content)
    except (msgspec.DecodeError, httpx2.RequestNotRead):
        return None
    return message.get("id") if isinstance(message, dict) and "method" in message else None


def _instead(request: httpx2.Request, identity: Any, message: str, *, not_sent: bool) -> httpx2.Response:
    if identity is None:
        return httpx2.Response(503, request=request)
    error = {"code": -32000, "message": message, "data": {"own": _OWN, "not_sent": not_sent}}
    return httpx2.Response(200, json={"jsonrpc": "2.0", "id": identity, "error": error}, request=request)
