"""A projection: a SQLite table that follows a stream in order, and can be thrown away and rebuilt from it.

The rule: what was applied and how far it reaches are one transaction, so a kill neither skips nor repeats a message.
"""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
from nats.aio.msg import Msg

from mesh.bus import Bus, StoredMessage
from mesh.errors import BusUnavailableError
from mesh.lifetime import background

log = structlog.get_logger(__name__)

Apply = Callable[[sqlite3.Connection, StoredMessage], None]

_PAGE = 256
_POLL_S = 1.0
_LOOK_AGAIN_S = 0.01
# A hint comes with the publish, before the message is stored: a read just after it can come too early.
_LATE_S = 0.2
_OFFERS_MAX = 4096

_CURSOR = "CREATE TABLE IF NOT EXISTS projection_cursor (follows TEXT PRIMARY KEY, seq INTEGER NOT NULL)"


class Projection:
    """Follows ``subject`` in ``stream``, and applies each message to ``database`` once, in order.

    It holds no consumer on the server: it reads by sequence, woken by core messages on the same subject (``hints``),
    so a server restart costs it nothing. While nobody waits for a message it reads at most every ``pace_s``.
    """

    def __init__(
        self,
        bus: Bus,
        database: sqlite3.Connection,
        stream: str,
        subject: str,
        apply: Apply,
        *,
        hints: bool = True,
        pace_s: float = 0.05,
    ) -> None:
        self._bus = bus
        self._hints = hints
        self._pace_s = pace_s
        self._wanted = 0
        self._rounds_begun = 0
        self._rounds_ended = 0
        self._round_wanted = 0
        self._hinted = 0.0
        self._offered: dict[int, StoredMessage] = {}
        self._database = database
        self._stream = stream
        self._subject = subject
        self._apply = apply
        self._wake = asyncio.Event()
        self._moved = asyncio.Condition()
        database.execute(_CURSOR)
        self._follows = f"{stream} {subject}"
        row = database.execute("SELECT seq FROM projection_cursor WHERE follows = ?", (self._follows,)).fetchone()
        self.seq: int = row[0] if row else 0
        self.caught_up = asyncio.Event()

    async def reached(self, seq: int) -> None:
        """Return once the message with this sequence is applied."""
        if self.seq >= seq:
            return
        self._wanted = max(self._wanted, seq)
        self._wake.set()
        async with self._moved:
            await self._moved.wait_for(lambda: self.seq >= seq)

    async def fresh(self) -> None:
        """Return once all that was stored before this call is applied. Waits while the bus is away."""
        target = self._round_wanted = self._rounds_begun + 1
        self._wake.set()
        async with self._moved:
            await self._moved.wait_for(lambda: self._rounds_ended >= target)

    @property
    def _is_awaited(self) -> bool:
        return self._wanted > self.seq or self._round_wanted > self._rounds_ended

    def offer(self, message: StoredMessage) -> None:
        """Have a message that this process holds already: it need not be read when it is the next of the stream.

        Only for a projection that follows all subjects of its stream.
        """
        if message.seq > self.seq and len(self._offered) < _OFFERS_MAX:
            self._offered[message.seq] = message

    async def run(self) -> None:
        """Follow the stream until cancelled."""
        if self._hints:
            await self._bus.client.subscribe(self._subject, cb=self._on_hint)
        while True:
            page = self._take_offers()
            if page:
                await self._take(page)
                continue
            self._rounds_begun += 1
            try:
                page = await self._bus.read(self._stream, self.seq + 1, _PAGE, self._subject)
            except BusUnavailableError as error:
                log.warning("projection_waits", stream=self._stream, seq=self.seq, error=str(error))
                await asyncio.sleep(_POLL_S)
                continue
            if page:
                await self._take(page)
            if len(page) < _PAGE:
                self.caught_up.set()
                async with self._moved:
                    self._rounds_ended = self._rounds_begun
                    self._moved.notify_all()
                await self._pause()

    def _take_offers(self) -> list[StoredMessage]:
        """The messages on offer that come next in the stream."""
        page: list[StoredMessage] = []
        while len(page) < _PAGE and (message := self._offered.pop(self.seq + 1 + len(page), None)) is not None:
            page.append(message)
        if not page and self._offered and min(self._offered) <= self.seq:
            self._offered = {seq: message for seq, message in self._offered.items() if seq > self.seq}
        return page

    async def _pause(self) -> None:
        """Wait until there may be more; while nobody waits for it, long enough that a page gathers."""
        if self._is_awaited:
            await self._woken(_LOOK_AGAIN_S)
            return
        recent = time.monotonic() - self._hinted < _POLL_S
        if not await self._woken(_LATE_S if recent else _POLL_S):
            return
        self._hinted = time.monotonic()
        end = self._hinted + self._pace_s
        while not self._is_awaited and (left := end - time.monotonic()) > 0:
            await self._woken(left)

    async def _take(self, page: list[StoredMessage]) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            for message in page:
                if message.is_forwarded:
                    log.error("forwarded_message_skipped", subject=message.subject, seq=message.seq)
                else:
                    self._apply(self._database, message)
            self._database.execute(
                "INSERT OR REPLACE INTO projection_cursor VALUES (?, ?)", (self._follows, page[-1].seq)
            )
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise
        async with self._moved:
            self.seq = page[-1].seq
            self._moved.notify_all()

    async def _woken(self, limit_s: float) -> bool:
        try:
            async with asyncio.timeout(limit_s):
                await self._wake.wait()
        except TimeoutError:
            return False
        self._wake.clear()
        return True

    async def _on_hint(self, message: Msg) -> None:
        self._wake.set()


@asynccontextmanager
async def following(projection: Projection) -> AsyncIterator[Projection]:
    """The projection, followed in the background while the block runs."""
    async with background(projection.run(), "projection"):
        yield projection
