"""What memory answers from: a projection of ``MEMORY`` in SQLite that can be thrown away and rebuilt.

The rule: every answer is judged at the moment that is asked about; what does not stand then is not in it.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
import structlog

from memory_service.finding import Finding
from memory_service.folding import Folding
from memory_service.recalling import judged, recalled
from memory_service.retrieval import retriever
from memory_service.retrieval.budget import within_budget
from memory_service.retrieval.documents import EQUAL, Weights
from memory_service.retrieval.embedder import Embedder
from memory_service.retrieval.retriever import Retriever
from memory_service.retrieval.vectors import VectorIndex
from memory_service.rules import Held, once, standing, value_of
from memory_service.table import SCHEMA, FactTable, span
from mesh import subjects
from mesh.bus import Bus, StoredMessage
from mesh.checkpoint import open_database
from mesh.clock import now, unix
from mesh.facts import AnyFactEvent, Erased, FactStatus, Judged, RecalledFact, Slot
from mesh.memory import FactsPage, FactsRequest, Grounds, MemoryStatus, Question
from mesh.projection import Projection

log = structlog.get_logger(__name__)

FACTS = "fact.>"
_FRESH_S = 60.0  # a change older than this was told when it happened
_OVERFETCH = 4  # hits a fact wanted: some do not stand any more
_GROUNDS_DEEP = 16

_decode = msgspec.json.Decoder(AnyFactEvent).decode
_decode_slot = msgspec.json.Decoder(Slot).decode


class FactView:
    """Follows ``MEMORY`` and answers questions about facts."""

    def __init__(
        self,
        bus: Bus,
        path: Path,
        *,
        vectors: VectorIndex | None = None,
        embedder: Embedder | None = None,
        weights: Weights = EQUAL,
    ) -> None:
        self._database = open_database(path, SCHEMA + retriever.SCHEMA)
        self._model = embedder.stamp if embedder is not None else "none"
        self.retriever = Retriever(self._database, vectors, embedder, weights)
        self.table = FactTable(self._database)
        self._finding = Finding(self.retriever)
        self._folding = Folding(self.table, self._finding)
        self._listener: Callable[[list[str], int], None] | None = None
        self.projection = Projection(bus, self._database, subjects.MEMORY, FACTS, self._apply)

    def on_change(self, listener: Callable[[list[str], int], None]) -> None:
        """Tell ``listener`` the subjects ``memory.changed.>`` of each recent event as it is taken in."""
        self._listener = listener

    async def recall(self, question: Question) -> list[RecalledFact]:
        """The facts that stand at the moment asked about: the best for the words, or else the newest."""
        found = await self._search(question) if question.query.strip() else self._newest(question)
        if question.token_budget:
            found = found[: within_budget((item.text for item in found), question.token_budget)]
        return found

    def standing(self, ids: Iterable[str]) -> list[Judged]:
        """What is made of these facts now; unknown ones are left out."""
        return [said for fact_id in ids if (said := self.judged(fact_id)) is not None]

    def stale(self, ids: Iterable[str]) -> int:
        """How many of these facts do not stand now."""
        return sum(said is None or said.status is not FactStatus.CURRENT for said in map(self.judged, ids))

    def judged(self, fact_id: str) -> Judged | None:
        """What is made of one fact now."""
        if (slot_id := self.table.slot_of(fact_id)) is None:
            return None
        held = self.table.held(slot_id)
        one = next((one for one in held if one.fact.id == fact_id), None)
        return judged(held, one, now()) if one is not None else None

    def slot(self, slot: Slot) -> list[Judged]:
        """What is made of all facts of a slot now, by version."""
        held, at = self.table.held(slot.id), now()
        return [judged(held, one, at) for one in held]

    def grounds(self, fact_id: str, deep: int = _GROUNDS_DEEP) -> Grounds | None:
        """A fact with what it rests on, to a depth of 16."""
        said, held = self.judged(fact_id), self.table.fact(fact_id)
        if said is None or held is None:
            return None
        below = [self.grounds(ground, deep - 1) for ground in said.fact.derived_from] if deep else []
        return Grounds(judged=said, seq=held.seq, grounds=tuple(ground for ground in below if ground is not None))

    def page(self, request: FactsRequest) -> FactsPage:
        """Judged facts by subject, predicate and version."""
        found: list[Judged] = []
        for slot_id in self._slots_behind(request):
            held, at = self.table.held(slot_id), now()
            for one in held:
                key = (one.fact.subject, one.fact.predicate, one.fact.version)
                if key <= request.after:
                    continue
                said = judged(held, one, at)
                if request.status is not None and said.status is not request.status:
                    continue
                if len(found) == request.limit:
                    last = found[-1].fact
                    return FactsPage(facts=tuple(found), next=(last.subject, last.predicate, last.version))
                found.append(said)
        return FactsPage(facts=tuple(found))

    def counts(self) -> tuple[int, int]:
        """How many facts there are, and how many slots are contested."""
        (facts,) = self._database.execute("SELECT count(*) FROM fact").fetchone()
        (contested,) = self._database.execute("SELECT count(*) FROM slot WHERE contested > 0").fetchone()
        return facts, contested

    def is_used(self, nonce: str) -> bool:
        """Whether an event rests on the word with this nonce already."""
        return self._database.execute("SELECT 1 FROM used_word WHERE nonce = ?", (nonce,)).fetchone() is not None

    async def purge(self) -> None:
        """Have nothing of what was deleted left in the files of this copy: vectors, log and tables."""
        await self.retriever.purge()

    def status(self) -> MemoryStatus:
        """How this copy is."""
        facts, contested = self.counts()
        done, total = self.retriever.progress
        return MemoryStatus(
            facts=facts,
            contested=contested,
            seq=self.projection.seq,
            model=self._model,
            index=self.retriever.state,
            indexed=done,
            documents=total,
        )

    async def close(self) -> None:
        """Close the index and the database."""
        await self.retriever.close()
        self._database.close()

    async def _search(self, question: Question) -> list[RecalledFact]:
        """The facts that fit the words best. A hit that does not stand at that moment is passed over."""
        found: list[RecalledFact] = []
        stands: dict[str, dict[str, Held]] = {}
        said: set[tuple[str, bytes]] = set()
        for hit in await self._finding.search(question, question.limit * _OVERFETCH):
            if (slot_id := self.table.slot_of(hit.id)) is None:
                continue
            if slot_id not in stands:
                stands[slot_id] = {held.fact.id: held for held in self._standing(slot_id, question)}
            held = stands[slot_id].get(hit.id)
            if held is None or (same := (slot_id, value_of(held.fact))) in said:
                continue
            said.add(same)
            found.append(recalled(held.fact, hit.score))
            if len(found) == question.limit:
                break
        return found

    def _newest(self, question: Question) -> list[RecalledFact]:
        """The facts of a scope that were written last."""
        low, high = span(question.subject)
        where, values = "scope = ? AND subject >= ? AND subject < ?", [question.scope.text, low, high]
        if question.predicate:
            where, values = f"{where} AND predicate = ?", [*values, question.predicate]
        found: list[RecalledFact] = []
        for (slot_id,) in self._database.execute(f"SELECT id FROM slot WHERE {where} ORDER BY seq DESC", values):
            found += [recalled(held.fact) for held in once(self._standing(slot_id, question))]
            if len(found) >= question.limit:
                break
        return found[: question.limit]

    def _standing(self, slot_id: str, question: Question) -> list[Held]:
        at = question.valid_at or now()
        held = standing(self.table.held(slot_id, at, question.known_at), at)
        return [one for one in held if one.fact.source.authority >= question.min_authority]

    def _slots_behind(self, request: FactsRequest) -> Iterator[str]:
        low, high = span(request.subject)
        contested = "AND contested > 0" if request.status is FactStatus.CONTESTED else ""
        rows = self._database.execute(
            f"SELECT id FROM slot WHERE scope = ? AND subject >= ? AND subject < ? {contested} "
            "AND (subject, predicate) >= (?, ?) ORDER BY subject, predicate",
            (request.scope.text, low, high, request.after[0], request.after[1]),
        )
        return (slot_id for (slot_id,) in rows)

    def _apply(self, database: sqlite3.Connection, message: StoredMessage) -> None:
        try:
            event: AnyFactEvent = _decode(message.data)
        except msgspec.DecodeError as error:
            log.error("fact_unreadable", subject=message.subject, seq=message.seq, error=str(error))
            return
        touched = self._folding.apply(event, message.seq)
        if self._listener is not None and unix() - event.at.timestamp() < _FRESH_S:
            self._listener(self._told(event, touched), message.seq)

    def _told(self, event: AnyFactEvent, touched: Iterable[str]) -> list[str]:
        told = []
        if isinstance(event, Erased):
            told.append(subjects.memory_changed(event.scope_token, event.subject_token))
        for slot_id in touched:
            row = self._database.execute("SELECT data FROM slot WHERE id = ?", (slot_id,)).fetchone()
            if row is not None:
                told.append(subjects.memory_changed(*_decode_slot(row[0]).tokens))
        return told
