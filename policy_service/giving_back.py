"""Giving back what a task took of limits over time, when nothing came of it: once, whichever copy does it.

The rule: only what the journal shows did not happen is given back; in doubt it stays counted.
"""

import sqlite3
from pathlib import Path

import structlog

from mesh import records, subjects
from mesh.bus import Bus, StoredMessage
from mesh.checkpoint import open_database
from mesh.errors import TerminalError
from mesh.journal import Journal, Stored
from mesh.projection import Projection
from mesh.records import Decision, Outcome, OutcomeStatus, Result, ResultStatus, Verdict
from policy_service.ledger import Ledger
from policy_service.limits import TASKS, Take
from policy_service.live import LiveBundles

log = structlog.get_logger(__name__)

_SCHEMA = "CREATE TABLE IF NOT EXISTS ended (task_id TEXT PRIMARY KEY, domain TEXT) WITHOUT ROWID;"
_MAY_HAVE_TAKEN = (
    OutcomeStatus.FAILED,
    OutcomeStatus.COMPENSATED,
    OutcomeStatus.REFUSED,
    OutcomeStatus.EXPIRED,
)
MARKER = "-"  # no limit's id: limit.<domain>.-.<task>


class GivingBack:
    """Follows outcomes, and gives back what came to nothing."""

    def __init__(self, bus: Bus, journal: Journal, ledger: Ledger, bundles: LiveBundles, path: Path) -> None:
        self._journal = journal
        self._ledger = ledger
        self._bundles = bundles
        self._database = open_database(path, _SCHEMA)
        outcomes = subjects.kind("outcome")
        self.projection = Projection(bus, self._database, subjects.JOURNAL, outcomes, self._apply, hints=False)

    async def give_back(self) -> int:
        """Give back for the tasks that have ended since the last time; for how many something was."""
        count = 0
        for task_id, domain in self._database.execute("SELECT task_id, domain FROM ended").fetchall():
            try:
                count += await self._task(task_id, domain)
            except TerminalError as error:
                log.error("limit_stays_counted", task_id=task_id, reason=str(error))
            self._database.execute("DELETE FROM ended WHERE task_id = ?", (task_id,))
        return count

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    async def _task(self, task_id: str, domain: str) -> bool:
        items = await self._journal.task(task_id, domain)
        found = [item.record for item in items if isinstance(item.record, Decision)]
        decision = next((each for each in found if each.verdict is Verdict.ALLOW and each.limits), None)
        if decision is None or moved(items, decision):
            return False
        bundle = await self._bundles.by_digest(domain, decision.bundle)
        back: dict[tuple[str, str], Take] = {}
        for use in decision.limits:
            limit = bundle.governance.limit(use.limit)
            if limit is None:
                raise TerminalError(f"the bundle {decision.bundle} has no limit {use.limit}")
            take = Take(limit=limit, domain=domain, key=use.key, amount=0 if use.unit == TASKS else use.adds)
            held = back.get((use.limit, use.key))
            if held is None or take.amount > held.amount:
                back[use.limit, use.key] = take
        marked = subjects.limit(domain, MARKER, task_id)
        done = await self._ledger.give_back(marked, tuple(back.values()), decision.header.at.timestamp())
        if done:
            log.info("limit_given_back", task_id=task_id, limits=sorted({use.limit for use in decision.limits}))
        return done

    def _apply(self, database: sqlite3.Connection, message: StoredMessage) -> None:
        try:
            ending = records.decode(message.data)
        except ValueError:
            return  # nothing is known of it, so nothing is given back
        if isinstance(ending, Outcome) and ending.status in _MAY_HAVE_TAKEN:
            head = ending.header
            database.execute("INSERT OR IGNORE INTO ended VALUES (?, ?)", (head.task_id, head.domain))


def moved(items: list[Stored], decision: Decision) -> bool:
    """Whether money may have moved: a step that has an amount succeeded, or is in doubt, and was not taken back."""
    results = {item.record.step: item.record for item in items if isinstance(item.record, Result)}
    for sheet in decision.sheets:
        result = results.get(sheet.step)
        if not sheet.amount or result is None or result.status is ResultStatus.FAILED:
            continue
        undone = results.get(f"{sheet.step}~undo")
        if undone is None or undone.status is not ResultStatus.SUCCEEDED:
            return True
    return False
