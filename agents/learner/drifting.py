"""Drift on the bus: follows what comes in and how it ends, keeps the series, and raises what has drifted.

The rule: it is derived, bounded, and changes nothing: a metric, a line in the log and ``workmesh learn drift``.
"""

import sqlite3
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import msgspec
import structlog

from agents.learner.drift import HIT, Series, shape_of
from mesh import metrics, quarantine, records, subjects
from mesh.bus import Bus, StoredMessage
from mesh.checkpoint import open_database
from mesh.projection import Projection
from mesh.quarantine import Reason
from mesh.records import Context, Outcome
from mesh.statistics import DriftLine

log = structlog.get_logger(__name__)

SERIES_MAX = 2_000
WHATS = ("shape", "rejected", "overridden", "errors")
_HITS = (HIT,)
_NO_HITS: tuple[str, ...] = ()
_REJECTED = (Reason.MALFORMED, Reason.UNKNOWN_TYPE, Reason.CONFLICT)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS series (what TEXT, name TEXT, data BLOB NOT NULL, PRIMARY KEY (what, name)) WITHOUT ROWID;
"""

_decode = msgspec.json.Decoder(Series).decode
_encode = msgspec.json.Encoder().encode


class Drifts:
    """Follows contexts, rejected events and outcomes."""

    def __init__(self, bus: Bus, path: Path) -> None:
        self._database = open_database(path, _SCHEMA)
        follows = (
            (subjects.JOURNAL, subjects.kind("context")),
            (subjects.JOURNAL, subjects.kind("outcome")),
            (subjects.QUARANTINE, subjects.quarantine("perception", "*")),
        )
        self.projections = tuple(
            Projection(bus, self._database, stream, subject, self._apply, hints=False) for stream, subject in follows
        )
        self._tell()

    def lines(self) -> list[DriftLine]:
        """All that is followed, what has drifted first."""
        rows = self._database.execute("SELECT what, name, data FROM series ORDER BY what, name")
        found = [_decode(data).line(what, name) for what, name, data in rows]
        return sorted(found, key=lambda line: not line.raised)

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _apply(self, database: sqlite3.Connection, message: StoredMessage) -> None:
        if message.subject.startswith("quarantine."):
            self._take_rejected(database, message)
            return
        try:
            record = records.decode(message.data)
        except ValueError:
            return  # the book says so
        match record:
            case Context(event=event):
                shape = shape_of(msgspec.json.decode(record.data))
                self._take(database, "shape", event.type, shape, record.header.at)
                self._take(database, "rejected", event.type, _NO_HITS, record.header.at)
            case Outcome():
                self._take_outcome(database, record)

    def _take_rejected(self, database: sqlite3.Connection, message: StoredMessage) -> None:
        try:
            item = msgspec.json.decode(message.data, type=quarantine.Quarantined)
        except msgspec.DecodeError:
            return
        if item.reason in _REJECTED:
            name = item.subject.partition(".")[2]
            self._take(database, "rejected", name, _HITS, datetime.fromisoformat(message.time))

    def _take_outcome(self, database: sqlite3.Connection, ending: Outcome) -> None:
        left, at = ending.experience, ending.header.at
        if ending.playbook:
            hits = _HITS if left.overrides else _NO_HITS
            self._take(database, "overridden", ending.playbook, hits, at)
        for tool in dict.fromkeys((*ending.tools, *left.erred)):
            self._take(database, "errors", tool, _HITS if tool in left.erred else _NO_HITS, at)

    def _take(self, database: sqlite3.Connection, what: str, name: str, features: Iterable[str], at: datetime) -> None:
        row = database.execute("SELECT data FROM series WHERE what = ? AND name = ?", (what, name)).fetchone()
        if row is None and database.execute("SELECT count(*) FROM series").fetchone()[0] >= SERIES_MAX:
            return
        before = _decode(row[0]) if row else Series()
        after = before.take(features, at)
        database.execute("INSERT OR REPLACE INTO series VALUES (?, ?, ?)", (what, name, _encode(after)))
        if bool(after.raised) != bool(before.raised):
            event = "drift_raised" if after.raised else "drift_over"
            log.warning(event, what=what, name=name, raised=after.raised, p=after.p)
            self._tell()

    def _tell(self) -> None:
        raised = [line.what for line in self.lines() if line.raised]
        for what in WHATS:
            metrics.DRIFT.labels(what).set(raised.count(what))
