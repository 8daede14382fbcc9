"""One site for all tests of a module; executors come and go with each test."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.ledger_pack.world import World, world_in


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A running site without an executor."""
    async with world_in(tmp_path_factory.mktemp("w"), "perception", "planner", "policy") as found:
        yield found
