"""The learner's book of past tasks: statistics by hour, and the last endings one by one; rebuilt from the journal.

The rule: it is never told to anybody who did not ask: what plans rest on is facts that people have approved.
"""

import sqlite3
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog

from agents.learner.counting import Kind, Tally, counts_of, hour_of, line
from mesh import records, subjects
from mesh.bus import Bus, StoredMessage
from mesh.checkpoint import open_database
from mesh.projection import Projection
from mesh.records import Lesson, Outcome, OutcomeStatus
from mesh.statistics import StatLine, WindowRequest

log = structlog.get_logger(__name__)

ENDINGS_MAX = 20_000
_TRIM_EVERY = 1_000
_HOURS_MAX = 24 * 400  # of statistics that are kept
_EVER = 2**53

_SCHEMA = """
CREATE TABLE IF NOT EXISTS tally (
    kind TEXT, name TEXT, hour INTEGER, data BLOB NOT NULL, PRIMARY KEY (kind, name, hour)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ending (
    seq INTEGER PRIMARY KEY, domain TEXT, playbook TEXT, task_id TEXT, status TEXT, overridden INTEGER, learned TEXT
);
CREATE INDEX IF NOT EXISTS ending_of ON ending (domain, playbook, seq);
"""
_LAST = """
SELECT seq, domain, playbook, task_id, status, overridden, learned FROM ending
WHERE domain = ? AND playbook IN ({}) AND seq < ? ORDER BY seq DESC LIMIT ?
"""

_decode = msgspec.json.Decoder(Tally).decode
_encode = msgspec.json.Encoder().encode


class Ending(NamedTuple):
    """How one task ended, and by which learned changes it was planned (ids of proposals)."""

    seq: int
    domain: str
    playbook: str
    task_id: str
    status: OutcomeStatus
    overridden: bool
    learned: tuple[str, ...]

    @property
    def subject(self) -> str:
        """The subject of its outcome."""
        return subjects.record("outcome", self.domain, self.task_id, records.WHOLE_TASK)


class Book:
    """Follows outcomes and corrections, and keeps what is learned from."""

    def __init__(self, bus: Bus, path: Path) -> None:
        self._kept = 0
        self._database = open_database(path, _SCHEMA)
        self.projections = tuple(
            Projection(bus, self._database, subjects.JOURNAL, subjects.kind(kind), self._apply, hints=False)
            for kind in ("outcome", "lesson")
        )

    @property
    def seq(self) -> int:
        """The sequence of the last outcome that is in the book."""
        return self.projections[0].seq

    def lines(self, window: WindowRequest) -> list[StatLine]:
        """The statistics of a window, by kind and name."""
        first = hour_of(window.since) if window.since else 0
        end = hour_of(window.until) if window.until else _EVER
        rows = self._database.execute(
            "SELECT kind, name, data FROM tally WHERE hour >= ? AND hour < ? ORDER BY kind, name", (first, end)
        )
        found: dict[tuple[Kind, str], Tally] = {}
        for kind, name, data in rows:
            key = (Kind(kind), name)
            found[key] = found.get(key, Tally()) + _decode(data)
        return [line(kind, name, tally) for (kind, name), tally in found.items()]

    def last(self, domain: str, playbooks: tuple[str, ...], limit: int, *, before: int = _EVER) -> list[Ending]:
        """The last endings of these playbooks, newest first, up to before a sequence."""
        query = _LAST.format(", ".join("?" * len(playbooks)))
        rows = self._database.execute(query, (domain, *playbooks, before, limit)).fetchall()
        return [
            Ending(seq, domain, book, task, OutcomeStatus(status), bool(over), tuple(filter(None, learned.split(","))))
            for seq, domain, book, task, status, over, learned in rows
        ]

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _apply(self, database: sqlite3.Connection, message: StoredMessage) -> None:
        if message.subject.startswith("task.lesson.") and message.subject.endswith(f".{records.WHOLE_TASK}"):
            return  # a task's own lesson says no more than its outcome
        try:
            record = records.decode(message.data)
        except ValueError as error:
            log.error("record_unreadable", subject=message.subject, seq=message.seq, error=str(error))
            return
        if not isinstance(record, Outcome | Lesson):
            return
        for key, added in counts_of(record):
            row = database.execute("SELECT data FROM tally WHERE kind = ? AND name = ? AND hour = ?", key).fetchone()
            tally = _decode(row[0]) + added if row else added
            database.execute("INSERT OR REPLACE INTO tally VALUES (?, ?, ?, ?)", (*key, _encode(tally)))
        if isinstance(record, Outcome):
            self._keep(database, message.seq, record)

    def _keep(self, database: sqlite3.Connection, seq: int, ending: Outcome) -> None:
        left = ending.experience
        database.execute(
            "INSERT OR IGNORE INTO ending VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                seq,
                ending.header.domain,
                ending.playbook,
                ending.header.task_id,
                ending.status,
                int(left.overrides > 0),
                ",".join(left.learned),
            ),
        )
        self._kept += 1
        if self._kept % _TRIM_EVERY == 0:
            _trim(database, hour_of(ending.header.at))


def _trim(database: sqlite3.Connection, hour: int) -> None:
    oldest = database.execute("SELECT seq FROM ending ORDER BY seq DESC LIMIT 1 OFFSET ?", (ENDINGS_MAX,)).fetchone()
    if oldest:
        database.execute("DELETE FROM ending WHERE seq <= ?", oldest)
    database.execute("DELETE FROM tally WHERE hour < ?", (hour - _HOURS_MAX,))
