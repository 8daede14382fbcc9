"""HTTP to a target that is not trusted: bodies bounded, never compressed, nothing taken from the environment.

The rule: whoever asks learns whether a request was certainly not sent; that is the one thing a client must not lose.
"""

from collections.abc import AsyncIterator

import httpx2

NOTHING_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
LARGEST = 8 * 1024 * 1024
# Idle connections are dropped before most servers do so, else a request may meet a closed one.
LIMITS = httpx2.Limits(max_connections=64, max_keepalive_connections=64, keepalive_expiry=3.0)


class TooLargeError(httpx2.ReadError):
    """A body is larger than is taken."""


class Bounded(httpx2.AsyncBaseTransport):
    """Passes requests on and bounds what comes back; a stream of events is bounded by whoever reads it."""

    def __init__(self, largest: int = LARGEST, inner: httpx2.AsyncBaseTransport | None = None) -> None:
        self._largest = largest
        self._inner = inner or httpx2.AsyncHTTPTransport(limits=LIMITS, trust_env=False)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send it; raises ``httpx2.TransportError``."""
        request.headers["accept-encoding"] = "identity"
        response = await self._inner.handle_async_request(request)
        if response.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
            await response.aclose()
            raise httpx2.RemoteProtocolError("the body is compressed, which was not asked for", request=request)
        if not response.headers.get("content-type", "").lower().startswith("text/event-stream"):
            assert isinstance(response.stream, httpx2.AsyncByteStream)
            response.stream = _Body(response.stream, self._largest)
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        await self._inner.aclose()


class _Body(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream, largest: int) -> None:
        self._inner = inner
        self._left = largest

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._inner:
            self._left -= len(chunk)
            if self._left < 0:
                raise TooLargeError("the body is larger than is taken")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


def said(text: str, most: int = 300) -> str:
    """What a target said, short enough for an error."""
    plain = " ".join(text.split())
    return plain if len(plain) <= most else plain[:most] + "..."
