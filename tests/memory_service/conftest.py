"""A real nats-server in a folder of the test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesh.bus import Bus
from tests.memory_service.running_memory import Site, site_in


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A bus with its streams, buckets and durable consumers."""
    async with site_in(tmp_path) as running:
        yield running


@pytest.fixture
async def operator(site: Site) -> AsyncIterator[Bus]:
    """The bus as an operator sees it."""
    async with site.bus("operator") as bus:
        yield bus
