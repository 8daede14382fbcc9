"""The bundle in force: only as a policy admin signed it, and as it was last known while the bus is away."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mesh.activation import SIGNER_ROLE, Activation, Activations, active_key, bundle_key
from mesh.bus import Bus
from mesh.errors import BusUnavailableError, SignatureError, TerminalError
from mesh.identity import Identity
from mesh.signing import ACTIVATION_TYPE, BUNDLE_TYPE, TRUST_TYPE, sign
from mesh.trust import TrustDirectory, TrustEntry
from tests.mesh.live_mesh import LiveMesh, eventually
from tests.mesh.publishing import publish
from tests.mesh.samples import AT

ONE, TWO, THREE = ("sha256:" + digit * 64 for digit in "123")


class Bundle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a bundle holds."""

    text: str


@dataclass
class Policy:
    """Who may sign, who may not, and what a process knows."""

    bus: Bus
    admin: Identity
    stranger: Identity
    activations: Activations

    async def put(self, subject: str, data: bytes) -> None:
        """Write into the bucket, past all checks."""
        await self.bus.client.jetstream().publish(subject, data)


@pytest.fixture
async def policy(live: LiveMesh, tmp_path: Path) -> AsyncIterator[Policy]:
    """A root that trusts one policy admin."""
    async with policy_of(live, tmp_path) as made:
        yield made


@asynccontextmanager
async def policy_of(live: LiveMesh, tmp_path: Path) -> AsyncIterator[Policy]:
    """The same, on this mesh."""
    root, admin, stranger = (Identity.create(tmp_path / f"{name}.nk", name) for name in ("root", "padmin", "stranger"))
    trust = TrustDirectory(root.public_key)
    for who, roles in ((admin, (SIGNER_ROLE,)), (stranger, ("manager",))):
        entry = TrustEntry(name=who.name, public_key=who.public_key, kind="person", roles=roles, enrolled_at=AT)
        trust.apply(sign(entry, TRUST_TYPE, root))
    async with live.bus(request_timeout_s=0.5) as bus:
        yield Policy(bus, admin, stranger, Activations(bus, trust))


def activation(digest: str = ONE, domain: str = "retail", accepted: tuple[str, ...] = ()) -> Activation:
    """An activation."""
    return Activation(domain=domain, digest=digest, activated_at=AT, accepted=accepted)


async def test_what_a_policy_admin_published_is_in_force(policy: Policy) -> None:
    await publish(policy.bus, policy.admin, Bundle("permit"), activation())
    assert await policy.activations.current("retail") == activation()
    assert await policy.activations.contents("retail", ONE, Bundle) == Bundle("permit")
    assert await policy.activations.accepts("retail", ONE)
    assert not await policy.activations.accepts("retail", TWO)


async def test_nothing_is_in_force_where_nothing_was_published(policy: Policy) -> None:
    with pytest.raises(TerminalError, match=r"active\.retail is not in the bucket POLICY: publish the bundle first"):
        await policy.activations.current("retail")
    with pytest.raises(TerminalError):
        await policy.activations.accepts("retail", ONE)


async def test_an_older_bundle_is_accepted_for_as_long_as_it_is_named(policy: Policy) -> None:
    await publish(policy.bus, policy.admin, Bundle("b"), activation(TWO, accepted=(ONE,)))
    assert await policy.activations.accepts("retail", ONE) and await policy.activations.accepts("retail", TWO)
    await publish(policy.bus, policy.admin, Bundle("c"), activation(THREE, accepted=(TWO,)))
    assert await policy.activations.accepts("retail", THREE)  # not known yet: read afresh
    assert not await policy.activations.accepts("retail", ONE)


async def test_a_change_is_seen_within_a_second_and_at_once_when_asked_afresh(policy: Policy) -> None:
    await publish(policy.bus, policy.admin, Bundle("a"), activation(ONE))
    await policy.activations.current("retail")
    await publish(policy.bus, policy.admin, Bundle("b"), activation(TWO))
    assert (await policy.activations.current("retail")).digest == ONE
    assert (await policy.activations.current("retail", fresh=True)).digest == TWO
    await publish(policy.bus, policy.admin, Bundle("c"), activation(THREE))

    async def changed() -> bool:
        return (await policy.activations.current("retail")).digest == THREE

    await eventually(changed, within_s=5)


async def test_a_process_never_goes_back_to_an_activation_older_than_one_it_has_seen(policy: Policy) -> None:
    older = activation(ONE)
    newer = msgspec.structs.replace(activation(TWO), activated_at=AT + timedelta(seconds=1))
    await publish(policy.bus, policy.admin, Bundle("a"), older)
    await publish(policy.bus, policy.admin, Bundle("b"), newer)
    assert await policy.activations.current("retail") == newer
    await policy.put(active_key("retail"), bytes(sign(older, ACTIVATION_TYPE, policy.admin)))
    assert await policy.activations.current("retail", fresh=True) == newer
    assert not await policy.activations.accepts("retail", ONE)


def forged(policy: Policy, how: str) -> bytes:
    """An activation that must not be taken."""
    good = activation(TWO)
    signed: dict[str, Any] = msgspec.json.decode(sign(good, ACTIVATION_TYPE, policy.admin))
    match how:
        case "unsigned":
            return msgspec.json.encode(good)
        case "no signature":
            return msgspec.json.encode(signed | {"signatures": []})
        case "signed by one without the role":
            return bytes(sign(good, ACTIVATION_TYPE, policy.stranger))
        case "changed after it was signed":
            other = msgspec.json.decode(sign(activation(THREE), ACTIVATION_TYPE, policy.admin))
            return msgspec.json.encode(signed | {"payload": other["payload"]})
        case "signed as something else":
            return bytes(sign(good, BUNDLE_TYPE, policy.admin))
        case "of another domain":
            return bytes(sign(activation(TWO, domain="bank"), ACTIVATION_TYPE, policy.admin))
        case _:
            return b"\xff"


@pytest.mark.parametrize(
    "how",
    [
        "unsigned",
        "no signature",
        "signed by one without the role",
        "changed after it was signed",
        "signed as something else",
        "of another domain",
        "no json",
    ],
)
async def test_an_activation_that_is_not_right_is_refused_and_accepts_nothing(policy: Policy, how: str) -> None:
    await publish(policy.bus, policy.admin, Bundle("a"), activation(ONE))
    await policy.activations.current("retail")
    await policy.put(active_key("retail"), forged(policy, how))
    with pytest.raises(SignatureError):
        await policy.activations.current("retail", fresh=True)
    with pytest.raises(SignatureError):
        await policy.activations.accepts("retail", TWO)


async def test_a_bundle_that_a_stranger_signed_is_refused(policy: Policy) -> None:
    await publish(policy.bus, policy.admin, Bundle("a"), activation(ONE))
    await policy.put(bundle_key("retail", ONE), bytes(sign(Bundle("mine"), BUNDLE_TYPE, policy.stranger)))
    with pytest.raises(SignatureError, match="has not the role policy_admin"):
        await policy.activations.contents("retail", ONE, Bundle)


async def test_while_the_bus_is_away_the_last_known_stays_in_force(live: LiveMesh, policy: Policy) -> None:
    await publish(policy.bus, policy.admin, Bundle("a"), activation(ONE))
    assert await policy.activations.accepts("retail", ONE)
    os.kill(live.server.pid, signal.SIGSTOP)
    try:
        assert (await policy.activations.current("retail", fresh=True)).digest == ONE
        assert not await policy.activations.accepts("retail", TWO)
        with pytest.raises(BusUnavailableError):
            await policy.activations.current("bank")
    finally:
        os.kill(live.server.pid, signal.SIGCONT)
    await publish(policy.bus, policy.admin, Bundle("b"), activation(TWO))
    assert await policy.activations.accepts("retail", TWO)


async def test_a_bundle_the_bucket_does_not_take_is_told(live: LiveMesh, policy: Policy) -> None:
    with pytest.raises(TerminalError, match=r"was not stored|more than the server takes"):
        await publish(policy.bus, policy.admin, Bundle("x" * 1_200_000), activation(ONE))
