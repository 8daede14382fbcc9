"""What happened with each tool, as evidence for its autonomy: counted from the journal, and rebuilt from it.

The rule: an ended task counts once for each of its tools, a person's word once for each tool that it was asked for by.
"""

import asyncio
import sqlite3
from datetime import datetime
from pathlib import Path

from mesh import records, subjects
from mesh.autonomy import Evidence
from mesh.bus import Bus, StoredMessage
from mesh.checkpoint import open_database
from mesh.projection import Projection
from mesh.records import Approval, Lesson, Outcome, OutcomeStatus, Purpose, Word

_SCHEMA = """
CREATE TABLE IF NOT EXISTS evidence (
    domain TEXT, tool TEXT, at REAL, seq INTEGER, tasks INTEGER, errors INTEGER, words INTEGER, overrides INTEGER,
    PRIMARY KEY (domain, tool, at, seq)
) WITHOUT ROWID;
"""
_ERRORS = (OutcomeStatus.FAILED, OutcomeStatus.COMPENSATED)
_ENDS = (OutcomeStatus.COMPLETED, OutcomeStatus.OBSERVED, *_ERRORS)
_COUNT = """
SELECT coalesce(sum(tasks), 0), coalesce(sum(errors), 0), coalesce(sum(words), 0), coalesce(sum(overrides), 0)
FROM evidence WHERE domain = ? AND tool = ? AND at >= ?
"""


class EvidenceBook:
    """Follows outcomes, words and corrections, and sums them up for a tool."""

    def __init__(self, bus: Bus, path: Path) -> None:
        self._database = open_database(path, _SCHEMA)
        self.projections = tuple(
            Projection(bus, self._database, subjects.JOURNAL, subjects.kind(kind), self._apply, hints=False)
            for kind in ("outcome", "approval", "lesson")
        )

    def since(self, domain: str, tool: str, start: datetime) -> Evidence:
        """What happened with a tool from this time on."""
        tasks, errors, words, overrides = self._database.execute(_COUNT, (domain, tool, start.timestamp())).fetchone()
        return Evidence(since=start, tasks=tasks, errors=errors, words=words, overrides=overrides)

    async def fresh(self) -> None:
        """Return once all that was on record before this call is counted."""
        await asyncio.gather(*(projection.fresh() for projection in self.projections))

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _apply(self, database: sqlite3.Connection, message: StoredMessage) -> None:
        try:
            record = records.decode(message.data)
        except ValueError:
            return  # a corrupt record is dead-lettered by its stage; it is no evidence
        counts = (0, 0, 0, 0)
        tools: tuple[str, ...] = ()
        match record:
            case Outcome(status=status) if status in _ENDS:
                tools, counts = record.tools, (1, int(status in _ERRORS), 0, 0)
            case Approval(statement=said) if said.purpose is Purpose.PLAN:
                tools, counts = record.tools, (0, 0, 1, int(said.word is not Word.APPROVE))
            case Lesson(correction=text) if text:
                tools, counts = record.tools, (0, 0, 0, 1)
        for tool in dict.fromkeys(tools):
            database.execute(
                "INSERT OR IGNORE INTO evidence VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (record.header.domain, tool, record.header.at.timestamp(), message.seq, *counts),
            )
