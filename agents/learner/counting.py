"""Counting outcomes: a pure fold, by playbook and by tool.

The rule: the counts are a function of the outcomes alone; times are whole microseconds, so sums are exact.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from mesh.records import Outcome, OutcomeStatus, Struct


class Kind(StrEnum):
    """What outcomes are counted by."""

    PLAYBOOK = "playbook"
    TOOL = "tool"


class Key(NamedTuple):
    """One playbook or one tool."""

    kind: Kind
    name: str

    @property
    def scope(self) -> str:
        """The scope of its facts in memory."""
        return f"{self.kind}/{self.name}"


class Tally(Struct, frozen=True, kw_only=True):
    """How tasks ended, one count for each status, and how long they took, in microseconds.

    ``timed`` tasks told their duration. ``seq`` and ``subject`` are of the last outcome that is counted.
    """

    completed: int = 0
    refused: int = 0
    denied: int = 0
    failed: int = 0
    compensated: int = 0
    expired: int = 0
    observed: int = 0
    timed: int = 0
    total_us: int = 0
    max_us: int = 0
    seq: int = 0
    subject: str = ""

    @property
    def tasks(self) -> int:
        """How many tasks are counted."""
        return sum(number for _, number in self.by_status())

    @property
    def mean_ms(self) -> float:
        """The mean duration in milliseconds; 0 when no task told its own."""
        return self.total_us / self.timed / 1000 if self.timed else 0.0

    def by_status(self) -> list[tuple[OutcomeStatus, int]]:
        """The counts, in the order of the statuses."""
        return [(status, getattr(self, status)) for status in OutcomeStatus]


def keys(ending: Outcome) -> tuple[Key, ...]:
    """What an outcome counts for: its playbook, if it had one, and each tool of the plan once."""
    playbook = (Key(Kind.PLAYBOOK, ending.playbook),) if ending.playbook else ()
    return (*playbook, *(Key(Kind.TOOL, name) for name in dict.fromkeys(ending.tools) if name))


def count(tally: Tally, ending: Outcome, seq: int, subject: str) -> Tally:
    """The tally with one outcome more."""
    took_us = _duration_us(ending)
    changes: dict[str, Any] = {ending.status: getattr(tally, ending.status) + 1, "seq": seq, "subject": subject}
    if took_us is not None:
        changes |= {
            "timed": tally.timed + 1,
            "total_us": tally.total_us + took_us,
            "max_us": max(tally.max_us, took_us),
        }
    return msgspec.structs.replace(tally, **changes)


def fold(items: Iterable[tuple[int, str, Outcome]], tallies: Mapping[Key, Tally] | None = None) -> dict[Key, Tally]:
    """The tallies after these outcomes (sequence, subject, record), from ``tallies`` or from nothing."""
    found = dict(tallies or {})
    for seq, subject, ending in items:
        for key in keys(ending):
            found[key] = count(found.get(key, Tally()), ending, seq, subject)
    return found


def sentence(key: Key, tally: Tally) -> str:
    """The tally in words, such as ``retail.return: 120 completed, 3 denied; 41.2 ms on average, 310.0 ms at most``."""
    counts = ", ".join(f"{number} {status}" for status, number in tally.by_status() if number)
    times = f"; {tally.mean_ms:.1f} ms on average, {tally.max_us / 1000:.1f} ms at most" if tally.timed else ""
    return f"{key.name}: {counts or 'no outcomes'}{times}"


def _duration_us(ending: Outcome) -> int | None:
    """From the acceptance of the event to the outcome, as the outcome tells it."""
    return next((round(time.ms * 1000) for time in ending.times if time.stage == ending.kind), None)
