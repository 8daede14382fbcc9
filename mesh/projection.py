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
# A hint comes with the publish, a moment before the message is stored: look again this soon.
_LOOK_AGAIN_S = 0.01

_CURSOR = "CREATE TABLE IF NOT EXISTS projection_cursor (follows TEXT PRIMARY KEY, seq INTEGER NOT NULL)"


class Projection:
    """Follows ``subject`` in ``stream``, and applies each message to ``database`` once, in order.

    It holds no consumer on the server: it reads by sequence, woken by core messages on the same subject, so a server
    restart costs it nothing.
    """

    def __init__(self, bus: Bus, database: sqlite3.Connection, stream: str, subject: str, apply: Apply) -> None:
        self._bus = bus
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
        self._wake.set()
        async with self._moved:
            await self._moved.wait_for(lambda: self.seq >= seq)

    async def run(self) -> None:
        """Follow the stream until cancelled."""
        await self._bus.client.subscribe(self._subject, cb=self._on_hint)
        hinted = 0.0
        while True:
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
                if await self._woken(_LOOK_AGAIN_S if time.monotonic() - hinted < 0.1 else _POLL_S):
                    hinted = time.monotonic()

    async def _take(self, page: list[StoredMessage]) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            for message in page:
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
