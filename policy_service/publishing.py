"""Bundles and activations that policy admins sign: looked at, then put into the bucket by the policy service.

The rule: what is signed is not enough. A bundle that does not compile or fails a case never comes into force, and an
activation counts once, over exactly what its signer saw in force.
"""

import asyncio
from collections.abc import Mapping
from datetime import timedelta

import structlog

from mesh.activation import (
    ActivateAnswer,
    ActivateRequest,
    Activation,
    PublishAnswer,
    PublishRequest,
    Standing,
    enact,
    last_on_record,
    require_admin,
    standing,
    store_bundle,
)
from mesh.bus import Bus
from mesh.clock import now
from mesh.errors import ConflictError, SignatureError, TerminalError
from mesh.pack import Pack
from mesh.signing import ACTIVATION_TYPE, BUNDLE_TYPE, open_envelope
from mesh.trust import TrustDirectory
from policy_service.bundle import BundleContents
from policy_service.gate import pass_cases, pass_gate
from policy_service.live import LiveBundles

# A signer's clock that is further ahead would keep everybody else from changing anything until then.
_AHEAD = timedelta(minutes=1)

log = structlog.get_logger(__name__)


class Publishing:
    """Answers ``publish`` and ``activate``."""

    def __init__(
        self, bus: Bus, bundles: LiveBundles, packs: Mapping[str, Pack], trust: TrustDirectory, site: str = ""
    ) -> None:
        self._bus = bus
        self._bundles = bundles
        self._packs = packs
        self._trust = trust
        self._site = site

    async def publish(self, request: PublishRequest) -> PublishAnswer:
        """Put a bundle into the bucket; it is not in force. Raises ``TerminalError`` with what is wrong."""
        try:
            contents, keyid = open_envelope(request.signed, BUNDLE_TYPE, BundleContents, self._require)
            self._require_pack(contents.domain)
            bundle, cases = await asyncio.to_thread(pass_gate, contents)
            await store_bundle(self._bus, contents.domain, bundle.digest, bytes(request.signed))
        except TerminalError as error:
            log.error("bundle_refused", detail=str(error))
            raise
        log.info("bundle_published", domain=contents.domain, digest=bundle.digest, key=keyid)
        return PublishAnswer(
            domain=contents.domain, digest=bundle.digest, policies=len(bundle.policies), cases=len(cases)
        )

    async def activate(self, request: ActivateRequest) -> ActivateAnswer:
        """Put an activation on record and in force. Raises ``TerminalError`` with what is wrong."""
        try:
            wanted, keyid = open_envelope(request.signed, ACTIVATION_TYPE, Activation, self._require)
            await self._check(wanted, keyid)
            seq = await enact(self._bus, wanted, bytes(request.signed))
        except (TerminalError, ConflictError) as error:
            log.error("activation_refused", detail=str(error))
            raise
        log.info("bundle_activated", domain=wanted.domain, digest=wanted.digest, by=wanted.by, shadow=wanted.shadow)
        return ActivateAnswer(domain=wanted.domain, digest=wanted.digest, seq=seq)

    async def _check(self, wanted: Activation, keyid: str) -> None:
        entry = require_admin(self._trust, keyid)
        if entry.name != wanted.by:
            raise SignatureError(f"the activation by {wanted.by or 'nobody'} is signed by {entry.name}")
        self._require_pack(wanted.domain)
        stands = await standing(self._bus, wanted.domain)
        last = await last_on_record(self._bus, wanted.domain)
        if wanted.site:
            self._check_addressed(wanted, stands)
        elif wanted.after != last:
            raise TerminalError(
                f"it was made to follow the activation at {wanted.after}, and the last on record is at {last}: "
                f"somebody changed it meanwhile, or this is an old envelope; look again (`workmesh policy list`)"
            )
        if wanted.activated_at > now() + _AHEAD:
            raise TerminalError(f"it is dated {wanted.activated_at.isoformat()}, ahead of now: set your clock")
        known: tuple[str, ...] = ()
        if stands is not None:
            current = stands.activation
            known = (current.digest, *current.accepted)
            if wanted.activated_at <= current.activated_at:
                raise TerminalError(
                    f"it is dated {wanted.activated_at.isoformat()}, and what is in force is of "
                    f"{current.activated_at.isoformat()}: an older activation never replaces a newer one"
                )
        if strange := sorted(set(wanted.accepted) - set(known)):
            raise TerminalError(f"permits under {strange[0]} are not accepted now, so they cannot stay accepted")
        before = () if stands is None else (stands.activation.digest, stands.activation.previous)
        await self._check_bundles(wanted, before)

    def _check_addressed(self, wanted: Activation, stands: Standing | None) -> None:
        """One that was signed at a hub follows on the bundle that its signer saw in force here, if no sequence."""
        if wanted.site != self._site:
            own = f"this one is {self._site}" if self._site else "this one has no hub (setting hub.site)"
            raise TerminalError(f"it was signed for the site {wanted.site}, and {own}")
        current = stands.activation.digest if stands else ""
        if wanted.previous != current:
            raise TerminalError(
                f"it was signed to follow on {wanted.previous or 'no bundle'}, and {current or 'no bundle'} is in "
                f"force: somebody changed it here meanwhile, or this is an old envelope; look again, then sign anew"
            )

    async def _check_bundles(self, wanted: Activation, proven: tuple[str, ...]) -> None:
        """Both bundles must be there and compile. One that was in force can be again, whatever its cases say."""
        for digest in filter(None, (wanted.digest, wanted.shadow)):
            bundle = await self._bundles.by_digest(wanted.domain, digest)
            if digest not in proven:
                await asyncio.to_thread(pass_cases, bundle)

    def _require(self, keyid: str) -> None:
        require_admin(self._trust, keyid)

    def _require_pack(self, domain: str) -> None:
        if domain not in self._packs:
            raise TerminalError(f"no pack {domain!r} is installed here: there are {', '.join(sorted(self._packs))}")
