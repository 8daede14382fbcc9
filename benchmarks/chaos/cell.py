"""What a cell of the matrix is, and what came of it.

The rule: a cell passes only when its fault really happened and no problem is known.
"""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import msgspec

from benchmarks.chaos.evidence import Verdict
from benchmarks.chaos.site import Sites

AFTER_FETCH = "after fetch"
BEFORE_COMMIT = "before commit"
BEFORE_ACK = "after commit, before ack"
BEFORE_DISPATCH = "before dispatch"
BEFORE_RECORD = "between effect and record"
RECOVERY = "during recovery"
COMPENSATION = "during compensation"
DRAINING = "while draining"
BOUNDARIES = (
    AFTER_FETCH,
    BEFORE_COMMIT,
    BEFORE_ACK,
    BEFORE_DISPATCH,
    BEFORE_RECORD,
    RECOVERY,
    COMPENSATION,
    DRAINING,
)
KILLS = "kills"
LOAD_S = 4.0


class Fault(StrEnum):
    """What is done to a process."""

    KILL = "kill"
    STOP = "stop"


class NotHitError(Exception):
    """The fault of a cell did not happen: the cell tested nothing, so it failed."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What a cell works with: sites that it may share with other cells, a folder of its own, and its own dice.

    ``load_s`` is how long an overload lasts; ten times as long it takes to work that off.
    """

    sites: Sites
    folder: Path
    draw: random.Random
    seed: int
    load_s: float = LOAD_S


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell. ``row``, ``column`` and ``fault`` are its place in the table of its group."""

    group: str
    row: str
    column: str
    fault: str
    run: Callable[[Bench], Awaitable[Verdict]]
    limit_s: float = 120.0

    @property
    def name(self) -> str:
        """How it is called and found: ``planner / before ack / kill``."""
        return " / ".join(part for part in (self.row, self.column, self.fault) if part)


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a cell. ``seconds`` is how long it took, with what it had to start."""

    group: str
    row: str
    column: str
    fault: str
    tasks: int = 0
    lost: int = 0
    duplicates: int = 0
    recovery_s: float | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """As ``Cell.name``."""
        return " / ".join(part for part in (self.row, self.column, self.fault) if part)

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.problems or self.lost or self.duplicates)
