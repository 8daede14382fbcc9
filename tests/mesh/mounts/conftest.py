"""One PostgreSQL for all tests of a run that need it."""

from collections.abc import Iterator

import pytest

from tests.mesh.mounts.postgres_server import PostgresServer, postgres_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running server."""
    with postgres_server() as server:
        yield server
