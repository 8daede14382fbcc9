"""A real nats-server in a folder of the test, with one identity for each role."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import hypothesis
import pytest
import structlog

from mesh.embedded import EmbeddedNats
from mesh.identity import Identity
from mesh.permissions import ROLES, BusUser
from tests.mesh.live_mesh import LiveMesh, live_mesh, prepare
from tests.mesh.running_mesh import Mesh, make_streams

# A shared machine can stall for longer than hypothesis' 200 ms; pytest limits the time of each test.
hypothesis.settings.register_profile("shared", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("shared")

# Tracebacks that rich draws cost a stage more than its work.
structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    """A bus with its streams, buckets and durable consumers."""
    identities = {role: Identity.create(tmp_path / "keys" / f"{role}.nk", role) for role in ROLES}
    users = [BusUser(identity.public_key, (role,)) for role, identity in identities.items()]
    async with EmbeddedNats(tmp_path / "nats", users) as server, AsyncExitStack() as stack:
        running = Mesh(server, identities, stack)
        await make_streams(await running.connect("admin"))
        yield running


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Streams, buckets and durable consumers as ``workmesh up`` makes them, made once."""
    return asyncio.run(prepare(tmp_path_factory.mktemp("prepared")))


@pytest.fixture
async def live(tmp_path: Path, prepared: Path) -> AsyncIterator[LiveMesh]:
    """A bus with its streams, buckets and durable consumers, all empty."""
    async with live_mesh(tmp_path / "live", prepared) as running:
        yield running
