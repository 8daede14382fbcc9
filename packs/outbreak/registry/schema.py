"""The registry's tables and what they are filled with.

The rule: numbers and the log are never deleted or changed, but for the state of a number.
"""

import csv
import hashlib
import sqlite3
from pathlib import Path

import msgspec

from packs.outbreak.weeks import week_number

SCHEMA = """
CREATE TABLE IF NOT EXISTS series (
    place TEXT, disease TEXT, ceiling INTEGER NOT NULL, subscribers TEXT NOT NULL, PRIMARY KEY (place, disease));
CREATE TABLE IF NOT EXISTS source (name TEXT PRIMARY KEY, channel TEXT NOT NULL, series TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS claim (
    seq INTEGER PRIMARY KEY, place TEXT, disease TEXT, number INTEGER, week TEXT, source TEXT, revision INTEGER,
    count INTEGER NOT NULL CHECK (count >= 0), document TEXT NOT NULL, row TEXT NOT NULL, received TEXT NOT NULL,
    state TEXT NOT NULL, UNIQUE (place, disease, number, source, revision));
CREATE TABLE IF NOT EXISTS alert (
    alert TEXT PRIMARY KEY, place TEXT, disease TEXT, number INTEGER, week TEXT, state TEXT NOT NULL,
    page TEXT NOT NULL, approved_by TEXT NOT NULL, withdrawn_by TEXT NOT NULL DEFAULT '[]',
    reason TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS said (
    seq INTEGER PRIMARY KEY, place TEXT, disease TEXT, number INTEGER, week TEXT, bulletin TEXT NOT NULL,
    source TEXT NOT NULL, document TEXT NOT NULL, signal TEXT NOT NULL, quote TEXT NOT NULL,
    UNIQUE (source, bulletin));
CREATE TABLE IF NOT EXISTS seen (
    bulletin TEXT, source TEXT, document TEXT, by_whom TEXT, PRIMARY KEY (source, bulletin));
CREATE TABLE IF NOT EXISTS notice (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, alert TEXT, recipient TEXT, subject TEXT, body TEXT);
CREATE TABLE IF NOT EXISTS changes (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, digest TEXT NOT NULL, kind TEXT NOT NULL,
    about TEXT NOT NULL, state TEXT NOT NULL, at TEXT NOT NULL);
CREATE TRIGGER IF NOT EXISTS claims_stay BEFORE UPDATE OF count, document, row, source, revision, received ON claim
    BEGIN SELECT RAISE(ABORT, 'a number is never overwritten'); END;
CREATE TRIGGER IF NOT EXISTS claims_last BEFORE DELETE ON claim BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER IF NOT EXISTS alerts_last BEFORE DELETE ON alert BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER IF NOT EXISTS changes_stay BEFORE UPDATE ON changes BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER IF NOT EXISTS changes_last BEFORE DELETE ON changes BEGIN SELECT RAISE(ABORT, 'append only'); END;
"""


class SeriesEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A series that the registry keeps; more than ``ceiling`` cases in a week are a mistake, not an outbreak."""

    place: str
    disease: str
    ceiling: int
    subscribers: tuple[str, ...] = ()


class SourceEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may report: by which channel (the ``source`` of its events), and on which series (``place/disease``)."""

    name: str
    channel: str
    series: tuple[str, ...]


class Registry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``registry.json``: series, sources, and from whom the history beside it comes."""

    series: tuple[SeriesEntry, ...]
    sources: tuple[SourceEntry, ...]
    history_source: str


def load(database: sqlite3.Connection, folder: Path) -> bool:
    """Fill an empty registry from ``registry.json`` and ``history.csv``; whether it was empty. Within a transaction."""
    if database.execute("SELECT 1 FROM series LIMIT 1").fetchone():
        return False
    entries = msgspec.json.decode((folder / "registry.json").read_bytes(), type=Registry)
    encode = msgspec.json.encode
    database.executemany(
        "INSERT INTO series VALUES (?, ?, ?, ?)",
        [(each.place, each.disease, each.ceiling, encode(each.subscribers).decode()) for each in entries.series],
    )
    database.executemany(
        "INSERT INTO source VALUES (?, ?, ?)",
        [(each.name, each.channel, encode(each.series).decode()) for each in entries.sources],
    )
    database.executemany(
        """INSERT INTO claim (place, disease, number, week, source, revision, count, document, row, received, state)
           VALUES (?, ?, ?, ?, ?, 1, ?, ?, ?, ?, 'standing')""",
        _history(folder / "history.csv", entries.history_source),
    )
    return True


def _history(path: Path, source: str) -> list[tuple[object, ...]]:
    """The rows of the history: each names the document that it stands in, and its line there."""
    content = path.read_bytes()
    document = "sha256:" + hashlib.sha256(content).hexdigest()
    rows = csv.DictReader(content.decode("utf-8").splitlines())
    return [
        (
            *(row["place"], row["disease"], week_number(row["week"]), row["week"], source, int(row["count"])),
            *(document, f"line {line}", row["received"]),
        )
        for line, row in enumerate(rows, start=2)
    ]
