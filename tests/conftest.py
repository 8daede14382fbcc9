"""What all tests share: where the real inputs are, and a real bus."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.mesh.live_mesh import LiveMesh, live_mesh, prepare

ROOT = Path(__file__).parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that may take longest first, so that at the end no worker is left alone with one of them."""
    longest: Counter[Path] = Counter()
    for item in items:
        limit = item.get_closest_marker("timeout")
        longest[item.path] += int(limit.args[0]) if limit else 1
    items.sort(key=lambda item: -longest[item.path])


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real inputs, which are no part of the project: beside it, or where ``WORKMESH_TEST_DATA`` says.

    Without them the tests that need them are skipped, but never in CI.
    """
    folder = Path(os.environ.get("WORKMESH_TEST_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        message = f"no shared data in {folder}: set WORKMESH_TEST_DATA"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture(scope="session")
def retail_data(shared_data: Path) -> Path:
    """Real orders, customers, products, requests, and what must come of them."""
    return shared_data / "retail"


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Streams, buckets and durable consumers as ``workmesh up`` makes them, made once."""
    return asyncio.run(prepare(tmp_path_factory.mktemp("prepared")))


@pytest.fixture
async def live(tmp_path: Path, prepared: Path) -> AsyncIterator[LiveMesh]:
    """A bus with its streams, buckets and durable consumers, all empty."""
    async with live_mesh(tmp_path / "live", prepared) as running:
        yield running
