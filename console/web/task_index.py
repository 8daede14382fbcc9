"""The tasks as a table to search and leaf through, kept from the journal in a file that can be thrown away.

The rule: every answer is one query over an index: ten thousand tasks are leafed through as fast as ten.
"""

import asyncio
import re
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from console.journal import moved
from mesh import records, subjects
from mesh.bus import Bus, StoredMessage
from mesh.checkpoint import open_database
from mesh.lifecycle import TaskState
from mesh.projection import Projection
from mesh.records import AnyRecord, Context, Outcome, ResultStatus

PAGE = 50
_KEPT = 200_000  # the newest tasks; older ones are in the journal, by their id
_PRUNE_EVERY = 1024
_TEXT_MAX = 4000  # characters of an event's data that can be searched
_WORDS_MAX = 8
_PACE_S = 0.2  # a page looks half a second old at worst: many records are taken in one transaction
_SCHEMA = """
CREATE TABLE IF NOT EXISTS task (
    seq INTEGER PRIMARY KEY, task_id TEXT NOT NULL UNIQUE, domain TEXT NOT NULL, event_type TEXT NOT NULL,
    event_id TEXT NOT NULL, entity TEXT NOT NULL, accepted_at TEXT NOT NULL, state TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '', amount INTEGER NOT NULL DEFAULT 0, currency TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS task_by_state ON task (state, seq);
CREATE INDEX IF NOT EXISTS task_by_domain ON task (domain, seq);
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(text);
"""
_FIRST = "seq, task_id, domain, event_type, event_id, entity, accepted_at, state"
_COLUMNS = f"{_FIRST}, reason, amount, currency"
_TOPICS = {
    "decision": "approvals",
    "approval": "approvals",
    "result": "approvals",
    "outcome": "approvals",
    "completion": "spending",
}
_UNMOVED = ("completion", "approval", "lesson")
_DOUBT = str(ResultStatus.IN_DOUBT).encode()
_WORD = re.compile(r"\w+")


class TaskRow(msgspec.Struct, frozen=True):
    """A task in the table."""

    seq: int
    task_id: str
    domain: str
    event_type: str
    event_id: str
    entity: str
    accepted_at: str
    state: str
    reason: str
    amount: int
    currency: str


class TaskIndex:
    """The table. ``projection`` must be followed; ``on_change`` is told the topics of what was taken in."""

    def __init__(self, bus: Bus, path: Path, on_change: Callable[[Iterable[str]], None]) -> None:
        self._database = open_database(path, _SCHEMA)
        self._on_change = on_change
        self._changed: set[str] = set()
        self._taken = 0
        self.projection = Projection(bus, self._database, subjects.JOURNAL, "task.>", self._apply, pace_s=_PACE_S)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def find(
        self, *, text: str = "", state: str = "", domain: str = "", before: int = 0, limit: int = PAGE
    ) -> Sequence[TaskRow]:
        """The newest tasks that match, behind ``before`` (a sequence); ``text`` is words or their beginnings."""
        wheres, values = ["1"], list[str | int]()
        if text.strip():
            wanted = " ".join(f'"{word}"*' for word in _WORD.findall(text)[:_WORDS_MAX])
            if not wanted:
                return ()
            wheres.append("seq IN (SELECT rowid FROM words WHERE words MATCH ?)")
            values.append(wanted)
        for column, value in (("state", state), ("domain", domain)):
            if value:
                wheres.append(f"{column} = ?")
                values.append(value)
        if before:
            wheres.append("seq < ?")
            values.append(before)
        query = f"SELECT {_COLUMNS} FROM task WHERE {' AND '.join(wheres)} ORDER BY seq DESC LIMIT ?"
        return [TaskRow(*row) for row in self._database.execute(query, (*values, limit))]

    def counts(self) -> dict[str, int]:
        """How many tasks are in each state."""
        return dict(self._database.execute("SELECT state, count(*) FROM task GROUP BY state"))

    def domains(self) -> list[str]:
        """The domains that have tasks."""
        return [row[0] for row in self._database.execute("SELECT DISTINCT domain FROM task ORDER BY domain")]

    def state_of(self, task_id: str) -> str:
        """Where a task stands; "" for none of this id."""
        row = self._database.execute("SELECT state FROM task WHERE task_id = ?", (task_id,)).fetchone()
        return row[0] if row else ""

    def _apply(self, database: sqlite3.Connection, message: StoredMessage) -> None:
        _, kind, _, task_id, _ = message.subject.split(".")
        if not self._changed:
            # The page of messages is taken in one step of the loop: they are told of when it is committed.
            asyncio.get_running_loop().call_soon(self._tell)
        self._changed |= {"tasks", f"task:{task_id}"}
        if topic := _TOPICS.get(kind):
            self._changed.add(topic)
        if kind in _UNMOVED or (kind == "result" and _DOUBT not in message.data):
            return  # they leave a task where it stands: not worth the time to decode them
        try:
            record = records.decode(message.data)
        except (ValueError, RecursionError):
            return  # who reads the task will see it: here it only lacks
        if isinstance(record, Context):
            self._add(database, message.seq, record)
        else:
            self._move(database, record)

    def _add(self, database: sqlite3.Connection, seq: int, context: Context) -> None:
        head, event = context.header, context.event
        row = (
            seq,
            head.task_id,
            head.domain,
            event.type,
            event.id,
            context.entity,
            event.accepted_at.isoformat(timespec="seconds"),
            str(TaskState.PERCEIVED),
        )
        added = database.execute(f"INSERT OR IGNORE INTO task ({_FIRST}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        if not added.rowcount:
            return
        text = " ".join((head.task_id, head.domain, event.type, event.id, context.entity, _said(context)))
        database.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (seq, text))
        self._taken += 1
        if self._taken % _PRUNE_EVERY == 0:
            old = "SELECT seq FROM task ORDER BY seq DESC LIMIT -1 OFFSET ?"
            database.execute(f"DELETE FROM words WHERE rowid IN ({old})", (_KEPT,))
            database.execute(f"DELETE FROM task WHERE seq IN ({old})", (_KEPT,))

    def _move(self, database: sqlite3.Connection, record: AnyRecord) -> None:
        task_id = record.header.task_id
        row = database.execute("SELECT state, reason FROM task WHERE task_id = ?", (task_id,)).fetchone()
        if row is None:
            return
        state, reason = moved(TaskState(row[0]), row[1], record)
        if isinstance(record, Outcome):
            change = "UPDATE task SET state = ?, reason = ?, amount = ?, currency = ? WHERE task_id = ?"
            database.execute(change, (str(state), reason, record.amount, record.currency, task_id))
        elif (state, reason) != row:
            database.execute("UPDATE task SET state = ?, reason = ? WHERE task_id = ?", (str(state), reason, task_id))

    def _tell(self) -> None:
        changed, self._changed = self._changed, set()
        self._on_change(changed)


def _said(context: Context) -> str:
    """The values of an event's data as text to search."""
    return records.text(context.data)[:_TEXT_MAX]
