"""What the domains' budgets have left today, as metrics: read from the journal, so that a new day shows too."""

import asyncio
from collections.abc import Iterable

import msgspec
import structlog

from mesh import metrics, subjects
from mesh.bus import Bus
from mesh.clock import unix
from mesh.errors import BusUnavailableError, TerminalError
from mesh.settings import ModelSettings
from mesh.spending import Window, day_of, micro_usd

log = structlog.get_logger(__name__)

_EVERY_S = 10.0
_decode = msgspec.json.Decoder(Window).decode


async def measuring(bus: Bus, models: ModelSettings, domains: Iterable[str]) -> None:
    """Look again and again, until cancelled."""
    caps = {domain: micro_usd(models.budget_of(domain).usd_per_day) for domain in sorted(domains)}
    for domain, cap in caps.items():
        metrics.BUDGET.labels(domain).set(cap)
    for event in ("sent", "adopted", "ended", "lost"):
        metrics.MODEL_BATCHES.labels(event)
    while True:
        for domain, cap in caps.items():
            try:
                metrics.BUDGET_LEFT.labels(domain).set(cap - await _taken(bus, domain))
            except (BusUnavailableError, TerminalError, msgspec.DecodeError) as error:
                log.debug("budget_not_seen", domain=domain, error=str(error))
        await asyncio.sleep(_EVERY_S)


async def _taken(bus: Bus, domain: str) -> int:
    message = await bus.last(subjects.JOURNAL, subjects.spend(domain, day_of(unix())))
    if message is None or message.is_forwarded:
        return 0
    return _decode(message.data).taken
