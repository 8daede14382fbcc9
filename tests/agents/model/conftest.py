"""One site with two model processes for all tests of the role; each domain has a budget of its own."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from mesh.scripted.conversations import Turn
from tests.agents.model.desk import ANSWER, BUDGETS, Desk, desk_in


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def desk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    """Where all tests of this folder ask."""
    domains = {name: f"{{usd_per_day = {cap / 1e6:.6f}, at_limit = '{then}'}}" for name, (cap, then) in BUDGETS.items()}
    lines = ", ".join(f"{name} = {budget}" for name, budget in domains.items())
    settings = {"batch_wait_s": "0.3", "batch_poll_s": "0.2", "domains": f"{{{lines}}}"}
    async with (
        desk_in(tmp_path_factory.mktemp("w"), cache_min_tokens=8) as found,
        found.model("1", **settings),
        found.model("2", **settings),
    ):
        found.says(Turn(answer=ANSWER), user="later: ")  # what can wait is answered so, if no test says otherwise
        yield found
