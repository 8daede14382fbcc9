"""Killed at any point, the next start has every vector of what stands, and none of what was dropped."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from memory_service.retrieval.documents import Where
from memory_service.retrieval.edge import EdgeIndex
from memory_service.retrieval.retriever import SCHEMA, Retriever, State
from mesh.checkpoint import open_database
from tests.memory_service.retrieval.writer import Hashed

ROOT = Path(__file__).parents[3]


def kill_writers(folder: Path, times: int) -> None:
    rng = random.Random(3)
    for seed in range(times):
        command = [sys.executable, "-m", "tests.memory_service.retrieval.writer", str(folder), str(seed)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "writing\n"
            time.sleep(rng.uniform(0.01, 0.4))  # the moment of the kill is what is tried
            writer.kill()


@pytest.mark.crash
@pytest.mark.timeout(60)
async def test_after_kills_the_index_has_what_stands_and_nothing_else(tmp_path: Path) -> None:
    kill_writers(tmp_path, 10)
    database = open_database(tmp_path / "documents.db", SCHEMA)
    index = EdgeIndex(tmp_path / "vectors")
    retriever = Retriever(database, index, Hashed())
    await retriever.catch_up()
    assert (retriever.state, retriever.lag) == (State.READY, 0)
    stands = database.execute("SELECT row, text FROM document").fetchall()
    assert len(stands) == index.count() > 100
    for row, text in stands:
        (vector,) = Hashed().embed([text])
        ((found, score),) = index.search(vector, Where("org"), 1)
        assert found == row
        assert score > 0.99
    assert database.execute("SELECT count(*) FROM vector_dropped").fetchone() == (0,)
    await retriever.close()
    database.close()
