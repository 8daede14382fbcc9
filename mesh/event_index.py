"""The index of accepted events, in the order of the stream: which came first under an id, and after which it acts.

The rule: it is a fold of ``EVENTS`` alone, so every copy of perception, before and after a kill, says the same.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mesh import subjects
from mesh.admission import Accepted, read
from mesh.bus import Bus, StoredMessage
from mesh.checkpoint import open_database
from mesh.pack import Pack
from mesh.projection import Projection

CASE_S = 3 * 86_400.0
"""How long after a request one by another channel is taken for the same case."""
_EARLIER_MAX = 8

_SCHEMA = """
CREATE TABLE IF NOT EXISTS event (
    task_id TEXT PRIMARY KEY, seq INTEGER NOT NULL, digest TEXT NOT NULL, after TEXT NOT NULL,
    original TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS event_by_seq ON event (seq);
CREATE TABLE IF NOT EXISTS entity (
    domain TEXT, entity TEXT, task_id TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (domain, entity)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS requested (
    domain TEXT, name TEXT, seq INTEGER NOT NULL, task_id TEXT NOT NULL, channel TEXT NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (domain, name, seq)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class First:
    """The first accepted event of a task, and the task before it of the same entity (or "")."""

    seq: int
    digest: str
    after: str
    original: str = ""

    def is_same(self, digest: str, original: str) -> bool:
        """Whether an event of this content, or made of these bytes, is the same one.

        What is looked up for an event may have changed since; the bytes that it is made of have not.
        """
        return digest == self.digest or (original != "" and original == self.original)


class EventIndex:
    """Follows ``EVENTS`` and answers which event was the first of its task."""

    def __init__(self, bus: Bus, path: Path, packs: Mapping[str, Pack], *, hints: bool = False) -> None:
        self._packs = packs
        self._database = open_database(path, _SCHEMA)
        self._bus = bus
        self._held: dict[int, Accepted] = {}
        self.projection = Projection(bus, self._database, subjects.EVENTS, "event.>", self._apply, hints=hints)

    async def first(self, item: Accepted, message: StoredMessage) -> First | None:
        """The first accepted event of this event's task, once the index has come to this event (``message``)."""
        if message.seq > self.projection.seq:
            self._held[message.seq] = item
            self.projection.offer(message)
            try:
                await self.projection.reached(message.seq)
            finally:
                self._held.pop(message.seq, None)
        return self.known(item.task_id)

    def known(self, task_id: str) -> First | None:
        """The first event of a task, as far as the index has come."""
        query = "SELECT seq, digest, after, original FROM event WHERE task_id = ?"
        row = self._database.execute(query, (task_id,)).fetchone()
        return First(*row) if row else None

    def earlier(self, item: Accepted, message: StoredMessage) -> tuple[str, ...]:
        """The tasks of the same case that came by another channel, not long before this event."""
        if not item.case:
            return ()
        since = datetime.fromisoformat(message.time).timestamp() - CASE_S
        rows = self._database.execute(
            "SELECT task_id FROM requested WHERE domain = ? AND name = ? AND seq < ? AND at >= ? AND channel != ?"
            " ORDER BY seq DESC LIMIT ?",
            (item.domain, item.case, message.seq, since, _channel(item), _EARLIER_MAX),
        )
        return tuple(task for (task,) in rows)

    async def forget_expired(self) -> None:
        """Drop what the stream's retention has dropped."""
        info = await self._bus.api(f"STREAM.INFO.{subjects.EVENTS}")
        first = info.get("state", {}).get("first_seq", 0)
        self._database.execute("DELETE FROM event WHERE seq < ?", (first,))
        self._database.execute("DELETE FROM entity WHERE seq < ?", (first,))
        self._database.execute("DELETE FROM requested WHERE seq < ?", (first,))

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _apply(self, database: sqlite3.Connection, message: StoredMessage) -> None:
        item = self._held.get(message.seq) or read(message.data, message.headers, self._packs)
        if not isinstance(item, Accepted):
            return
        known = database.execute("SELECT 1 FROM event WHERE task_id = ?", (item.task_id,)).fetchone()
        if known:
            return
        key = (item.domain, item.entity)
        before = database.execute("SELECT task_id FROM entity WHERE domain = ? AND entity = ?", key).fetchone()
        after = before[0] if before else ""
        row = (item.task_id, message.seq, item.digest, after, item.event.original)
        database.execute("INSERT INTO event VALUES (?, ?, ?, ?, ?)", row)
        if item.case:
            at = datetime.fromisoformat(message.time).timestamp()
            asked = (item.domain, item.case, message.seq, item.task_id, _channel(item), at)
            database.execute("INSERT INTO requested VALUES (?, ?, ?, ?, ?, ?)", asked)
        database.execute("INSERT OR REPLACE INTO entity VALUES (?, ?, ?, ?)", (*key, item.task_id, message.seq))


def _channel(item: Accepted) -> str:
    """By which way it came: a source of intake, else the event's own source."""
    return item.event.channel or item.event.source
