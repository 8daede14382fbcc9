"""Registries for the outbreak tests."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from packs.outbreak.pack import OutbreakOptions, connect
from packs.outbreak.registry.faults import Faults
from packs.outbreak.registry.process import RegistryProcess
from packs.outbreak.registry.store import Store
from tests.packs.outbreak.office import SAMPLE

StartRegistry = Callable[..., RegistryProcess]


@pytest.fixture
def start_registry(tmp_path: Path) -> Iterator[StartRegistry]:
    """Starts registries on the sample's history and one database; all are stopped at the end."""
    with ExitStack() as running:

        def start(*, faults: Faults | None = None, port: int = 0) -> RegistryProcess:
            process = RegistryProcess(SAMPLE, tmp_path / "registry.db", faults=faults, port=port)
            return running.enter_context(process)

        yield start


@pytest.fixture
async def systems(start_registry: StartRegistry) -> AsyncIterator[Mapping[str, Any]]:
    """What the pack connects to, with a registry that runs."""
    async with connect(OutbreakOptions(registry_url=start_registry().url)) as found:
        yield found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store on the sample's history, in this process."""
    with Store(tmp_path / "store.db") as found:
        found.load(SAMPLE)
        yield found
