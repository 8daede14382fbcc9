"""The real model, loaded once, and databases in files."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from memory_service.retrieval.embedder import Embedder, open_embedder
from memory_service.retrieval.retriever import SCHEMA
from mesh.checkpoint import open_database


@pytest.fixture(scope="session")
def minilm() -> Embedder:
    opened = open_embedder("minilm")
    assert opened is not None
    return opened


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    opened = open_database(tmp_path / "documents.db", SCHEMA)
    yield opened
    opened.close()
