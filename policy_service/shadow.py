"""Shadow mode: each plan is also decided under a bundle that is only tried, and what it says otherwise is counted.

The rule: whatever a shadow says, and however it fails, the decision is the one of the bundle in force.
"""

import time
from collections.abc import Callable

import structlog

from mesh import metrics
from mesh.records import Decision
from policy_service.bundle import Bundle
from policy_service.engine import Assessment
from policy_service.live import LiveBundles

_FAILED = "error"
_LOOK_AGAIN_S = 60.0  # a bundle that cannot be had is not asked for at each plan

log = structlog.get_logger(__name__)


class Shadow:
    """Decides beside the bundle in force. Without a shadow it costs one look into a dict a plan."""

    def __init__(self, bundles: LiveBundles) -> None:
        self._bundles = bundles
        self._unusable = ""
        self._look_again = 0.0

    async def compare(self, made: Decision, under: Callable[[Bundle], Assessment]) -> None:
        """Count whether the shadow of the domain, if there is one, says the same as the decision that was made."""
        domain = made.header.domain
        digest = self._bundles.shadow(domain)
        if not digest:
            return
        verdict, reason, policies = await self._decide(domain, digest, under)
        metrics.SHADOW_DECISIONS.labels(domain, made.verdict, verdict).inc()
        if verdict != made.verdict:
            log.info(
                "shadow_differs",
                task_id=made.header.task_id,
                domain=domain,
                bundle=digest,
                live=str(made.verdict),
                shadow=verdict,
                live_reason=made.reason,
                shadow_reason=reason,
                policies=policies,
            )

    async def _decide(
        self, domain: str, digest: str, under: Callable[[Bundle], Assessment]
    ) -> tuple[str, str, list[str]]:
        """The verdict, its reason and its policies; the first says ``error`` when there is none."""
        if digest == self._unusable and time.monotonic() < self._look_again:
            return _FAILED, "the bundle cannot be used", []
        try:
            bundle = await self._bundles.by_digest(domain, digest)
        except Exception as error:  # noqa: BLE001 - not the least of what is wrong with a shadow may reach the decision
            self._unusable, self._look_again = digest, time.monotonic() + _LOOK_AGAIN_S
            log.error("shadow_unusable", domain=domain, bundle=digest, reason=str(error) or type(error).__name__)
            return _FAILED, str(error), []
        try:
            said = under(bundle)
        except Exception as error:  # noqa: BLE001 - as above
            return _FAILED, f"{type(error).__name__}: {error}", []
        return str(said.verdict), said.reason, sorted({name for step in said.steps for name in step.policies})
