"""Faults the CMS commits on demand, so that its clients can be tested against a bad day.

The one rule: without a setting, nothing here changes what the CMS does.
"""

import os
import random
import signal
import threading
from typing import Annotated, Literal

import msgspec

Rate = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Crash = Literal["crash_on_request", "crash_before_commit", "crash_after_commit"]


class Faults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The faults in force.

    `error_rate`: share of changes answered 500 before anything. `error_after_rate`: share answered so after the commit.
    `crash_on_request`, `crash_before_commit`, `crash_after_commit`: the process dies (SIGKILL) when the Nth change
    from now is received, about to be committed, or committed; 0 for never. `freeze`: it stops (SIGSTOP) instead.
    `seed`: what the rates are drawn from.
    """

    error_rate: Rate = 0.0
    error_after_rate: Rate = 0.0
    crash_on_request: Count = 0
    crash_before_commit: Count = 0
    crash_after_commit: Count = 0
    freeze: bool = False
    seed: int = 0


class FaultInjector:
    """Holds the faults in force and the draws made under them."""

    def __init__(self, faults: Faults) -> None:
        self._lock = threading.Lock()
        self.set(faults)

    def set(self, faults: Faults) -> None:
        """Put other faults in force; draws and the count to the crash start anew."""
        with self._lock:
            self._faults = faults
            self._before = random.Random(f"before {faults.seed}")
            self._after = random.Random(f"after {faults.seed}")

    @property
    def current(self) -> Faults:
        """The faults in force, the crashes counted down."""
        with self._lock:
            return self._faults

    def fails_before(self) -> bool:
        """Draw whether this change fails before anything is done."""
        return self._before.random() < self._faults.error_rate

    def fails_after(self) -> bool:
        """Draw whether this change fails after its commit."""
        return self._after.random() < self._faults.error_after_rate

    def reached(self, crash: Crash) -> None:
        """Count one change at this point, and end or stop the process at once when its time has come."""
        with self._lock:
            left = getattr(self._faults, crash)
            if left == 0:
                return
            self._faults = msgspec.structs.replace(self._faults, **{crash: left - 1})
        if left == 1:
            os.kill(os.getpid(), signal.SIGSTOP if self._faults.freeze else signal.SIGKILL)
