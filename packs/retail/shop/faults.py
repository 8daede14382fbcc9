"""Faults the shop commits on demand, so that its clients can be tested against a bad day.

The one rule: without a setting, nothing here changes what the shop does.
"""

import os
import random
import threading
from typing import Annotated, Literal

import msgspec

Rate = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


class Faults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The faults in force.

    `keys`: "ignore" applies a repeated Idempotency-Key again. `delay_ms`: wait before the transaction. `error_rate`:
    share of changes answered 500 before anything. `error_after_rate`: share answered 500 after the commit.
    `crash_after_commit`: the process dies after the commit of the Nth applied change from now, 0 for never.
    `refuse_kinds`: kinds answered 409. `seed`: what the rates are drawn from.
    """

    keys: Literal["honour", "ignore"] = "honour"
    delay_ms: Annotated[int, msgspec.Meta(ge=0, le=600_000)] = 0
    error_rate: Rate = 0.0
    error_after_rate: Rate = 0.0
    crash_after_commit: Annotated[int, msgspec.Meta(ge=0)] = 0
    refuse_kinds: tuple[str, ...] = ()
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
            self._commits_left = faults.crash_after_commit

    @property
    def current(self) -> Faults:
        """The faults in force, `crash_after_commit` counted down."""
        with self._lock:
            return msgspec.structs.replace(self._faults, crash_after_commit=self._commits_left)

    def fails_before(self) -> bool:
        """Draw whether this change fails before anything is done."""
        return self._before.random() < self._faults.error_rate

    def fails_after(self) -> bool:
        """Draw whether this change fails after its commit."""
        return self._after.random() < self._faults.error_after_rate

    def committed(self) -> None:
        """Count one applied change, and end the process at once when its time has come."""
        with self._lock:
            self._commits_left -= self._commits_left > 0
            crash = self._faults.crash_after_commit > 0 and self._commits_left == 0
        if crash:
            os._exit(1)
