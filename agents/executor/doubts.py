"""How long a call whose fate is unknown may still take effect.

The rule: never less than until its ``call_by``, and never longer than a call takes since this process knows of it:
more is left only by a clock that was set back.
"""

import time
from datetime import timedelta

from mesh.clock import now
from mesh.records import Effect
from mesh.tools import Tool

_MAX = 4096  # the oldest go first: they only wait a little longer


class Doubts:
    """Since when this process has waited for which dispatch, by a clock that nobody sets."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, int], float] = {}

    def left_s(self, effect: Effect, tool: Tool) -> float:
        """Seconds until no dispatch of this effect can take effect any more; 0 when none can."""
        dispatch = (effect.key, effect.epoch)
        end = effect.call_by + timedelta(seconds=tool.settle_s)
        left = (end - now()).total_seconds()
        if left > 0:
            while len(self._since) >= _MAX:
                del self._since[next(iter(self._since))]
            since = self._since.setdefault(dispatch, time.monotonic())
            left = min(left, since + tool.timeout_s + tool.settle_s - time.monotonic())
        return max(0.0, left)
