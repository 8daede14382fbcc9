"""Publishes the packs' own bundles when a site is made, where their policies have changed."""

from collections.abc import Mapping

import msgspec
import structlog

from mesh.activation import Activation, active_key, publish
from mesh.bus import Bus
from mesh.clock import now
from mesh.errors import SignatureError
from mesh.identity import Identity
from mesh.pack import Pack
from mesh.signing import ACTIVATION_TYPE, open_envelope
from policy_service.bundle import Bundle, BundleContents

log = structlog.get_logger(__name__)


async def publish_bundles(bus: Bus, admin: Identity, packs: Mapping[str, Pack]) -> None:
    """Publish and activate each pack's bundle; the one it replaces stays accepted for permits already given."""
    for name, pack in packs.items():
        contents = BundleContents.read(pack.policies, name)
        Bundle.load(contents)
        before = await _active(bus, admin, name)
        if before is not None and before.digest == contents.digest:
            continue
        accepted = (before.digest,) if before else ()
        activation = Activation(domain=name, digest=contents.digest, activated_at=now(), accepted=accepted)
        await publish(bus, admin, contents, activation)
        log.info("bundle_activated", domain=name, digest=contents.digest)


async def _active(bus: Bus, admin: Identity, name: str) -> Activation | None:
    """The activation in force, if this admin signed it: any other is replaced."""
    message = await bus.last("KV_POLICY", active_key(name))
    if message is None or not message.data:
        return None

    def accept(keyid: str) -> None:
        if keyid != admin.public_key:
            raise SignatureError(f"the activation of {name} is signed by {keyid}, not by {admin.public_key}")

    try:
        activation, _ = open_envelope(msgspec.Raw(message.data), ACTIVATION_TYPE, Activation, accept)
    except SignatureError as error:
        log.error("activation_replaced", domain=name, reason=str(error))
        return None
    return activation
