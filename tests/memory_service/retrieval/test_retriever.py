import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from memory_service.retrieval.documents import Document, Hit, Where
from memory_service.retrieval.edge import EdgeIndex
from memory_service.retrieval.embedder import Embedder, Vector
from memory_service.retrieval.retriever import SCHEMA, Retriever, State
from memory_service.retrieval.vectors import Entry, VectorIndexError
from mesh.checkpoint import open_database

ORG = Where("org")
TEXTS = ("the parcel was sent by courier", "she likes jazz music", "invoices are paid within thirty days")


def document(number: int, text: str, scope: str = "org") -> Document:
    return Document(f"d{number}", scope, f"customer/{number}", "note", text, number)


def fill(retriever: Retriever, texts: Sequence[str] = TEXTS) -> None:
    for number, text in enumerate(texts):
        retriever.put(document(number, text))


async def ids(retriever: Retriever, query: str, where: Where = ORG) -> list[str]:
    return [hit.id for hit in await retriever.search(query, where, 10)]


def is_ready(retriever: Retriever) -> bool:
    return retriever.state is State.READY and retriever.lag == 0


async def until(condition: Callable[[], bool]) -> None:
    while True:
        if condition():
            return
        await asyncio.sleep(0.01)


@asynccontextmanager
async def opened(database: sqlite3.Connection, folder: Path, embedder: Embedder | None) -> AsyncIterator[Retriever]:
    index = EdgeIndex(folder / "vectors") if embedder else None
    retriever = Retriever(database, index, embedder)
    try:
        yield retriever
    finally:
        await retriever.close()


async def test_a_document_is_found_by_words_at_once_and_by_meaning_after_catching_up(
    database: sqlite3.Connection, tmp_path: Path, minilm: Embedder
) -> None:
    async with opened(database, tmp_path, minilm) as retriever:
        fill(retriever)
        assert (await ids(retriever, "parcel"))[0] == "d0"
        assert await ids(retriever, "shipment") == []
        assert (retriever.state, retriever.lag, retriever.count) == (State.BUILDING, 3, 3)
        await retriever.catch_up()
        assert (retriever.state, retriever.lag) == (State.READY, 0)
        assert (await ids(retriever, "shipment"))[0] == "d0"
        assert (await ids(retriever, "which songs does she enjoy"))[0] == "d1"
        hits = await retriever.search("jazz songs", ORG, 2)
        assert hits[0] == Hit("d1", 1.0)
        assert len(hits) == 2
        assert await ids(retriever, "jazz", Where("org", "customer/0")) == ["d0"]
        assert await ids(retriever, "jazz", Where("other")) == []
        assert await ids(retriever, "  ") == []


async def test_without_a_model_words_alone_answer(database: sqlite3.Connection, tmp_path: Path) -> None:
    async with opened(database, tmp_path, None) as retriever:
        fill(retriever)
        await retriever.catch_up()
        assert (retriever.state, retriever.lag) == (State.LEXICAL, 0)
        assert await ids(retriever, "jazz") == ["d1"]
    assert not (tmp_path / "vectors").exists()


async def test_what_is_dropped_or_replaced_is_found_no_more_though_the_index_has_it_still(
    database: sqlite3.Connection, tmp_path: Path, minilm: Embedder
) -> None:
    async with opened(database, tmp_path, minilm) as retriever:
        fill(retriever)
        await retriever.catch_up()
        retriever.drop("d0")
        retriever.drop("unknown")
        retriever.put(document(1, "he collects stamps"))
        assert "d0" not in await ids(retriever, "parcel shipment")
        assert "d1" not in (await ids(retriever, "which songs does she enjoy"))
        await retriever.catch_up()
        assert (await ids(retriever, "philately"))[0] == "d1"
    index = EdgeIndex(tmp_path / "vectors")
    assert index.count() == 2
    index.close()


async def test_a_write_that_is_rolled_back_leaves_nothing(
    database: sqlite3.Connection, tmp_path: Path, minilm: Embedder
) -> None:
    async with opened(database, tmp_path, minilm) as retriever:
        fill(retriever)
        await retriever.catch_up()
        database.execute("BEGIN")
        retriever.drop("d0")
        retriever.put(document(7, "a rolled back remark"))
        database.execute("ROLLBACK")
        await retriever.catch_up()
        assert (await ids(retriever, "shipment"))[0] == "d0"
        assert "d7" not in await ids(retriever, "rolled back remark")


async def test_the_background_follows_up_by_itself(
    database: sqlite3.Connection, tmp_path: Path, minilm: Embedder
) -> None:
    async with opened(database, tmp_path, minilm) as retriever:
        task = asyncio.create_task(retriever.run(), name="retrieval")
        fill(retriever)
        await until(lambda: is_ready(retriever))
        retriever.put(document(5, "the dog barks at night"))
        await until(lambda: is_ready(retriever))
        assert (await ids(retriever, "noisy puppy"))[0] == "d5"
        task.cancel()
        await asyncio.wait([task])


Damage = Callable[[Path], object]


def _truncated(folder: Path) -> None:
    for path in _files(folder, "*.mappings"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _junk(folder: Path) -> None:
    for path in _files(folder, "vector_storage/**/chunk_0.mmap"):
        path.write_bytes(bytes(range(1, 256)) * (path.stat().st_size // 255))


def _panicking(folder: Path) -> None:
    for path in _files(folder, "**/status.dat"):
        path.write_bytes(b"")


def _files(folder: Path, pattern: str) -> list[Path]:
    found = list(folder.glob(f"0*/segments/*/{pattern}"))
    assert found
    return found


def _foreign(folder: Path) -> None:
    (folder / "current.json").write_bytes(b'{"generation":"000001","stamp":"another model"}')


@pytest.mark.parametrize(
    "damage",
    [
        shutil.rmtree,
        lambda folder: (folder / "current.json").write_bytes(b"{"),
        lambda folder: shutil.rmtree(folder / "000001"),
        lambda folder: (folder / "opening").touch(),
        _truncated,
        _junk,
        _panicking,
        _foreign,
    ],
    ids=["lost", "pointer", "shard", "crash", "truncated", "junk", "panic", "foreign"],
)
async def test_an_index_that_was_lost_or_damaged_is_made_anew_without_the_model(
    database: sqlite3.Connection, tmp_path: Path, minilm: Embedder, damage: Damage
) -> None:
    async with opened(database, tmp_path, minilm) as retriever:
        fill(retriever)
        await retriever.catch_up()
    damage(tmp_path / "vectors")
    counting = Counting(minilm)
    async with opened(database, tmp_path, counting) as retriever:
        assert (await ids(retriever, "parcel"))[0] == "d0"
        await retriever.catch_up()
        assert counting.embedded == 0
        assert (retriever.state, retriever.lag) == (State.READY, 0)
        assert (await ids(retriever, "shipment"))[0] == "d0"
    index = EdgeIndex(tmp_path / "vectors")
    assert (index.count(), len(list((tmp_path / "vectors").glob("0*")))) == (3, 1)
    index.close()


async def test_another_model_means_new_vectors_and_words_alone_until_then(
    database: sqlite3.Connection, tmp_path: Path, minilm: Embedder
) -> None:
    async with opened(database, tmp_path, minilm) as retriever:
        fill(retriever)
        await retriever.catch_up()
    async with opened(database, tmp_path, Turned(minilm)) as retriever:
        assert retriever.lag == 3
        assert await ids(retriever, "shipment") == []
        await retriever.catch_up()
        assert (await ids(retriever, "shipment"))[0] == "d0"
        assert retriever.lag == 0
    models = database.execute("SELECT DISTINCT model FROM vector").fetchall()
    assert models == [(Turned.stamp,)]


async def test_a_rebuild_goes_on_beside_searches_with_the_vectors_of_before(
    database: sqlite3.Connection, tmp_path: Path, minilm: Embedder
) -> None:
    async with opened(database, tmp_path, minilm) as retriever:
        fill(retriever, [f"{text} {number}" for number in range(200) for text in TEXTS[:1]])
        await retriever.catch_up()
        seen: set[State] = set()
        retriever.rebuild()
        work = asyncio.create_task(retriever.catch_up())
        while not work.done():
            assert await ids(retriever, "shipment") != []
            seen.add(retriever.state)
            assert 0 <= retriever.progress.done <= retriever.progress.total == 200
        assert State.REBUILDING in seen
        assert retriever.state is State.READY
        assert len(await ids(retriever, "shipment")) == 10


async def test_a_purge_leaves_no_trace_of_what_was_dropped_in_any_file(tmp_path: Path, minilm: Embedder) -> None:
    database = open_database(tmp_path / "a.db", SCHEMA)
    async with opened(database, tmp_path, minilm) as retriever:
        fill(retriever)
        retriever.put(Document("x", "org", "customer/wolfeschlegel", "secret", "the xylophonist quarrelled"))
        await retriever.catch_up()
        (data,) = database.execute("SELECT data FROM vector ORDER BY row DESC").fetchone()
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert data[:16] in content(tmp_path)
        retriever.drop("x")
        await retriever.purge()
        files = content(tmp_path)
        for trace in (b"xylophon", b"quarrel", b"wolfeschlegel", data[:16]):
            assert trace not in files
        assert (await ids(retriever, "shipment"))[0] == "d0"
    database.close()


def content(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_an_index_that_fails_while_it_is_searched_leaves_words_and_comes_back(
    database: sqlite3.Connection, tmp_path: Path, minilm: Embedder
) -> None:
    index = Failing(tmp_path / "vectors")
    retriever = Retriever(database, index, minilm)
    fill(retriever)
    await retriever.catch_up()
    index.fails = True
    assert await ids(retriever, "jazz") == ["d1"]
    assert retriever.state is State.DAMAGED
    with pytest.raises(VectorIndexError):
        await retriever.catch_up()
    index.fails = False
    await retriever.catch_up()
    assert is_ready(retriever)
    assert (await ids(retriever, "shipment"))[0] == "d0"
    await retriever.close()


class Counting:
    """The model, counted."""

    def __init__(self, model: Embedder) -> None:
        self._model = model
        self.stamp, self.size = model.stamp, model.size
        self.embedded = 0

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        if len(texts) > 1:
            self.embedded += len(texts)
        return self._model.embed(texts)

    def tokens(self, text: str) -> int:
        return self._model.tokens(text)


class Turned:
    """Another model, as far as anyone can tell: the same vectors, backwards and shorter."""

    stamp = "turned@1"
    size = 383

    def __init__(self, model: Embedder) -> None:
        self._model = model

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        return [list(reversed(vector))[:383] for vector in self._model.embed(texts)]

    def tokens(self, text: str) -> int:
        return self._model.tokens(text)


class Failing(EdgeIndex):
    """An index that can be away."""

    fails = False

    def stamp(self) -> str | None:
        self._check()
        return super().stamp()

    def search(self, vector: Sequence[float], where: Where, limit: int) -> list[tuple[int, float]]:
        self._check()
        return super().search(vector, where, limit)

    def put(self, entries: Sequence[Entry]) -> None:
        self._check()
        super().put(entries)

    def _check(self) -> None:
        if self.fails:
            raise VectorIndexError("away")


def test_the_vectors_folder_is_its_owners_alone(tmp_path: Path) -> None:
    (tmp_path / "vectors").mkdir(mode=0o755)
    index = EdgeIndex(tmp_path / "vectors")
    index.begin("m", 4)
    index.finish()
    index.close()
    folders = [tmp_path / "vectors", *(path for path in (tmp_path / "vectors").iterdir() if path.is_dir())]
    assert [path.stat().st_mode & 0o777 for path in folders] == [0o700, 0o700]
