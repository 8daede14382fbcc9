"""Two sites for the attacks: one whose planner is the attacker, and one where every stage does its part."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.ledger_pack.world import World, world_in
from tests.redteam.hostile import Hostile, hostile_in
from tests.redteam.speaking import Speaking, speaking_in


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hostile(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hostile]:
    """No planner runs: whoever holds its key writes what they want. The shop and the ledger are real."""
    async with hostile_in(tmp_path_factory.mktemp("h")) as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A site with all stages but the learner."""
    async with world_in(tmp_path_factory.mktemp("w"), "perception", "planner", "policy", "executor") as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def speaking(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Speaking]:
    """A site whose models say what the thief of their key wants."""
    async with speaking_in(tmp_path_factory.mktemp("s")) as found:
        yield found
