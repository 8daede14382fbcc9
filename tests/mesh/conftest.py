"""A real nats-server in a folder of the test, with one identity for each role."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from mesh.embedded import EmbeddedNats
from mesh.identity import Identity
from mesh.permissions import ROLES, BusUser
from tests.mesh.running_mesh import Mesh, make_streams


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    """A bus with its streams, buckets and durable consumers."""
    identities = {role: Identity.create(tmp_path / "keys" / f"{role}.nk", role) for role in ROLES}
    users = [BusUser(identity.public_key, (role,)) for role, identity in identities.items()]
    async with EmbeddedNats(tmp_path / "nats", users) as server, AsyncExitStack() as stack:
        running = Mesh(server, identities, stack)
        await make_streams(await running.connect("admin"))
        yield running
