"""Retrieval alone, in this process: recalls beside each other and against comparing all vectors with numpy.

The documents are made: short statements about customers, orders, suppliers and machines, from a vocabulary of
thousands of names, so that words are as rare and as frequent as in a company's facts. Vectors are the model's own, of
as many different texts as the time for it allows; the rest are those, turned a little.
"""

import asyncio
import random
import resource
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memory_service.retrieval.documents import Document, Where
from memory_service.retrieval.embedder import Embedder, Vector
from memory_service.retrieval.opening import open_parts
from memory_service.retrieval.retriever import SCHEMA, Retriever
from mesh.checkpoint import open_database
from mesh.settings import MemorySettings

Say = Callable[[str], None]
Figures = dict[str, Any]

WHERE = Where("organisation")
_EMBEDDED = 2000
_RECALLS = 300
_WRITE_AT_ONCE = 256
_SYLLABLES = tuple("ba ce di fo gu ha je ki lo mu na pe qui ro su ta ve wi xo yu bran clen dorf gard holm kirk".split())
_STATEMENTS = (
    ("customer", "prefers", "wants {thing} delivered by {way} before {hour} o'clock"),
    ("customer", "complained", "said that the {thing} was {state} when it came from {place}"),
    ("order", "contains", "{count} pieces of {thing} in {colour}, shipped to {place} by {way}"),
    ("supplier", "delivers", "brings {thing} on {day} and is paid within {count} days"),
    ("machine", "needs", "must be checked every {count} hours because the {part} gets {state}"),
    ("contract", "states", "{place} is served by {way} until {day}, notice of {count} weeks"),
    ("site", "rule", "visitors of {place} show the {thing} at the {part} on {day}"),
)
_WORDS = {
    "thing": "boards lamps parcels tiles engines cables pumps chairs windows filters carpets badges ovens".split(),
    "way": "courier train lorry ship post bicycle".split(),
    "state": "broken wet late cold loose scratched missing hot dirty".split(),
    "colour": "red blue green black white grey yellow".split(),
    "part": "gate pump valve door belt office roof sensor gear".split(),
    "day": "Monday Tuesday Wednesday Thursday Friday Saturday".split(),
}
_QUESTIONS = (
    "How does {name} want {thing} to be delivered?",
    "What did {name} complain about?",
    "When does {name} bring {thing}?",
    "which {part} gets {state}",
    "{thing} in {colour} for {place}",
    "What must visitors show on {day}?",
)


class Turned:
    """The model, but for documents behind the first: theirs is the vector of an earlier one, turned at random.

    Comparing vectors costs the same whatever they are; making 100,000 of them would take half an hour.
    """

    def __init__(self, model: Embedder, real: int) -> None:
        self._model = model
        self._real = real
        self._made: list[Vector] = []
        self._random = np.random.default_rng(7)
        self.stamp, self.size = f"bench-{model.stamp}", model.size
        self.embed_s = 0.0

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        """The model's vectors while there are few, and for single texts: those are queries."""
        if len(texts) == 1:
            return self._model.embed(texts)
        if len(self._made) < self._real:
            begun = time.perf_counter()
            found = self._model.embed(texts)
            self.embed_s += time.perf_counter() - begun
            self._made += found
            return found
        picked = np.asarray([self._made[each] for each in self._random.integers(len(self._made), size=len(texts))])
        turned = picked + self._random.normal(scale=0.02, size=picked.shape)
        return list((turned / np.linalg.norm(turned, axis=1, keepdims=True)).tolist())

    @property
    def embedded(self) -> int:
        """How many texts the model itself was given."""
        return len(self._made)

    def tokens(self, text: str) -> int:
        """As the model counts."""
        return self._model.tokens(text)


async def retrieval(folder: Path, size: int, say: Say) -> Figures:
    """Writes, vectors and recalls over so many documents in one scope, with the memory that each takes."""
    rng = random.Random(11)
    rss = {"at the start": rss_mb()}
    database = open_database(folder / "documents.db", SCHEMA)
    made = list(documents(size, rng))
    lexical = Retriever(database, None, None)
    say(f"memory: writing {size} documents")
    writes_per_s = round(size / _timed(lambda: _write(database, lexical, made)))
    questions = [question(rng) for _ in range(_RECALLS)]
    words = await _recalls(lexical, questions)
    await lexical.close()
    rss["with words"] = rss_mb()
    index, model = open_parts(MemorySettings(embedder_threads=2), folder)
    if model is None:
        raise RuntimeError("the bench needs the model")
    rss["with the model"] = rss_mb()
    turned = Turned(model, min(_EMBEDDED, size))
    retriever = Retriever(database, index, turned)
    try:
        say("memory: making vectors")
        await retriever.catch_up()
        rss["with vectors"] = rss_mb()
        say("memory: recalling")
        both = await _recalls(retriever, questions)
        embed_ms = [_timed(partial(model.embed, [text])) * 1000 for text in questions[:100]]
        scan = _scan(database, model, questions[:100])
        return {
            "documents": size,
            "words_per_text": round(statistics.mean(len(each.text.split()) for each in made), 1),
            "writes_per_s": writes_per_s,
            "words": words,
            "words_and_vectors": both,
            "model_alone_p50_ms": round(statistics.median(embed_ms), 1),
            "scan": scan,
            "ratio_to_scan": round(scan["p50_ms"] / both["p50_ms"], 2),
            "embedded_per_s": round(turned.embedded / turned.embed_s),
            "rss_mb": rss,
            "database_mb": round((folder / "documents.db").stat().st_size / 1e6),
            "vectors_mb": round(_size(folder / "vectors") / 1e6),
        }
    finally:
        await retriever.close()
        database.close()


def documents(count: int, rng: random.Random) -> Iterator[Document]:
    """So many statements about made-up subjects."""
    for number in range(count):
        kind, predicate, statement = rng.choice(_STATEMENTS)
        subject = f"{kind}/{_name(rng)}-{rng.randrange(1000)}"
        yield Document(f"d{number}", WHERE.scope, subject, predicate, _filled(statement, rng), number)


def question(rng: random.Random) -> str:
    """A question about such statements."""
    return _filled(rng.choice(_QUESTIONS), rng)


def _filled(text: str, rng: random.Random) -> str:
    words = {name: rng.choice(choices) for name, choices in _WORDS.items()}
    return text.format(
        **words, place=_name(rng), name=_name(rng), count=rng.randrange(2, 400), hour=rng.randrange(6, 20)
    )


def _name(rng: random.Random) -> str:
    """One of some ten thousand names, the first of them far more often."""
    number = min(int(rng.paretovariate(0.6)), 20_000)
    parts = []
    while number:
        number, left = divmod(number, len(_SYLLABLES))
        parts.append(_SYLLABLES[left])
    return "".join(parts)


def _write(database: sqlite3.Connection, retriever: Retriever, documents: Sequence[Document]) -> None:
    for start in range(0, len(documents), _WRITE_AT_ONCE):
        database.execute("BEGIN")
        for document in documents[start : start + _WRITE_AT_ONCE]:
            retriever.put(document)
        database.execute("COMMIT")


async def _recalls(retriever: Retriever, questions: Sequence[str]) -> Figures:
    """One after the other, each question new to it."""
    taken, found = [], 0
    for question in questions:
        begun = time.perf_counter()
        found += len(await retriever.search(question, WHERE, 10))
        taken.append((time.perf_counter() - begun) * 1000)
        await asyncio.sleep(0)
    return {**spread(taken), "found": round(found / len(questions), 1)}


def _scan(database: sqlite3.Connection, model: Embedder, questions: Sequence[str]) -> Figures:
    """The same questions by the model and one matrix product over all vectors, as simple as it can be."""
    kept = [data for (data,) in database.execute("SELECT data FROM vector")]
    matrix: NDArray[np.float32] = np.frombuffer(b"".join(kept), "<f2").reshape(len(kept), -1).astype(np.float32)
    taken = []
    for question in questions:
        begun = time.perf_counter()
        scores = matrix @ np.asarray(model.embed([question])[0], np.float32)
        best = np.argpartition(scores, -min(10, scores.size))[-10:]
        best[np.argsort(-scores[best])].tolist()
        taken.append((time.perf_counter() - begun) * 1000)
    return spread(taken)


def spread(taken: list[float]) -> Figures:
    """Median and 99th percentile of milliseconds."""
    ranked = sorted(taken)
    return {
        "p50_ms": round(statistics.median(ranked), 1),
        "p99_ms": round(ranked[min(len(ranked) - 1, int(len(ranked) * 0.99))], 1),
    }


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _size(folder: Path) -> int:
    """What the files take on disk, holes not counted."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def rss_mb() -> int:
    """What this process holds of real memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * resource.getpagesize() // 1_000_000
