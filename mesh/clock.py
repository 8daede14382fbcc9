"""The one place that asks what time it is.

The rule: whoever needs the wall clock asks here, so that a test can set the clock of one process.
"""

import time
from datetime import UTC, datetime
from pathlib import Path

_shift: tuple[float, Path] | None = None


def now() -> datetime:
    """The current time, aware UTC."""
    return datetime.fromtimestamp(unix(), UTC)


def unix() -> float:
    """The current time in seconds since 1970."""
    at = time.time()
    if _shift is not None and _shift[1].exists():
        at += _shift[0]
    return at


def shift(seconds: float, since: Path) -> None:
    """Have this process's clock jump by ``seconds`` as soon as a file exists; for tests only."""
    global _shift
    _shift = (seconds, since)


def unshift() -> None:
    """Tell the true time again."""
    global _shift
    _shift = None
