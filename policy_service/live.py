"""The bundles in force, compiled once for each digest."""

import asyncio

import msgspec

from mesh.activation import Activations
from mesh.checkpoint import Checkpoint
from mesh.errors import SignatureError
from policy_service.bundle import Bundle, BundleContents

_KEPT = 16


class LiveBundles:
    """Compiled bundles by digest; the one in force is asked for at each decision and found in the cache."""

    def __init__(self, activations: Activations, checkpoint: Checkpoint) -> None:
        self._activations = activations
        self._checkpoint = checkpoint
        self._compiled: dict[str, Bundle] = {}
        self._compiling = asyncio.Lock()

    async def current(self, domain: str) -> Bundle:
        """The bundle in force in a domain."""
        activation = await self._activations.current(domain)
        return await self.by_digest(domain, activation.digest)

    def shadow(self, domain: str) -> str:
        """The digest of the bundle that is tried beside it; mostly none. As of the last ``current``."""
        return self._activations.shadow(domain)

    async def by_digest(self, domain: str, digest: str) -> Bundle:
        """The bundle of this digest; raises ``SignatureError`` when its contents are not what the digest says."""
        if (bundle := self._compiled.get(digest)) is not None:
            return bundle
        async with self._compiling:
            return self._compiled.get(digest) or await self._compile(domain, digest)

    async def _contents(self, domain: str, digest: str) -> BundleContents:
        """From the local checkpoint if an earlier life of this process had it, else from the bucket."""
        name = f"bundle {digest}"
        kept = await self._checkpoint.load(name)
        if kept is not None:
            return msgspec.json.decode(kept, type=BundleContents)  # held against the digest, wherever it comes from
        contents = await self._activations.contents(domain, digest, BundleContents)
        await self._checkpoint.save(name, msgspec.json.encode(contents))
        return contents

    async def _compile(self, domain: str, digest: str) -> Bundle:
        contents = await self._contents(domain, digest)
        if contents.digest != digest or contents.domain != domain:
            raise SignatureError(f"the bundle {digest} of {domain} holds other contents: {contents.digest}")
        bundle = self._compiled[digest] = Bundle.load(contents)
        while len(self._compiled) > _KEPT:
            self._compiled.pop(next(iter(self._compiled)))
        return bundle
