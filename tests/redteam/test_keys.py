"""A stolen agent key of each role: it loses the bus at once when it is cut off, and policy's signs nothing any more."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from mesh.embedded import EmbeddedNats
from mesh.identity import Identity
from mesh.permissions import ROLES, BusUser
from mesh.records import OutcomeStatus, Verdict
from mesh.signing import PERMIT_TYPE, sign
from mesh.trust import revoke
from tests.ledger_pack.running import until
from tests.ledger_pack.world import World
from tests.mesh.running_mesh import Mesh
from tests.redteam.catalogue import attack
from tests.redteam.test_permits import put, waiting

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

WITHIN_S = 1.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    """A bus with a key for each role."""
    folder = tmp_path_factory.mktemp("keys")
    identities = {role: Identity.create(folder / "keys" / f"{role}.nk", role) for role in ROLES}
    users = [BusUser(identity.public_key, (role,)) for role, identity in identities.items()]
    async with EmbeddedNats(Path(folder) / "nats", users) as server, AsyncExitStack() as stack:
        yield Mesh(server, identities, stack)


@attack(
    "keys",
    "each role's key, stolen",
    "stays connected after the key was cut off (`workmesh keys revoke`, `keys rotate`)",
    "disconnected within a second of the server's new configuration (0.25 s more until `workmesh up` sees the change)",
    "the thief's own connection",
    "ASI03",
    "ASI10",
)
@pytest.mark.parametrize("role", ROLES)
async def test_a_key_that_is_cut_off_has_no_bus(mesh: Mesh, role: str) -> None:
    thief = await mesh.connect(role, allow_reconnect=False)
    # None is let in again: the server must not be reading a configuration when the next thief connects.
    gone = list(ROLES)[: list(ROLES).index(role) + 1]
    left = {name: found for name, found in mesh.identities.items() if name not in gone}
    started = time.monotonic()
    mesh.server.reconfigure([BusUser(found.public_key, (name,)) for name, found in left.items()])
    await until(lambda: thief.is_closed, timeout_s=10)
    took_s = time.monotonic() - started
    assert took_s < WITHIN_S, took_s


@attack(
    "keys",
    "policy, stolen",
    "signs permits after the key was revoked in the trust bucket",
    "refused by the executor within a second",
    "the outcome and the ledger's log",
    "ASI03",
    "ASI10",
)
async def test_a_revoked_policy_key_permits_nothing(world: World) -> None:
    task, decision, permit = await waiting(world, "stolen-policy")
    async with world.connected("admin") as bus:
        await revoke(await bus.client.jetstream().key_value("TRUST"), world.site.admin, "policy")
    await asyncio.sleep(WITHIN_S)
    allowed = msgspec.structs.replace(permit, verdict=Verdict.ALLOW)
    await put(world, decision, bytes(sign(allowed, PERMIT_TYPE, world.site.identity("policy"))))
    ending = await world.outcome(task)
    assert (ending.status, "was revoked at" in ending.reason) == (OutcomeStatus.REFUSED, True)
    assert world.applied(task) == []
