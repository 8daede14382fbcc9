"""How much of a domain's budget for models is left: what the journal says, looked at for every question.

The rule: it only helps to choose a model. Whether a call may be made is for who makes it, who reserves its cost first.
"""

import msgspec
import structlog

from mesh import subjects
from mesh.bus import Bus
from mesh.clock import unix
from mesh.settings import ModelSettings
from mesh.spending import Window, day_of, micro_usd

log = structlog.get_logger(__name__)

_decode = msgspec.json.Decoder(Window).decode


class Budgets:
    """Reads what was spent."""

    def __init__(self, bus: Bus, settings: ModelSettings) -> None:
        self._bus = bus
        self._settings = settings

    async def left(self, domain: str) -> float:
        """The part of the day's budget that is neither spent nor reserved, 0 to 1."""
        cap = micro_usd(self._settings.budget_of(domain).usd_per_day)
        message = await self._bus.last(subjects.JOURNAL, subjects.spend(domain, day_of(unix())))
        if message is None or message.is_forwarded:
            return 1.0 if cap else 0.0
        try:
            taken = _decode(message.data).taken
        except (ValueError, RecursionError) as error:
            log.warning("budget_unreadable", domain=domain, reason=str(error))
            return 0.0
        return min(1.0, max(0.0, 1 - taken / cap)) if cap else 0.0
