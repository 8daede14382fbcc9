"""A real bus for the auditor, and a journal to audit."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.mesh.live_mesh import LiveMesh, live_mesh, prepare


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Streams as ``workmesh up`` makes them, made once."""
    return asyncio.run(prepare(tmp_path_factory.mktemp("prepared")))


@pytest.fixture
async def live(tmp_path: Path, prepared: Path) -> AsyncIterator[LiveMesh]:
    """A bus with its streams, all empty."""
    async with live_mesh(tmp_path / "live", prepared) as running:
        yield running
