"""The registry's SQLite store: one transaction a change, with its key and its answer in the log.

The rule: a change, its key and its answer are committed together or not at all. Use it from one thread.
"""

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self, assert_never

import msgspec

from mesh.clock import now, unix
from packs.outbreak.arguments import (
    Change,
    CorrectArgs,
    FileArgs,
    HandOverArgs,
    PublishArgs,
    RecordArgs,
    SeriesArgs,
    SettleArgs,
    UpholdArgs,
    WithdrawArgs,
)
from packs.outbreak.registry import alerts, claims
from packs.outbreak.registry.rules import DeadlinePassed, KeyReused, UnknownKey
from packs.outbreak.registry.schema import SCHEMA, load
from packs.outbreak.wire import Answer, Export, LogEntry, SeriesView, WeekView


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """Under which key a change is to be made, not after when (Unix seconds), and who approved it."""

    key: str
    deadline: float | None = None
    approved_by: tuple[str, ...] = ()


class Store:
    """The open store; close it when done."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000"):
            self.db.execute(f"PRAGMA {pragma}")
        self.db.executescript(SCHEMA)
        self.before_commit: Callable[[], None] = lambda: None  # called within the transaction of a change

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.db.close()

    def load(self, folder: Path) -> bool:
        """Fill an empty store; whether it was empty."""
        with self._transaction():
            return load(self.db, folder)

    def apply(self, kind: str, change: Change, terms: Terms) -> Answer:
        """Make a change once under its key.

        Raises ``RuleViolation``, ``KeyReused`` or ``DeadlinePassed``, and then nothing has changed.
        """
        digest = hashlib.sha256(kind.encode() + b"\n" + msgspec.json.encode(change)).hexdigest()
        with self._transaction():
            stored = self.db.execute("SELECT digest FROM changes WHERE key = ?", (terms.key,)).fetchone()
            if stored is not None:
                if stored[0] != digest:
                    raise KeyReused(terms.key)
                return self.answer(terms.key)
            state, about = _make(self.db, change, terms.approved_by), _about(change)
            sql = "INSERT INTO changes (key, digest, kind, about, state, at) VALUES (?, ?, ?, ?, ?, ?)"
            self.db.execute(sql, (terms.key, digest, kind, about, state, now().isoformat()))
            if terms.deadline is not None and unix() > terms.deadline:
                raise DeadlinePassed(terms.key)
            self.before_commit()
        return msgspec.structs.replace(self.answer(terms.key), replayed=False)

    def answer(self, key: str) -> Answer:
        """What took effect under a key; raises ``UnknownKey``."""
        row = self.db.execute("SELECT key, seq, kind, about, state FROM changes WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise UnknownKey(key)
        return Answer(key=row[0], seq=row[1], kind=row[2], about=row[3], state=row[4], replayed=True)

    def log(self, after: int, limit: int) -> list[LogEntry]:
        """Up to ``limit`` changes with a sequence above ``after``."""
        sql = "SELECT seq, key, kind, about, at FROM changes WHERE seq > ? ORDER BY seq LIMIT ?"
        rows = self.db.execute(sql, (after, limit)).fetchall()
        return [LogEntry(seq=row[0], key=row[1], kind=row[2], about=row[3], at=row[4]) for row in rows]

    def series(self, args: SeriesArgs) -> SeriesView:
        """A series up to a week, with all its alerts."""
        view = claims.series_view(self.db, args.place, args.disease, args.week)
        return msgspec.structs.replace(view, alerts=alerts.alerts_of(self.db, args.place, args.disease))

    def week(self, args: SeriesArgs, source: str) -> WeekView:
        """What bears on a number of this source for this week."""
        return claims.week_view(self.db, args, source)

    def export(self) -> Export:
        """All numbers, alerts and notices."""
        names = self.db.execute("SELECT place, disease FROM series ORDER BY place, disease").fetchall()
        return Export(
            claims={f"{place}/{disease}": claims.claims_of(self.db, place, disease) for place, disease in names},
            alerts=alerts.alerts_of(self.db),
            notices=alerts.notices(self.db),
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT")


def _make(database: sqlite3.Connection, change: Change, approved_by: Sequence[str]) -> str:
    match change:
        case CorrectArgs():
            return claims.correct(database, change)
        case RecordArgs():
            return claims.record(database, change)
        case SettleArgs():
            return claims.settle(database, change)
        case PublishArgs():
            return alerts.publish(database, change, approved_by)
        case UpholdArgs():
            return alerts.uphold(database, change)
        case WithdrawArgs():
            return alerts.withdraw(database, change, approved_by)
        case FileArgs():
            return alerts.file(database, change)
        case HandOverArgs():
            return alerts.hand_over(database, change, approved_by)
        case _:
            assert_never(change)


def _about(change: Change) -> str:
    match change:
        case PublishArgs() | UpholdArgs() | WithdrawArgs():
            return change.alert
        case FileArgs() | HandOverArgs():
            return change.bulletin
        case _:
            return f"{change.place}/{change.disease}/{change.week}"
