"""The work of an uplink: records up, bundles and facts down, and signs of life of the hub for the site's policies.

The rule: each goes on by itself. What one of them waits for keeps none of the others waiting.
"""

import asyncio
import time
from collections.abc import Coroutine, Iterator
from typing import Any

import structlog

from console.bus.down_bundles import HubBundles
from console.bus.down_facts import HubFacts
from mesh import link, service, subjects
from mesh.bus import Bus
from mesh.clock import now
from mesh.downlink import Downlink, Sent
from mesh.errors import BusUnavailableError, SettingsError, SignatureError
from mesh.facts import SOURCE_ROLE
from mesh.identity import Identity
from mesh.link import Heartbeat, HeartbeatAnswer, HeartbeatRequest
from mesh.service import ServiceBusyError, ServiceError
from mesh.settings import Settings
from mesh.signing import LINK_TYPE, sign
from mesh.trust import read_directory
from mesh.uplink import Uplink

log = structlog.get_logger(__name__)

_TRUST_S = 2.0


class Linking:
    """One connection's work between a site and its hub. Raises ``SettingsError`` for a key of another site."""

    def __init__(self, settings: Settings, site: Bus, hub: Bus, key: Identity) -> None:
        self._settings = settings
        self._site = site
        self._key = key
        self._name = subjects.site_name(key.public_key)
        if settings.hub.site not in ("", self._name):
            raise SettingsError(f"hub.site is {settings.hub.site}, and this key is that of the site {self._name}")
        self._uplinks = [Uplink(site, hub, key.public_key, stream) for stream in subjects.UPLINKED]
        self._bundles = HubBundles(site, hub, self._name)
        self._downlinks = [
            Downlink(hub, self._name, subjects.SITES, self._bundles.take),
            Downlink(hub, self._name, subjects.MEMORY, self._take_fact),
        ]
        self._facts: HubFacts | None = None
        self._trusted_at = float("-inf")

    def work(self) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
        """What is to run side by side, each with its name."""
        for stream, uplink in zip(subjects.UPLINKED, self._uplinks, strict=True):
            yield stream, uplink.run()
        if not self._settings.hub.site:
            log.warning("nothing_comes_down", reason=f"hub.site is not set: set it to {self._name}")
            return
        for stream, downlink in zip((subjects.SITES, subjects.MEMORY), self._downlinks, strict=True):
            yield f"down-{stream}", downlink.run()
        yield "told", self._bundles.run()
        yield "heard", self._hear()

    async def _take_fact(self, sent: Sent) -> None:
        facts = await self._speaker()
        before = facts.refused
        await facts.take(sent)
        if facts.refused != before:
            self._trusted_at = float("-inf")
            await self._speaker()  # refused since the key is trusted no more: then it is taken later

    async def _speaker(self) -> HubFacts:
        """Who says the hub's facts here, under the name that the site's root gave the key."""
        if self._facts is not None and time.monotonic() - self._trusted_at < _TRUST_S:
            return self._facts
        trust = await read_directory(self._site, self._settings.root_key())
        try:
            name = trust.require(self._key.public_key, SOURCE_ROLE).name
        except SignatureError as error:
            self._facts = None
            raise ServiceBusyError(f"no fact of the hub is taken: {error}") from error
        if self._facts is None:
            self._facts = HubFacts(self._site, self._key, name)
        self._trusted_at = time.monotonic()
        return self._facts

    async def _hear(self) -> None:
        """Tell the site, again and again, that the hub answers."""
        while True:
            try:
                await self._uplinks[0].position()
                heard = Heartbeat(
                    site=self._name,
                    at=now(),
                    up=sum([await each.behind() for each in self._uplinks]),
                    down=sum([await each.waiting() or 0 for each in self._downlinks]),
                    problem=(self._bundles.problem or (self._facts.problem if self._facts else ""))[:500],
                )
                request = HeartbeatRequest(signed=sign(heard, LINK_TYPE, self._key))
                await service.ask(self._site, "policy", "heard", request, HeartbeatAnswer)
            except (BusUnavailableError, ServiceError) as error:
                log.warning("hub_not_heard", error=str(error))
            await asyncio.sleep(link.EVERY_S)
