"""Time and an event loop that a test moves by hand: nothing sleeps, no thread runs, all is repeatable."""

import asyncio
import datetime as real_datetime
import selectors
import sys
import time as real_time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any, TypeVar, TypeVarTuple

import pytest

from mesh import toolbox
from mesh.breaker import Breaker

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_TICK_S = 1e-6
_START = real_datetime.datetime(2026, 1, 1, tzinfo=real_datetime.UTC).timestamp()


class Clock:
    """The time of the simulated world; each reading takes a microsecond, as a real one does."""

    def __init__(self) -> None:
        self.elapsed = 0.0

    @property
    def seconds(self) -> float:
        """The time now, in Unix seconds."""
        return _START + self.elapsed

    def reset(self) -> None:
        """Begin again."""
        self.elapsed = 0.0

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.elapsed += seconds

    def read(self, *_: object) -> float:
        """What ``time.time`` and its like answer."""
        self.elapsed += _TICK_S
        return self.seconds

    def now(self, *_: object) -> real_datetime.datetime:
        """What ``datetime.now`` answers."""
        return real_datetime.datetime.fromtimestamp(self.read(), real_datetime.UTC)


CLOCK = Clock()


class _Time:
    time = monotonic = perf_counter = staticmethod(CLOCK.read)

    def __getattr__(self, name: str) -> Any:
        return getattr(real_time, name)


class _Datetime:
    now = staticmethod(CLOCK.now)

    def __getattr__(self, name: str) -> Any:
        return getattr(real_datetime.datetime, name)


@contextmanager
def virtual_time() -> Iterator[None]:
    """The executor, its tools and their breakers see ``CLOCK`` alone."""
    ours = [
        module for name, module in sys.modules.items() if name.startswith("agents.executor.") or name == "mesh.clock"
    ]
    with pytest.MonkeyPatch.context() as patch:
        for module in (*ours, toolbox):
            for name, real, virtual in (
                ("time", real_time, _Time()),
                ("datetime", real_datetime.datetime, _Datetime()),
            ):
                if getattr(module, name, None) is real:
                    patch.setattr(module, name, virtual)
        defaults = Breaker.__init__.__kwdefaults__
        assert defaults is not None
        patch.setitem(defaults, "clock", CLOCK.read)
        yield


class _Selector(selectors.SelectSelector):
    """Asked to wait, it ends the loop instead, and notes how long it would have waited."""

    idle: Callable[[float | None], None]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > 0:
            self.idle(timeout)
        return []


class Loop(asyncio.SelectorEventLoop):
    """An event loop on virtual time. ``wait_s`` is how far off its next timer is, or ``None``."""

    def __init__(self, in_thread: Callable[[Callable[[], Any]], Any]) -> None:
        """``in_thread`` is awaited where a real loop would hand work to a thread."""
        selector = _Selector()
        selector.idle = self._idle
        super().__init__(selector)
        self.wait_s: float | None = None
        self._in_thread = in_thread

    def time(self) -> float:
        """Virtual seconds since the beginning: as Unix time their digits would not do for timers."""
        CLOCK.read()
        return CLOCK.elapsed

    def run(self) -> None:
        """Run until everything waits for something from outside, or for a time that is not yet."""
        self.run_forever()

    def _idle(self, wait_s: float | None) -> None:
        self.wait_s = wait_s
        self.stop()

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Task[T]:
        """The work, when its turn comes."""
        return self.create_task(self._in_thread(lambda: func(*args)))
