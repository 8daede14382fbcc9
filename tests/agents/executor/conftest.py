"""A running site for the attacks of a module."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.ledger_pack.running import Running
from tests.ledger_pack.world import World, world_in


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """Everything but an executor."""
    async with world_in(tmp_path_factory.mktemp("w"), "perception", "planner", "policy") as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def executor(world: World) -> AsyncIterator[Running]:
    """The executor, so that a test can stop it and let it go on."""
    async with world.role("executor") as found:
        yield found
