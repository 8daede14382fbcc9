"""Publishes the packs' own bundles when a site is made, where their policies have changed.

The rule: what a person put in force stays. A newer pack is published beside it, and comes into force by a person.
"""

from collections.abc import Mapping

import structlog

from mesh.activation import Activation, Standing, enact, last_on_record, require_admin, standing, store_bundle
from mesh.bus import Bus
from mesh.clock import now
from mesh.errors import SignatureError
from mesh.identity import Identity
from mesh.pack import Pack
from mesh.signing import ACTIVATION_TYPE, BUNDLE_TYPE, sign
from mesh.trust import TrustDirectory, read_directory
from policy_service.bundle import Bundle, BundleContents

log = structlog.get_logger(__name__)


async def publish_bundles(bus: Bus, admin: Identity, packs: Mapping[str, Pack]) -> None:
    """Publish and activate each pack's bundle; the one it replaces stays accepted for permits already given."""
    trust = await read_directory(bus, admin.public_key)
    for name, pack in packs.items():
        contents = BundleContents.read(pack.policies, name)
        digest = contents.digest
        Bundle.load(contents)
        stands = await _standing(bus, name)
        if stands is not None and stands.activation.digest == digest and _is_trusted(trust, stands):
            continue
        await store_bundle(bus, name, digest, bytes(sign(contents, BUNDLE_TYPE, admin)))
        chosen = stands.activation if stands is not None and _is_known(trust, stands) else None
        if chosen is not None and chosen.chosen and chosen.digest != digest:
            log.warning("bundle_not_activated", domain=name, digest=digest, in_force=chosen.digest, by=chosen.by)
            continue
        await _activate(bus, admin, contents, stands)


async def _activate(bus: Bus, admin: Identity, contents: BundleContents, stands: Standing | None) -> None:
    before = stands.activation if stands else None
    activation = Activation(
        domain=contents.domain,
        digest=contents.digest,
        activated_at=now(),
        accepted=(before.digest,) if before else (),
        shadow=before.shadow if before and before.shadow != contents.digest else "",
        previous=before.digest if before else "",
        after=await last_on_record(bus, contents.domain),
        by=admin.name,
        comment="came with the pack",
    )
    await enact(bus, activation, bytes(sign(activation, ACTIVATION_TYPE, admin)))
    log.info("bundle_activated", domain=contents.domain, digest=contents.digest)


async def _standing(bus: Bus, name: str) -> Standing | None:
    """What is in force, if anybody signed it at all: anything else is replaced."""
    try:
        return await standing(bus, name)
    except SignatureError as error:
        log.error("activation_replaced", domain=name, reason=str(error))
        return None


def _is_trusted(trust: TrustDirectory, stands: Standing) -> bool:
    try:
        require_admin(trust, stands.keyid)
    except SignatureError as error:
        log.error("activation_signer_refused", domain=stands.activation.domain, reason=str(error))
        return False
    return True


def _is_known(trust: TrustDirectory, stands: Standing) -> bool:
    """Whether the signer ever was enrolled: a revoked admin's bundle may be stricter than the pack's, so it stays."""
    return any(entry.public_key == stands.keyid for entry in trust.entries())
