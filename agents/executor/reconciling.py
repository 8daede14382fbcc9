"""Counts what the targets say was done: each key once, repeated, or unknown to the journal (action duplication).

The rule: the count is of the target's own log, read to its end again and again; it never changes what is done. Where
it has got to and its totals are on local disk, so a restart neither counts again nor forgets.
"""

import asyncio
import hashlib
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from mesh import metrics, subjects
from mesh.applied import Applied, TargetLog
from mesh.bus import Bus
from mesh.checkpoint import open_database
from mesh.clock import unix
from mesh.errors import BusUnavailableError, TerminalError, ToolError

log = structlog.get_logger(__name__)

EVERY_S = 5.0
_PAUSE_S = 0.05  # between pages: a target with a long past must not take the process from its work
_PAGE = 512  # subjects in one question to the journal, of at most 1,024
_KEYS_MAX = 1_000_000  # keys remembered a target, 50 bytes each; the oldest go first
_PREFIX = "wm-"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS progress (
    log TEXT PRIMARY KEY, cursor TEXT NOT NULL, applied INTEGER NOT NULL, repeated INTEGER NOT NULL,
    unknown INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen (id INTEGER PRIMARY KEY, log TEXT NOT NULL, key BLOB NOT NULL, UNIQUE (log, key));
"""


@dataclass(frozen=True, slots=True)
class Source:
    """The log of one target of a domain."""

    domain: str
    target: str
    system: Any
    read: TargetLog

    @property
    def name(self) -> str:
        """What it is called in the local file."""
        return f"{self.domain}/{self.target}"


@dataclass(frozen=True, slots=True)
class Totals:
    """What was counted of one log so far, and where it was read to."""

    cursor: str = ""
    applied: int = 0
    repeated: int = 0
    unknown: int = 0


class Reconciler:
    """Reads the logs of the targets beside the journal."""

    def __init__(self, bus: Bus, sources: Sequence[Source], path: Path) -> None:
        self._bus = bus
        self._sources = sources
        self._database = open_database(path, _SCHEMA)
        for source in sources:
            _count(source, Totals(), self.totals(source))

    def close(self) -> None:
        """Close the local file."""
        self._database.close()

    def totals(self, source: Source) -> Totals:
        """What was counted of this log."""
        query = "SELECT cursor, applied, repeated, unknown FROM progress WHERE log = ?"
        row = self._database.execute(query, (source.name,)).fetchone()
        return Totals(*row) if row else Totals()

    async def run(self, every_s: float = EVERY_S) -> None:
        """Read all logs to their ends again and again, until cancelled."""
        while True:
            for source in self._sources:
                try:
                    await self.reconcile(source)
                except (BusUnavailableError, TerminalError, ToolError) as error:
                    log.debug("target_not_reconciled", target=source.name, error=str(error))
            await asyncio.sleep(every_s)

    async def reconcile(self, source: Source) -> None:
        """Read one log to its end; raises a ``ToolError`` when it cannot be read, and ``BusUnavailableError``."""
        while True:
            before = self.totals(source)
            page = await source.read(source.system, before.cursor)
            if not page.changes:
                break
            unknown = await self._unknown(source.domain, page.changes)
            after = self._take(source, before, page.changes, unknown, page.cursor)
            _count(source, before, after)
            await asyncio.sleep(_PAUSE_S)
        metrics.ACTIONS_CHECKED_AT.labels(source.domain, source.target).set(unix())

    async def _unknown(self, domain: str, changes: Sequence[Applied]) -> frozenset[str]:
        """The keys that the journal has no effect of. It has the effect before the call: so it shows all of ours."""
        wanted = {subject: change.key for change in changes if (subject := effect_subject(domain, change.key))}
        found: set[str] = set()
        names = list(wanted)
        for start in range(0, len(names), _PAGE):
            page = await self._bus.last_of_each(subjects.JOURNAL, names[start : start + _PAGE])
            found |= {wanted[message.subject] for message in page if message.subject in wanted}
        return frozenset(change.key for change in changes if change.key not in found)

    def _take(
        self, source: Source, before: Totals, changes: Sequence[Applied], unknown: frozenset[str], cursor: str
    ) -> Totals:
        applied = repeated = strange = 0
        self._database.execute("BEGIN IMMEDIATE")
        try:
            for change in changes:
                insert = "INSERT OR IGNORE INTO seen (log, key) VALUES (?, ?)"
                is_new = self._database.execute(insert, (source.name, _digest(change.key))).rowcount == 1
                applied += is_new
                repeated += not is_new
                strange += is_new and change.key in unknown
                _tell(source, change, is_new, change.key in unknown)
            after = Totals(cursor, before.applied + applied, before.repeated + repeated, before.unknown + strange)
            values = (source.name, cursor, after.applied, after.repeated, after.unknown)
            self._database.execute("INSERT OR REPLACE INTO progress VALUES (?, ?, ?, ?, ?)", values)
            self._database.execute("DELETE FROM seen WHERE id <= (SELECT max(id) FROM seen) - ?", (_KEYS_MAX,))
            self._database.execute("COMMIT")
        except sqlite3.Error:
            self._database.execute("ROLLBACK")
            raise
        return after


def sources_of(packs: Mapping[str, Mapping[str, TargetLog]], systems: Mapping[str, Mapping[str, Any]]) -> list[Source]:
    """The logs of each pack, with what was opened for their targets."""
    return [
        Source(domain, target, systems[domain][target], read)
        for domain, logs in packs.items()
        for target, read in logs.items()
    ]


def effect_subject(domain: str, key: str) -> str:
    """Where the effect with this key stands in the journal; "" for a key that is none of ours.

    A key is ``wm-<task>-<step>`` (``mesh.canonical.effect_key``), and the step is the token of the effect's subject.
    """
    task, _, step = key.removeprefix(_PREFIX).partition("-") if key.startswith(_PREFIX) else ("", "", "")
    try:
        return subjects.record("effect", domain, task, step)
    except ValueError:
        return ""


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=16).digest()


def _tell(source: Source, change: Applied, is_new: bool, is_unknown: bool) -> None:
    if not is_new:
        log.error("action_repeated", target=source.name, key=change.key, kind=change.kind)
    elif is_unknown:
        log.error("action_unknown", target=source.name, key=change.key, kind=change.kind)


def _count(source: Source, before: Totals, after: Totals) -> None:
    labels = (source.domain, source.target)
    metrics.ACTIONS_APPLIED.labels(*labels).inc(after.applied - before.applied)
    metrics.ACTIONS_REPEATED.labels(*labels).inc(after.repeated - before.repeated)
    metrics.ACTIONS_UNKNOWN.labels(*labels).inc(after.unknown - before.unknown)
