"""One site with intake for all tests of its server."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import pytest_asyncio

from tests.agents.intake.reception import Reception, reception_in


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Reception]:
    """A whole site but the learner."""
    async with reception_in(tmp_path_factory.mktemp("w"), "perception", "planner", "policy", "executor") as found:
        yield found


@pytest.fixture
def mended(site: Reception) -> Callable[[str, str, str], AbstractAsyncContextManager[None]]:
    """A mapping with other words while the block runs."""

    @asynccontextmanager
    async def changed(name: str, old: str, new: str) -> AsyncIterator[None]:
        path = site.mapping(name)
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")
        yield
        path.write_text(text, encoding="utf-8")

    return changed
