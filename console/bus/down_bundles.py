"""What was sent down from the hub of policy, given to the site's policy service exactly as a policy admin signed it.

The rule: the site decides. Its own policy service checks the signature against its own trust, and what it does not take
stays out of force; the hub is told what is in force here, and what was refused.
"""

import asyncio

import msgspec
import structlog

from mesh import service, subjects
from mesh.activation import (
    ActivateAnswer,
    ActivateRequest,
    Activation,
    PublishAnswer,
    PublishRequest,
    active_key,
    bundle_key,
    standing,
)
from mesh.bus import Bus
from mesh.canonical import digest
from mesh.clock import now
from mesh.downlink import Sent, Told, looked_at
from mesh.errors import BusUnavailableError, SignatureError
from mesh.permissions import kv_stream
from mesh.records import Struct
from mesh.service import ServiceBusyError, ServiceError
from mesh.signing import ACTIVATION_TYPE, BUNDLE_TYPE, open_envelope

log = structlog.get_logger(__name__)

_STREAM = kv_stream(subjects.POLICY_BUCKET)
_PATIENCE_S = 60.0  # compiling a bundle of a thousand policies and running its cases takes seconds
_LOOK_S = 2.0


class _Contents(Struct, frozen=True):
    """As ``policy_service.bundle.BundleContents``."""

    domain: str
    files: tuple[tuple[str, str], ...]


class HubBundles:
    """Takes bundles and activations for the site of this name, and tells the hub what became of them."""

    def __init__(self, site: Bus, hub: Bus, name: str) -> None:
        self._site = site
        self._hub = hub
        self._name = name
        self._told: dict[str, Told] = {}
        self._seen: dict[str, int] = {}
        self._floor: int | None = None  # what an earlier life of this process looked at
        self.problem = ""

    async def take(self, sent: Sent) -> None:
        """Give one to the policy service; raises ``ServiceBusyError`` or ``BusUnavailableError`` while it is away."""
        _, _, what, domain = sent.subject.split(".")
        refused = ""
        try:
            if what == "bundle":
                await self._bundle(sent.data, domain)
            else:
                await self._active(sent.data, domain)
        except ServiceBusyError:
            raise
        except (ServiceError, SignatureError) as error:
            refused = self.problem = str(error)
            log.error("hub_policy_refused", domain=domain, what=what, seq=sent.seq, reason=refused)
        self._seen[domain] = sent.seq
        if what == "active" or refused:
            await self._tell(domain, refused)

    async def _bundle(self, signed: bytes, domain: str) -> None:
        contents, _ = open_envelope(signed, BUNDLE_TYPE, _Contents, lambda key: None)  # the service asks whose it is
        if contents.domain != domain:
            raise SignatureError(f"a bundle of {contents.domain} was sent as one of {domain}")
        stands = await self._site.last(_STREAM, bundle_key(domain, digest(contents)))
        if stands is not None and stands.data == signed:
            return  # it came again
        request = PublishRequest(signed=msgspec.Raw(signed))
        answer = await service.ask(self._site, "policy", "publish", request, PublishAnswer, timeout_s=_PATIENCE_S)
        log.info("hub_bundle_taken", domain=domain, digest=answer.digest)

    async def _active(self, signed: bytes, domain: str) -> None:
        wanted, _ = open_envelope(signed, ACTIVATION_TYPE, Activation, lambda key: None)
        if wanted.domain != domain or wanted.site != self._name:
            raise SignatureError(
                f"an activation of {wanted.domain} for {wanted.site or 'no site'} was sent to this one"
            )
        in_force = await self._site.last(_STREAM, active_key(domain))
        if in_force is not None and in_force.data == signed:
            return  # it came again
        request = ActivateRequest(signed=msgspec.Raw(signed))
        answer = await service.ask(self._site, "policy", "activate", request, ActivateAnswer, timeout_s=_PATIENCE_S)
        log.info("hub_activation_taken", domain=domain, digest=answer.digest, seq=answer.seq)

    async def run(self) -> None:
        """Tell the hub what is in force here, now and when it changes, until cancelled."""
        while True:
            try:
                if self._floor is None:
                    self._floor = await looked_at(self._hub, self._name)
                for message in await self._site.last_of_each(_STREAM, [active_key("*")]):
                    domain = message.subject.rpartition(".")[2]
                    told = self._told.get(domain)
                    if told is None or told.digest != await self._digest(domain):
                        await self._tell(domain)
            except (BusUnavailableError, SignatureError) as error:
                log.warning("hub_not_told", error=str(error))
            await asyncio.sleep(_LOOK_S)

    async def _tell(self, domain: str, refused: str = "") -> None:
        seen = max(self._seen.get(domain, 0), self._floor or 0)
        told = Told(domain=domain, digest=await self._digest(domain), seen=seen, at=now(), refused=refused)
        await self._hub.store(subjects.told(self._name, domain), msgspec.json.encode(told))
        self._told[domain] = told

    async def _digest(self, domain: str) -> str:
        stands = await standing(self._site, domain)
        return stands.activation.digest if stands else ""
