"""Counting what tasks left for learning: a pure fold, by playbook, by tool and by kind of entity.

The rule: the counts are a function of the records alone; times are whole microseconds, so sums are exact.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from mesh.records import Lesson, Outcome, OutcomeStatus, Struct
from mesh.statistics import StatLine

HOUR_S = 3600


class Kind(StrEnum):
    """What tasks are counted by."""

    PLAYBOOK = "playbook"
    TOOL = "tool"
    ENTITY = "entity"


class Key(NamedTuple):
    """One playbook, tool or kind of entity, in one hour (hours since 1970)."""

    kind: Kind
    name: str
    hour: int


class Tally(Struct, frozen=True, kw_only=True):
    """How tasks ended, one count for each status, and how long they took, in microseconds; ``timed`` told it.

    The rest as in ``StatLine``; ``corrected`` counts corrections of tasks that had ended.
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
    retries: int = 0
    doubts: int = 0
    errors: int = 0
    words: int = 0
    overridden: int = 0
    corrected: int = 0
    cost_micro_usd: int = 0

    @property
    def tasks(self) -> int:
        """How many tasks are counted."""
        return sum(getattr(self, status) for status in OutcomeStatus)

    @property
    def mean_ms(self) -> float:
        """The mean duration in milliseconds; 0 when no task told its own."""
        return self.total_us / self.timed / 1000 if self.timed else 0.0

    def __add__(self, other: "Tally") -> "Tally":
        sums: dict[str, Any] = {name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__}
        return Tally(**(sums | {"max_us": max(self.max_us, other.max_us)}))


def hour_of(at: datetime) -> int:
    """The hour that a time is in."""
    return int(at.timestamp()) // HOUR_S


def counts_of(record: Outcome | Lesson) -> Iterator[tuple[Key, Tally]]:
    """What one record adds: an outcome to its playbook, each tool of the plan once, its kind of entity; a correction to
    the playbook and tools of its task.
    """
    hour = hour_of(record.header.at)
    if isinstance(record, Lesson):
        yield from _counts_of_correction(record, hour)
        return
    left = record.experience
    common = _ending(record)
    whole = Tally(retries=len(left.retried), doubts=len(left.doubted), errors=len(left.erred))
    if record.playbook:
        yield Key(Kind.PLAYBOOK, record.playbook, hour), common + whole
    if left.entity_kind:
        yield Key(Kind.ENTITY, f"{record.header.domain}.{left.entity_kind}", hour), common + whole
    # Calls that undo are of tools that the plan's steps need not name.
    for tool in dict.fromkeys((*record.tools, *left.retried, *left.doubted, *left.erred)):
        calls = Tally(retries=left.retried.count(tool), doubts=left.doubted.count(tool), errors=left.erred.count(tool))
        yield Key(Kind.TOOL, tool, hour), (common if tool in record.tools else Tally()) + calls


def _counts_of_correction(record: Lesson, hour: int) -> Iterator[tuple[Key, Tally]]:
    if record.correction:
        one = Tally(corrected=1)
        yield Key(Kind.PLAYBOOK, record.playbook, hour), one
        for tool in dict.fromkeys(record.tools):
            yield Key(Kind.TOOL, tool, hour), one


def _ending(ending: Outcome) -> Tally:
    took_us = next((round(time.ms * 1000) for time in ending.times if time.stage == ending.kind), None)
    left = ending.experience
    changes: dict[str, Any] = {ending.status: 1}
    if took_us is not None:
        changes |= {"timed": 1, "total_us": took_us, "max_us": took_us}
    return Tally(words=left.words, overridden=int(left.overrides > 0), cost_micro_usd=left.cost_micro_usd, **changes)


def fold(records: Iterable[Outcome | Lesson]) -> dict[Key, Tally]:
    """The tallies of these records, by hour."""
    found: dict[Key, Tally] = {}
    for record in records:
        for key, added in counts_of(record):
            found[key] = found.get(key, Tally()) + added
    return found


def line(kind: Kind, name: str, tally: Tally) -> StatLine:
    """A tally as people and programs read it."""
    overridden = tally.overridden + tally.corrected
    return StatLine(
        kind=kind,
        name=name,
        tasks=tally.tasks,
        statuses={str(status): number for status in OutcomeStatus if (number := getattr(tally, status))},
        success_rate=tally.completed / tally.tasks if tally.tasks else 0.0,
        overridden=overridden,
        override_rate=min(1.0, overridden / tally.tasks) if tally.tasks else 0.0,
        retries=tally.retries,
        doubts=tally.doubts,
        errors=tally.errors,
        cost_micro_usd=tally.cost_micro_usd,
        mean_ms=round(tally.mean_ms, 3),
        max_ms=tally.max_us / 1000,
    )
