"""Putting a bundle in force as no process does it: straight into the bucket, with nothing on record."""

import msgspec

from mesh.activation import Activation, active_key, store_bundle
from mesh.bus import Bus
from mesh.identity import Identity
from mesh.signing import ACTIVATION_TYPE, BUNDLE_TYPE, sign


async def publish(bus: Bus, signer: Identity, contents: msgspec.Struct, activation: Activation) -> None:
    """Put a signed bundle and its activation into the bucket; the bundle first."""
    await store_bundle(bus, activation.domain, activation.digest, bytes(sign(contents, BUNDLE_TYPE, signer)))
    answer = await bus.request(active_key(activation.domain), bytes(sign(activation, ACTIVATION_TYPE, signer)))
    assert b'"error"' not in answer.data, answer.data
