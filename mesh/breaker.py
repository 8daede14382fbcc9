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


class Breaker:
    """Opens after ``threshold`` failures in a row; tries again after ``pause_s``."""

    def __init__(
        self,
        target: str,
        *,
        threshold: int = 5,
        pause_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.target = target
        self.state = BreakerState.CLOSED
        self._threshold = threshold
        self._pause_s = pause_s
        self._clock = clock
        self._failures = 0
        self._opened = 0.0
        self._trying = False

    def check(self) -> None:
        """Ask to make a call; raises ``NotSentError`` while the breaker says no."""
        if self.state is BreakerState.OPEN and self._clock() - self._opened >= self._pause_s:
            self._become(BreakerState.HALF_OPEN)
        if self.state is BreakerState.OPEN or (self.state is BreakerState.HALF_OPEN and self._trying):
            raise NotSentError(f"the circuit breaker of {self.target} is open after {self._failures} failures")
        self._trying = self.state is BreakerState.HALF_OPEN

    def succeeded(self) -> None:
        """The target answered: the breaker closes."""
        self._failures = 0
        self._trying = False
        self._become(BreakerState.CLOSED)

    def failed(self) -> None:
        """The target did not answer as it should."""
        self._failures += 1
        self._trying = False
        if self.state is BreakerState.HALF_OPEN or self._failures >= self._threshold:
            self._opened = self._clock()
            self._become(BreakerState.OPEN)

    def released(self) -> None:
        """A call that was let through ended without telling anything of the target."""
        self._trying = False

    def _become(self, state: BreakerState) -> None:
        if state is self.state:
            return
        self.state = state
        for each in BreakerState:
            metrics.BREAKER.labels(target=self.target, state=each).set(float(each is state))
