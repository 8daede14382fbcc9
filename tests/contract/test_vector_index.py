"""One suite for every vector index: Qdrant's engine in the process, and a Qdrant server through its client.

With ``QDRANT_URL`` set, the suite runs on that server too.
"""

import math
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from qdrant_client import QdrantClient

from memory_service.retrieval.documents import Where
from memory_service.retrieval.edge import EdgeIndex
from memory_service.retrieval.server import ServerIndex
from memory_service.retrieval.vectors import Entry, VectorIndex, VectorIndexError

# The client says so of its local mode, which the suite runs on for its answers, not its speed.
pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect")

Open = Callable[[], VectorIndex]
A, B = Where("org", "customer/1", "likes"), Where("org", "customer/2", "owns")
OTHER = Where("other", "customer/1", "likes")


def _server() -> list[str]:
    return ["server"] if os.environ.get("QDRANT_URL") else []


@pytest.fixture(params=["edge", "local", *_server()])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the index of this test; again, after ``close``, with what was flushed."""
    name = f"test-{uuid.uuid4().hex}"
    opened: list[VectorIndex] = []

    def open_index() -> VectorIndex:
        index: VectorIndex
        if request.param == "edge":
            index = EdgeIndex(tmp_path / "vectors")
        elif request.param == "local":
            index = ServerIndex(QdrantClient(path=str(tmp_path / "qdrant")), name)
        else:
            index = ServerIndex(QdrantClient(url=os.environ["QDRANT_URL"]), name)
        opened.append(index)
        return index

    yield open_index
    if request.param == "server":
        opened[-1].wipe()
    for index in opened:
        index.close()


@pytest.fixture
def index(reopen: Open) -> VectorIndex:
    """With one finished generation ``m1``."""
    opened = reopen()
    opened.begin("m1", 4)
    opened.put([Entry(1, (1, 0, 0, 0), A), Entry(2, (0.8, 0.6, 0, 0), B), Entry(3, (1, 0, 0, 0), OTHER)])
    opened.finish()
    return opened


def rows(index: VectorIndex, where: Where, limit: int = 10) -> list[int]:
    return [row for row, _ in index.search((1, 0, 0, 0), where, limit)]


def test_an_index_that_was_never_filled_has_no_stamp_and_holds_nothing(reopen: Open) -> None:
    index = reopen()
    assert (index.stamp(), index.count()) == (None, 0)


def test_the_nearest_come_first_with_their_cosine(index: VectorIndex) -> None:
    found = index.search((1, 0, 0, 0), Where("org"), 10)
    assert [row for row, _ in found] == [1, 2]
    assert all(math.isclose(score, cosine, abs_tol=0.002) for (_, score), cosine in zip(found, (1, 0.8), strict=True))
    assert rows(index, Where("org"), 1) == [1]
    (_, opposite), *_ = index.search((-1, 0, 0, 0), OTHER, 1)
    assert math.isclose(opposite, -1, abs_tol=0.002)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (Where("org"), [1, 2]),
        (Where("or"), []),
        (Where("org", "customer/1"), [1]),
        (Where("org", "customer/"), [1, 2]),
        (Where("org", "customer"), []),
        (Where("org", "cust/"), []),
        (Where("org", "", "owns"), [2]),
        (Where("org", "customer/1", "owns"), []),
        (OTHER, [3]),
    ],
)
def test_a_filter_lets_through_what_it_names_and_nothing_else(
    index: VectorIndex, where: Where, expected: list[int]
) -> None:
    assert rows(index, where) == expected


def test_putting_a_row_again_replaces_it(index: VectorIndex) -> None:
    index.put([Entry(1, (0, 1, 0, 0), Where("elsewhere"))])
    assert rows(index, Where("org")) == [2]
    assert rows(index, Where("elsewhere")) == [1]
    assert index.count() == 3


def test_a_dropped_row_is_gone_and_an_unknown_one_no_error(index: VectorIndex) -> None:
    index.drop([1, 99])
    assert rows(index, Where("org")) == [2]
    assert index.count() == 2


def test_what_was_flushed_is_there_after_opening_again(index: VectorIndex, reopen: Open) -> None:
    index.put([Entry(4, (1, 0, 0, 0), A)])
    index.drop([2])
    index.flush()
    index.close()
    again = reopen()
    assert (again.stamp(), again.count()) == ("m1", 3)
    assert sorted(rows(again, Where("org"))) == [1, 4]


def test_a_fresh_generation_is_searched_only_when_it_is_finished(index: VectorIndex) -> None:
    index.begin("m2", 3)
    index.put([Entry(7, (1, 0, 0), A)])
    assert index.stamp() == "m1"
    assert rows(index, Where("org")) == [1, 2]
    index.finish()
    assert index.stamp() == "m2"
    assert [row for row, _ in index.search((1, 0, 0), Where("org"), 10)] == [7]
    assert index.count() == 1


def test_a_row_that_is_dropped_while_a_generation_is_filled_is_in_neither(index: VectorIndex) -> None:
    index.begin("m2", 4)
    index.put([Entry(1, (1, 0, 0, 0), A), Entry(2, (1, 0, 0, 0), B)])
    index.drop([1])
    assert rows(index, Where("org")) == [2]
    index.finish()
    assert rows(index, Where("org")) == [2]


def test_a_generation_that_was_not_finished_is_forgotten_at_the_next_opening(index: VectorIndex, reopen: Open) -> None:
    index.flush()
    index.begin("m2", 4)
    index.put([Entry(7, (1, 0, 0, 0), A)])
    index.close()
    again = reopen()
    assert again.stamp() == "m1"
    assert sorted(rows(again, Where("org"))) == [1, 2]
    again.begin("m3", 4)
    again.finish()
    assert (again.stamp(), again.count()) == ("m3", 0)


def test_wiped_it_is_as_if_it_had_never_been(index: VectorIndex) -> None:
    index.wipe()
    assert (index.stamp(), index.count()) == (None, 0)
    with pytest.raises(VectorIndexError):
        index.search((1, 0, 0, 0), A, 1)
    index.begin("m2", 4)
    index.put([Entry(1, (1, 0, 0, 0), A)])
    index.finish()
    assert rows(index, A) == [1]


def test_a_vector_of_another_size_is_refused(index: VectorIndex) -> None:
    with pytest.raises(VectorIndexError):
        index.search((1, 0), A, 1)
    with pytest.raises(VectorIndexError):
        index.put([Entry(9, (1, 0), A)])
    assert index.count() == 3


def test_finishing_what_was_not_begun_is_refused(index: VectorIndex) -> None:
    with pytest.raises(VectorIndexError):
        index.finish()
