"""The tallies: counted from the journal exactly once across kills, and told to memory as facts.

The rule: counting never waits for memory; what memory has not taken yet is told again, and told twice does no harm.
"""

import asyncio
import sqlite3
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog

from agents.learner.counting import Key, Kind, Tally, fold, keys, sentence
from mesh import records, service, subjects
from mesh.bus import Bus, StoredMessage
from mesh.checkpoint import open_database
from mesh.errors import BusUnavailableError, WorkmeshError
from mesh.facts import FactEvent, Provenance, RememberRequest
from mesh.projection import Projection
from mesh.records import Causation, Outcome

log = structlog.get_logger(__name__)

FACT_KEY = "outcomes"
PUBLISH_S = 2.0  # one write a busy key in this time, however many outcomes

_SCHEMA = """
CREATE TABLE IF NOT EXISTS tally (
    kind TEXT, name TEXT, seq INTEGER NOT NULL, told INTEGER NOT NULL DEFAULT 0, data BLOB NOT NULL,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;
"""

_decode = msgspec.json.Decoder(Tally).decode
_encode = msgspec.json.Encoder().encode


class Row(NamedTuple):
    """The tally of one key."""

    key: Key
    tally: Tally


class Tallies:
    """Follows the outcomes, counts them, and tells memory what has changed."""

    def __init__(self, bus: Bus, path: Path, writer: str) -> None:
        self._bus = bus
        self._writer = writer
        self._database = open_database(path, _SCHEMA)
        outcomes = subjects.kind("outcome")
        self.projection = Projection(bus, self._database, subjects.JOURNAL, outcomes, self._apply, hints=False)

    def rows(self, *, untold: bool = False) -> list[Row]:
        """All tallies, or those that memory has not taken as they are now."""
        where = "WHERE seq > told" if untold else ""
        found = self._database.execute(f"SELECT kind, name, data FROM tally {where} ORDER BY kind, name")
        return [Row(Key(Kind(kind), name), _decode(data)) for kind, name, data in found]

    async def run(self, every_s: float = PUBLISH_S) -> None:
        """Tell memory what has changed, again and again, until cancelled."""
        while True:
            await self.tell()
            await asyncio.sleep(every_s)

    async def tell(self) -> int:
        """Tell memory each tally that has changed; how many it took. What it did not take comes with the next call."""
        taken = 0
        for key, tally in self.rows(untold=True):
            try:
                await service.ask(self._bus, "memory", "remember", fact_of(key, tally, self._writer), FactEvent)
            except BusUnavailableError as error:
                log.warning("memory_away", scope=key.scope, error=str(error))
                break
            except WorkmeshError as error:
                log.error("tally_not_taken", scope=key.scope, error=str(error))
                continue
            self._database.execute(
                "UPDATE tally SET told = ? WHERE kind = ? AND name = ?", (tally.seq, key.kind, key.name)
            )
            taken += 1
        return taken

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _apply(self, database: sqlite3.Connection, message: StoredMessage) -> None:
        try:
            ending = records.decode(message.data)
        except ValueError as error:
            log.error("outcome_unreadable", subject=message.subject, seq=message.seq, error=str(error))
            return
        if not isinstance(ending, Outcome):
            return
        before = {key: tally for key in keys(ending) if (tally := _load(database, key)) is not None}
        for key, tally in fold([(message.seq, message.subject, ending)], before).items():
            database.execute(
                "INSERT INTO tally (kind, name, seq, data) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (kind, name) DO UPDATE SET seq = excluded.seq, data = excluded.data",
                (key.kind, key.name, tally.seq, _encode(tally)),
            )


def fact_of(key: Key, tally: Tally, writer: str) -> RememberRequest:
    """The fact that tells a tally: the same tally is the same fact, whichever copy tells it."""
    return RememberRequest(
        scope=key.scope,
        key=FACT_KEY,
        text=sentence(key, tally),
        value=msgspec.Raw(_encode(tally)),
        as_of=tally.seq,
        provenance=Provenance(
            writer=writer,
            source=f"journal outcomes up to {tally.seq}",
            causation=Causation(stream=subjects.JOURNAL, subject=tally.subject, seq=tally.seq),
        ),
    )


def _load(database: sqlite3.Connection, key: Key) -> Tally | None:
    row = database.execute("SELECT data FROM tally WHERE kind = ? AND name = ?", key).fetchone()
    return _decode(row[0]) if row else None
