"""A real nats-server in a folder of the test, with one identity for each role."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import hypothesis
import pytest
import structlog

from mesh.embedded import EmbeddedNats
from mesh.identity import Identity
from mesh.permissions import ROLES, BusUser
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
