"""Faults that the registry can be started with, for tests: it dies at a chosen moment of a chosen change."""

import os
import signal
import threading
from typing import Annotated, Literal

import msgspec

Moment = Literal["crash_before_commit", "crash_after_commit"]
Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]


class Faults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """At which change of ``kind`` ("" is any) the process kills itself, counted from 1; 0 is never."""

    crash_before_commit: Count = 0
    crash_after_commit: Count = 0
    kind: str = ""


class FaultInjector:
    """Counts changes down to the crash."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._lock = threading.Lock()

    def reached(self, moment: Moment, kind: str) -> None:
        """A change has come this far; the process ends when its time has come."""
        with self._lock:
            left: int = getattr(self._faults, moment)
            if left == 0 or self._faults.kind not in ("", kind):
                return
            self._faults = msgspec.structs.replace(self._faults, **{moment: left - 1})
        if left == 1:
            os.kill(os.getpid(), signal.SIGKILL)
