"""Finding documents: by words at once, by meaning as soon as the background has their vectors.

The rule: writing a document touches neither model nor vector index. Both are followed up in the background, which can
be killed anywhere; and a hit is given only for a row that stands in the database, so no index can bring back what was
dropped or replaced.
"""

import asyncio
import sqlite3
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from functools import partial
from typing import NamedTuple, TypeVar

import structlog

from memory_service.retrieval import ledger, lexical
from memory_service.retrieval.documents import EQUAL, Document, Hit, Weights, Where, embedded_text
from memory_service.retrieval.embedder import Embedder, Vector
from memory_service.retrieval.fusion import fused
from memory_service.retrieval.ledger import Ledger
from memory_service.retrieval.lexical import Lexical
from memory_service.retrieval.vectors import VectorIndex, VectorIndexError

log = structlog.get_logger(__name__)
T = TypeVar("T")

SCHEMA = lexical.SCHEMA + ledger.SCHEMA
CANDIDATES = 100  # of each side; the fusion chooses among them
_EMBED_AT_ONCE = 16
_UPSERT_AT_ONCE = 256
_POLL_S = 1.0
_GATHER_S = 0.05
_RETRY_S = 5.0
_QUERIES_KEPT = 512
_SPOT_CHECKS = 8
_SAME = 0.99  # cosine of a vector with itself, kept as 16 bit floats


class State(StrEnum):
    """How searches are answered."""

    LEXICAL = "lexical"  # no model was chosen
    BUILDING = "building"  # words alone, until the vectors are whole
    READY = "ready"  # words and vectors
    REBUILDING = "rebuilding"  # words and the vectors of before, until the fresh ones are whole
    DAMAGED = "damaged"  # words alone: the vector index is away or failed


class Progress(NamedTuple):
    """How far a rebuild is."""

    done: int
    total: int


class Candidates(NamedTuple):
    """What both sides found for a query, by row, and the ids of the rows that stand."""

    lexical: dict[int, float]
    vector: dict[int, float]
    ids: dict[int, str]


class Retriever:
    """Hybrid search over documents in ``database``, which belongs to the thread of the event loop.

    The connection's schema must have been made with ``SCHEMA``.
    """

    def __init__(
        self,
        database: sqlite3.Connection,
        vectors: VectorIndex | None,
        embedder: Embedder | None,
        weights: Weights = EQUAL,
    ) -> None:
        self.weights = weights
        self._database = database
        self._lexical = Lexical(database)
        self._ledger = Ledger(database)
        has_both = vectors is not None and embedder is not None
        self._vectors = vectors if has_both else None
        self._embedder = embedder if has_both else None
        self._index_thread = ThreadPoolExecutor(1, thread_name_prefix="vector-index")
        self._words_thread = ThreadPoolExecutor(1, thread_name_prefix="words")
        self._reader = _reader(database)
        self._queries: OrderedDict[str, Vector] = OrderedDict()
        self._wake = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._rebuild_wanted = False
        self._checked = False
        self._done = 0
        self.state = State.LEXICAL
        if self._embedder is None:
            self._ledger.detach()
        else:
            self._ledger.use_model(self._embedder.stamp)
            self.state = State.BUILDING

    def put(self, document: Document) -> None:
        """Have this document found, and no earlier one of its id. Part of the caller's transaction."""
        self._gone(self._lexical.put(document))
        self._wake.set()

    def drop(self, document_id: str) -> None:
        """Have the document not found any more; nothing happens when it is not there. Part of the transaction."""
        self._gone(self._lexical.drop(document_id))
        self._wake.set()

    def rebuild(self) -> None:
        """Have the background make the vector index anew; ``state`` and ``progress`` tell how far it is."""
        self._rebuild_wanted = True
        self._wake.set()

    @property
    def count(self) -> int:
        """How many documents there are."""
        (count,) = self._database.execute("SELECT count(*) FROM document").fetchone()
        return int(count)

    @property
    def lag(self) -> int:
        """How many documents are found by their words only, as yet."""
        return 0 if self._embedder is None else self._ledger.lag()

    @property
    def progress(self) -> Progress:
        """Of the rebuild under way, or of the first build."""
        total = self.count
        return Progress(self._done if self.state is State.REBUILDING else total - self.lag, total)

    async def search(self, query: str, where: Where, limit: int) -> list[Hit]:
        """The best documents for any text, best first. When the vector index fails, those found by words."""
        lexical, vector, ids = await self.candidates(query, where)
        found = fused(lexical, vector, self.weights)
        return [Hit(ids[row], score) for row, score in found if row in ids][:limit]

    async def candidates(self, query: str, where: Where) -> Candidates:
        """The first hundred of each side with their own scores: BM25, and cosine."""
        words, near = await asyncio.gather(self._by_words(query, where), self._by_meaning(query, where))
        if near and self._embedder is not None:
            # What words found is given its cosine too, even when it is not among the nearest: this is worth five
            # points of recall@10 on LoCoMo.
            vector = await self._query_vector(self._embedder, query)
            near |= self._ledger.cosines(vector, [row for row in words if row not in near])
        return Candidates(words, near, self._ids([*words, *(row for row in near if row not in words)]))

    async def run(self) -> None:
        """Follow up with vectors until cancelled."""
        while True:
            self._wake.clear()
            try:
                await self.catch_up()
            except VectorIndexError as error:
                log.warning("vector_index_damaged", error=str(error))
                self.state, self._checked = State.DAMAGED, False
                await asyncio.sleep(_RETRY_S)
                continue
            await _woken(self._wake, _POLL_S)
            await asyncio.sleep(_GATHER_S)

    async def catch_up(self) -> None:
        """Bring the vectors up to the documents, once; raises ``VectorIndexError`` when the index cannot be used."""
        if self._embedder is None or self._vectors is None:
            return
        async with self._one_at_a_time:
            await self._catch_up(self._embedder, self._vectors)

    async def _catch_up(self, embedder: Embedder, vectors: VectorIndex) -> None:
        if not self._checked or self._rebuild_wanted:
            await self._check(vectors)
        await self._embed_waiting(embedder)
        if self.state is not State.READY:
            await self._fill(vectors, embedder.size)
        await self._upsert_new(vectors)
        await self._drop_gone(vectors)

    async def purge(self) -> None:
        """Remove the last trace of what was dropped from the database's file and the vector index.

        SQLite overwrites what it deletes; its log is emptied here. The index is made anew, from the kept vectors.
        """
        self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if self._vectors is not None:
            self._rebuild_wanted = True
            await self.catch_up()

    async def close(self) -> None:
        """Close the vector index and end the threads; the database is the caller's."""
        if self._vectors is not None:
            await self._on_index(self._vectors.close)
        self._index_thread.shutdown(wait=True)
        self._words_thread.shutdown(wait=True)
        if self._reader is not None:
            self._reader.close()

    async def _by_words(self, query: str, where: Where) -> dict[int, float]:
        if self._reader is None:
            return lexical.search(self._database, query, where, CANDIDATES)
        work = partial(lexical.search, self._reader, query, where, CANDIDATES)
        return await asyncio.get_running_loop().run_in_executor(self._words_thread, work)

    async def _by_meaning(self, query: str, where: Where) -> dict[int, float]:
        if self._vectors is None or self._embedder is None or not query.strip():
            return {}
        if self.state not in (State.READY, State.REBUILDING):
            return {}
        vector = await self._query_vector(self._embedder, query)
        try:
            found = await self._on_index(partial(self._vectors.search, vector, where, CANDIDATES))
        except VectorIndexError as error:
            log.warning("vector_search_failed", error=str(error))
            self.state, self._checked = State.DAMAGED, False
            self._wake.set()
            return {}
        return dict(found)

    async def _query_vector(self, embedder: Embedder, query: str) -> Vector:
        kept = self._queries.get(query)
        if kept is not None:
            self._queries.move_to_end(query)
            return kept
        (vector,) = await asyncio.to_thread(embedder.embed, [query])
        self._queries[query] = vector
        if len(self._queries) > _QUERIES_KEPT:
            self._queries.popitem(last=False)
        return vector

    def _ids(self, rows: list[int]) -> dict[int, str]:
        """The ids of the rows that stand; a row that an index still has of something dropped is not among them."""
        marks = ",".join("?" * len(rows))
        return dict(self._database.execute(f"SELECT row, id FROM document WHERE row IN ({marks})", rows).fetchall())

    def _gone(self, row: int | None) -> None:
        if row is not None:
            self._ledger.drop(row, tell=self._vectors is not None)

    async def _check(self, vectors: VectorIndex) -> None:
        """Tell whether the index is ours and whole; if not, words alone answer until it was made anew."""
        wanted, self._rebuild_wanted = self._rebuild_wanted, False
        is_sound = await self._is_sound(vectors)
        self._checked = True
        if is_sound:
            self.state = State.REBUILDING if wanted else State.READY
        else:
            self.state = State.BUILDING
            await self._on_index(vectors.wipe)

    async def _is_sound(self, vectors: VectorIndex) -> bool:
        """The stamp is ours, the count is right, and some vectors are found as themselves: files can be damaged."""
        stamp = self._ledger.index_stamp
        if stamp.partition(" ")[0] != self._ledger.model or await self._on_index(vectors.stamp) != stamp:
            return False
        try:
            # More than that is what a kill left between upsert and cursor: it is put again, or forgotten.
            if await self._on_index(vectors.count) < self._ledger.indexed():
                return False
            for entry in self._ledger.sample(_SPOT_CHECKS):
                near = await self._on_index(partial(vectors.search, entry.vector, entry.where, 1))
                if not near or near[0][1] < _SAME:
                    return False
        except VectorIndexError as error:
            log.warning("vector_index_unsound", error=str(error))
            return False
        return True

    async def _embed_waiting(self, embedder: Embedder) -> None:
        while waiting := self._ledger.waiting(_EMBED_AT_ONCE):
            texts = [embedded_text(each.document) for each in waiting]
            made = await asyncio.to_thread(embedder.embed, texts)
            self._ledger.keep(zip((each.row for each in waiting), made, strict=True), waiting[-1].row)
            if self.state is State.READY and self._vectors is not None:
                await self._upsert_new(self._vectors)

    async def _fill(self, vectors: VectorIndex, size: int) -> None:
        """Make a fresh generation from the kept vectors and switch to it."""
        stamp, row, self._done = self._ledger.new_generation(), 0, 0
        await self._on_index(partial(vectors.begin, stamp, size))
        gone = self._ledger.dropped()
        while entries := self._ledger.entries(row, _UPSERT_AT_ONCE):
            await self._on_index(partial(vectors.put, entries))
            row = entries[-1].row
            self._done += len(entries)
        await self._on_index(vectors.finish)
        self._ledger.switched(stamp, row)
        self._ledger.was_told(gone)
        self.state, self._done = State.READY, 0

    async def _upsert_new(self, vectors: VectorIndex) -> None:
        row = start = self._ledger.upserted
        while entries := self._ledger.entries(row, _UPSERT_AT_ONCE):
            await self._on_index(partial(vectors.put, entries))
            row = entries[-1].row
        if row > start:
            await self._on_index(vectors.flush)
            self._ledger.upserted_to(row)

    async def _drop_gone(self, vectors: VectorIndex) -> None:
        while rows := self._ledger.dropped(_UPSERT_AT_ONCE):
            await self._on_index(partial(vectors.drop, rows))
            await self._on_index(vectors.flush)
            self._ledger.was_told(rows)

    async def _on_index(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._index_thread, work)


def _reader(database: sqlite3.Connection) -> sqlite3.Connection | None:
    """A second connection for searches, so that they hold up nothing; ``None`` where there is no file."""
    (path,) = [file for _, name, file in database.execute("PRAGMA database_list") if name == "main"]
    if not path:
        return None
    reader = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    reader.execute("PRAGMA query_only = ON")
    return reader


async def _woken(event: asyncio.Event, limit_s: float) -> None:
    try:
        async with asyncio.timeout(limit_s):
            await event.wait()
    except TimeoutError:
        pass
