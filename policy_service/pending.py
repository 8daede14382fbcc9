"""What waits for a person: a projection of the journal, so that it survives any kill and can be rebuilt."""

import asyncio
import sqlite3
from datetime import datetime
from pathlib import Path

import msgspec

from mesh import metrics, records, subjects
from mesh.approvals import Waiting
from mesh.bus import Bus, StoredMessage
from mesh.checkpoint import open_database
from mesh.clock import unix
from mesh.projection import Projection
from mesh.records import Approval, Decision, Phase, Purpose, Result, ResultStatus, Statement, Verdict
from policy_service.measuring import show_waiting, times_of
from policy_service.showing import waiting_on

_SCHEMA = """
CREATE TABLE IF NOT EXISTS waiting (
    task_id TEXT, purpose TEXT, step TEXT, seq INTEGER NOT NULL, until REAL, data BLOB NOT NULL,
    PRIMARY KEY (task_id, purpose, step)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS word (
    task_id TEXT, step TEXT, seq INTEGER NOT NULL, PRIMARY KEY (task_id, step)
) WITHOUT ROWID;
"""


class Pending:
    """Follows decisions, results and words, and lists what waits.

    A plan waits from its first decision to the second, an effect in doubt from that result to a word on it or the
    next result. Their sequences tell which is later, so the order in which the kinds are read does not matter.
    """

    def __init__(self, bus: Bus, path: Path) -> None:
        self._database = open_database(path, _SCHEMA)
        rows = self._database.execute("SELECT task_id, purpose, step, data FROM waiting")
        self._open = {tuple(key): times_of(msgspec.json.decode(data, type=Waiting)) for *key, data in rows}
        metrics.APPROVALS_WAITING.set(len(self._open))
        self.projections = tuple(
            Projection(bus, self._database, subjects.JOURNAL, subjects.kind(kind), self._apply, hints=False)
            for kind in ("decision", "result", "approval")
        )

    async def fresh(self) -> None:
        """Return once all that was on record before this call is taken in."""
        await asyncio.gather(*(projection.fresh() for projection in self.projections))

    async def show(self) -> None:
        """Have the metrics tell how long the oldest waits."""
        show_waiting(self._open.values(), unix())

    def waiting(self) -> list[Waiting]:
        """All that waits, longest first."""
        rows = self._database.execute("SELECT data FROM waiting ORDER BY seq")
        return [msgspec.json.decode(data, type=Waiting) for (data,) in rows]

    def expired(self, at: datetime) -> list[str]:
        """Tasks whose time for approval is over."""
        rows = self._database.execute("SELECT task_id FROM waiting WHERE until < ?", (at.timestamp(),))
        return [task for (task,) in rows]

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _apply(self, database: sqlite3.Connection, message: StoredMessage) -> None:
        task_id = message.subject.split(".")[3]
        try:
            record = records.decode(message.data)
        except ValueError:
            return  # a corrupt record is dead-lettered by its stage; here nothing waits because of it
        match record:
            case Decision(phase=Phase.PROPOSE, verdict=Verdict.NEEDS_APPROVAL):
                self._add(database, task_id, message.seq, waiting_on(record), "")
            case Decision(phase=Phase.EXECUTE):
                self._settle(database, task_id, Purpose.PLAN, "", message.seq)
            case Result(status=ResultStatus.IN_DOUBT):
                said = "SELECT 1 FROM word WHERE task_id = ? AND step = ? AND seq > ?"
                if database.execute(said, (task_id, record.step, message.seq)).fetchone() is None:
                    self._add(database, task_id, message.seq, _of_doubt(record), record.step)
            case Result():
                self._settle(database, task_id, Purpose.IN_DOUBT, record.step, message.seq)
            case Approval(statement=Statement(purpose=Purpose.IN_DOUBT, step=step)):
                database.execute("INSERT OR REPLACE INTO word VALUES (?, ?, ?)", (task_id, step, message.seq))
                self._settle(database, task_id, Purpose.IN_DOUBT, step, message.seq)

    def _add(self, database: sqlite3.Connection, task_id: str, seq: int, item: Waiting, step: str) -> None:
        until = item.until.timestamp() if item.until else None
        database.execute(
            "INSERT OR REPLACE INTO waiting VALUES (?, ?, ?, ?, ?, ?)",
            (task_id, item.purpose, step, seq, until, msgspec.json.encode(item)),
        )
        self._open[task_id, item.purpose, step] = times_of(item)
        metrics.APPROVALS_WAITING.set(len(self._open))

    def _settle(self, database: sqlite3.Connection, task_id: str, purpose: Purpose, step: str, seq: int) -> None:
        key = (task_id, purpose, step)
        if key not in self._open:
            return
        query = "DELETE FROM waiting WHERE task_id = ? AND purpose = ? AND step = ? AND seq < ?"
        if database.execute(query, (*key, seq)).rowcount:
            del self._open[key]
            metrics.APPROVALS_WAITING.set(len(self._open))


def _of_doubt(result: Result) -> Waiting:
    return Waiting(
        task_id=result.header.task_id,
        domain=result.header.domain,
        purpose=Purpose.IN_DOUBT,
        roles=(),
        since=result.header.at,
        until=None,
        step=result.step,
        reason=result.error,
    )
