"""Tells open pages that something has changed, by server-sent events; a page then reads anew what it shows.

The rule: a page is told what changed, never what it is now: whatever was missed, the next reading shows the truth.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable

import msgspec
from nats.aio.msg import Msg

from mesh.bus import Bus

TOPICS = ("approvals", "tasks", "facts", "quarantine", "governance", "spending", "bus")
_OF_HEAD = {"fact": "facts", "quarantine": "quarantine", "control": "governance"}
_HEARD = ("fact.>", "quarantine.>", "control.>")

_PAUSE_S = 0.5  # between two changes told to one page: what comes meanwhile is told together
_LATE_S = 0.25  # a message is heard before it is stored
_BEAT_S = 15.0
_LOOK_S = 0.5
_PAGES_MAX = 500


class Page:
    """An open page, and what it has not been told yet."""

    def __init__(self, topics: frozenset[str]) -> None:
        self.topics = topics
        self.pending: set[str] = set()
        self.wake = asyncio.Event()


class Live:
    """The open pages, and what they are told."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._pages: set[Page] = set()
        self._closed = False

    @property
    def is_full(self) -> bool:
        """Whether so many pages are open that no more are told anything."""
        return len(self._pages) >= _PAGES_MAX

    async def hear(self) -> None:
        """Listen to what the other parts say on the bus, and to its coming and going."""
        for subject in _HEARD:
            await self._bus.client.subscribe(subject, cb=self._on_message)
        self._bus.on_reconnect(self._on_reconnect)

    def tell(self, topics: Iterable[str]) -> None:
        """Say that these have changed."""
        changed = set(topics)
        for page in self._pages:
            if found := changed & page.topics:
                page.pending |= found
                page.wake.set()

    async def run(self) -> None:
        """Tell pages when the bus goes and comes, until cancelled."""
        was = self._bus.is_connected
        while True:
            await asyncio.sleep(_LOOK_S)
            if (connected := self._bus.is_connected) != was:
                was = connected
                self.tell(TOPICS)

    def close(self) -> None:
        """End all streams: the server is about to stop."""
        self._closed = True
        for page in self._pages:
            page.wake.set()

    async def stream(self, topics: Iterable[str]) -> AsyncIterator[bytes]:
        """The events of one page; the first one says that it is connected (anew)."""
        page = Page(frozenset({*topics, "bus"}))
        self._pages.add(page)
        try:
            yield b"retry: 1000\n" + self._event("hello", ())
            while not self._closed:
                try:
                    async with asyncio.timeout(_BEAT_S):
                        await page.wake.wait()
                except TimeoutError:
                    yield b": still here\n\n"
                    continue
                page.wake.clear()
                topics, page.pending = sorted(page.pending), set()
                if topics:
                    yield self._event("change", topics)
                    await asyncio.sleep(_PAUSE_S)
        finally:
            self._pages.discard(page)

    def _event(self, name: str, topics: Iterable[str]) -> bytes:
        data = msgspec.json.encode({"topics": list(topics), "bus": self._bus.is_connected})
        return b"event: %b\ndata: %b\n\n" % (name.encode(), data)

    async def _on_message(self, message: Msg) -> None:
        topic = _OF_HEAD[message.subject.partition(".")[0]]
        asyncio.get_running_loop().call_later(_LATE_S, self.tell, (topic,))

    async def _on_reconnect(self) -> None:
        self.tell(TOPICS)
