"""A circuit breaker per target: closed, open, half-open (M. Nygard, Release It!, 2007).

The rule: while it is open nothing is sent; after the pause one call at a time may try.
"""

import time
from collections.abc import Callable
from enum import StrEnum

from mesh import metrics
from mesh.errors import NotSentError


class BreakerState(StrEnum):
    """Closed lets calls pass, open refuses them, half-open lets one try."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


_LONG = 5  # pauses in a row; after these each is twice the one before
_TRY_S = 0.25  # of the pause: how soon to look again while one call tries


class Breaker:
    """Opens after ``threshold`` failures in a row; tries again after ``pause_s``, and less often while it stays so."""

    def __init__(
        self,
        target: str,
        *,
        threshold: int = 5,
        pause_s: float = 1.0,
        pause_max_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.target = target
        self.state = BreakerState.CLOSED
        self._threshold = threshold
        self._pause_s = pause_s
        self._pause_max_s = max(pause_s, pause_max_s)
        self._clock = clock
        self._failures = 0
        self._pauses = 0
        self._opened = 0.0
        self._trying = False
        self._show()

    def check(self) -> None:
        """Ask to make a call; raises ``NotSentError`` while the breaker says no."""
        if self.state is BreakerState.OPEN and self._left_s() <= 0:
            self._become(BreakerState.HALF_OPEN)
        if self.state is BreakerState.OPEN or (self.state is BreakerState.HALF_OPEN and self._trying):
            raise NotSentError(f"the circuit breaker of {self.target} is open after {self._failures} failures")
        self._trying = self.state is BreakerState.HALF_OPEN

    def wait_s(self) -> float | None:
        """In how many seconds a call is worth another look, or ``None`` while nothing is refused."""
        if self.state is BreakerState.CLOSED:
            return None
        trying = self.state is BreakerState.HALF_OPEN
        return max(_TRY_S * self._pause_s, 0.0 if trying else self._left_s())

    def succeeded(self) -> None:
        """The target answered: the breaker closes."""
        self._failures = self._pauses = 0
        self._trying = False
        self._become(BreakerState.CLOSED)

    def failed(self) -> None:
        """The target did not answer as it should."""
        self._failures += 1
        self._trying = False
        if self.state is BreakerState.HALF_OPEN or self._failures >= self._threshold:
            self._opened = self._clock()
            self._pauses += self.state is not BreakerState.OPEN
            self._become(BreakerState.OPEN)

    def released(self) -> None:
        """A call that was let through ended without telling anything of the target."""
        self._trying = False

    def _left_s(self) -> float:
        """What is left of the pause."""
        pause_s = min(self._pause_s * 2.0 ** max(0, self._pauses - _LONG), self._pause_max_s)
        return self._opened + pause_s - self._clock()

    def _become(self, state: BreakerState) -> None:
        if state is self.state:
            return
        self.state = state
        self._show()

    def _show(self) -> None:
        for each in BreakerState:
            metrics.BREAKER.labels(target=self.target, state=each).set(float(each is self.state))
