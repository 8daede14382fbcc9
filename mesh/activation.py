"""Which policy bundle is in force in a domain: signed pointers and signed contents in the ``POLICY`` bucket.

The rule: a permit made under a bundle that is no longer accepted permits nothing.
"""

import asyncio
from datetime import datetime
from typing import TypeVar

import msgspec

from mesh import subjects
from mesh.bus import Bus
from mesh.errors import BusUnavailableError, SignatureError, TerminalError
from mesh.identity import Identity
from mesh.signing import ACTIVATION_TYPE, BUNDLE_TYPE, open_envelope, sign
from mesh.trust import TrustDirectory

T = TypeVar("T", bound=msgspec.Struct)

SIGNER_ROLE = "policy_admin"
_STREAM = f"KV_{subjects.POLICY_BUCKET}"
# How long a change of bundle can stay unseen in a process.
REREAD_S = 1.0


class Activation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bundle in force, and older ones whose permits are still accepted."""

    domain: str
    digest: str
    activated_at: datetime
    accepted: tuple[str, ...] = ()


def _key(*parts: str) -> str:
    return f"$KV.{subjects.POLICY_BUCKET}." + ".".join(parts)


def active_key(domain: str) -> str:
    """The subject of a domain's activation."""
    return _key("active", domain)


def bundle_key(domain: str, digest: str) -> str:
    """The subject of a bundle's contents."""
    return _key("bundle", domain, digest.removeprefix("sha256:"))


async def publish(bus: Bus, signer: Identity, contents: msgspec.Struct, activation: Activation) -> None:
    """Put a signed bundle and its activation into the bucket; the bundle first."""
    for subject, payload, kind in (
        (bundle_key(activation.domain, activation.digest), contents, BUNDLE_TYPE),
        (active_key(activation.domain), activation, ACTIVATION_TYPE),
    ):
        answer = await bus.request(subject, bytes(sign(payload, kind, signer)))
        if b'"error"' in answer.data:
            raise TerminalError(f"{subject} was not stored: {answer.data.decode()}")


class Activations:
    """Reads activations and bundles, checks their signatures, and remembers them for a second."""

    def __init__(self, bus: Bus, trust: TrustDirectory) -> None:
        self._bus = bus
        self._trust = trust
        self._known: dict[str, tuple[float, Activation]] = {}

    async def current(self, domain: str, *, fresh: bool = False) -> Activation:
        """The activation of a domain; raises ``SignatureError`` when it is not signed by a policy admin.

        While the bus does not answer, the last one stays in force.
        """
        now = asyncio.get_running_loop().time()
        known = self._known.get(domain)
        if known and not fresh and now - known[0] < REREAD_S:
            return known[1]
        try:
            activation = await self._read(active_key(domain), ACTIVATION_TYPE, Activation)
        except BusUnavailableError:
            if known is None:
                raise
            return known[1]
        if activation.domain != domain:
            raise SignatureError(f"the activation of {domain} is one of {activation.domain}")
        self._known[domain] = (now, activation)
        return activation

    async def accepts(self, domain: str, digest: str) -> bool:
        """Whether permits under this bundle are accepted now."""
        activation = await self.current(domain)
        if digest in (activation.digest, *activation.accepted):
            return True
        activation = await self.current(domain, fresh=True)
        return digest in (activation.digest, *activation.accepted)

    async def contents(self, domain: str, digest: str, model: type[T]) -> T:
        """The bundle of this digest; the caller holds it against the digest."""
        return await self._read(bundle_key(domain, digest), BUNDLE_TYPE, model)

    async def _read(self, subject: str, payload_type: str, model: type[T]) -> T:
        message = await self._bus.last(_STREAM, subject)
        if message is None:
            raise TerminalError(f"{subject} is not in the bucket {subjects.POLICY_BUCKET}: publish the bundle first")
        payload, _ = open_envelope(
            msgspec.Raw(message.data), payload_type, model, lambda keyid: self._require_signer(keyid)
        )
        return payload

    def _require_signer(self, keyid: str) -> None:
        self._trust.require(keyid, SIGNER_ROLE)
