"""What a cell left behind, and the verdict on it: a pure function of what the streams and the shop say.

The rule: what was applied is counted in the shop's own log, what was accepted in ``EVENTS``; nothing is taken on trust.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from mesh.canonical import effect_key
from mesh.records import OutcomeStatus

UNDO = "~undo"
# The records that every task has exactly once, whoever died over it.
ONCE = ("context", "plan", "decision", "lesson")


@dataclass(frozen=True, slots=True)
class Accepted:
    """One event that is on disk in ``EVENTS``: its task, its entity, when it was stored, and how it must end."""

    task_id: str
    entity: str
    at: datetime
    ending: OutcomeStatus = OutcomeStatus.COMPLETED


@dataclass(frozen=True, slots=True)
class Seen:
    """One message of the journal: an outcome also says how it ended."""

    kind: str
    task_id: str
    at: datetime
    status: OutcomeStatus | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a cell left behind.

    ``applied`` are the keys in the shop's own log, in its order. ``facts`` are the versions that memory has of each
    fact that it was asked to remember, ``recalled`` when each was confirmed.
    """

    published: int
    accepted: Sequence[Accepted] = ()
    records: Sequence[Seen] = ()
    applied: Sequence[str] = ()
    letters: frozenset[str] = frozenset()
    waiting: frozenset[str] = frozenset()
    quarantined: Sequence[str] = ()
    facts: Mapping[str, int] = field(default_factory=dict)
    confirmed: Sequence[tuple[datetime, datetime]] = ()
    fault_at: datetime | None = None
    last_kind: str = "outcome"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the evidence comes to. ``recovery_s`` is ``None`` without a fault; ``notes`` say how hard the fault was."""

    tasks: int
    lost: int
    duplicates: int
    recovery_s: float | None
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()


def judge(evidence: Evidence) -> Verdict:
    """Count what was lost and what happened twice, and say in words what else is not as it must be."""
    lost = [*_missing(evidence), *_without_outcome(evidence), *_without_effect(evidence)]
    lost += [f"fact {key} is not in MEMORY" for key, versions in evidence.facts.items() if not versions]
    twice = _twice(evidence)
    problems = [f"lost: {what}" for what in lost]
    problems += [f"duplicate: {what}, {count} times" for what, count in twice.items()]
    problems += [*_otherwise(evidence), *_out_of_order(evidence)]
    return Verdict(
        tasks=evidence.published + len(evidence.facts),
        lost=len(lost),
        duplicates=sum(count - 1 for count in twice.values()),
        recovery_s=recovery_s(evidence),
        problems=tuple(problems),
    )


def recovery_s(evidence: Evidence) -> float | None:
    """Seconds from the fault until every task accepted by then was done; 0 when all were done before."""
    if evidence.fault_at is None:
        return None
    done: dict[str, datetime] = {}
    for seen in evidence.records:
        if seen.kind == evidence.last_kind:
            done.setdefault(seen.task_id, seen.at)
    held = {task.task_id for task in evidence.accepted if task.at <= evidence.fault_at} - evidence.waiting
    ends = [done[task] for task in held if task in done]
    ends += [end for start, end in evidence.confirmed if start <= evidence.fault_at]
    return max([0.0, *((end - evidence.fault_at).total_seconds() for end in ends)])


def _missing(evidence: Evidence) -> list[str]:
    """Events whose publish was acknowledged and that are not in ``EVENTS``."""
    count = evidence.published - len({task.task_id for task in evidence.accepted})
    return [f"{count} acknowledged events are not in EVENTS"] * count


def _without_outcome(evidence: Evidence) -> list[str]:
    ended = {seen.task_id for seen in evidence.records if seen.kind == "outcome"}
    tasks = {task.task_id for task in evidence.accepted} - ended - evidence.waiting
    return [f"task {task} has no outcome" for task in sorted(tasks)]


def _without_effect(evidence: Evidence) -> list[str]:
    """Completed tasks whose effect the shop does not know."""
    applied = set(evidence.applied)
    ended = {seen.task_id for seen in evidence.records if seen.status is OutcomeStatus.COMPLETED}
    found = [f"task {task} completed without its change" for task in ended if effect_key(task, "change") not in applied]
    found += [f"task {task} completed without its letter" for task in ended if task not in evidence.letters]
    return sorted(found)


def _twice(evidence: Evidence) -> dict[str, int]:
    """What happened more often than once."""
    counted = Counter(f"effect {key}" for key in evidence.applied)
    once = [seen for seen in evidence.records if seen.kind in (*ONCE, "outcome")]
    counted.update(f"{seen.kind} of task {seen.task_id}" for seen in once)
    counted.update(f"event of task {task.task_id}" for task in evidence.accepted)
    counted.update({f"fact {key}": versions for key, versions in evidence.facts.items()})
    return {what: count for what, count in counted.items() if count > 1}


def _otherwise(evidence: Evidence) -> list[str]:
    """Tasks that ended otherwise than they must, or lack a record; effects that were not to be."""
    problems = [f"quarantined: {item}" for item in evidence.quarantined]
    endings = {seen.task_id: seen.status for seen in evidence.records if seen.kind == "outcome"}
    kinds = {(seen.kind, seen.task_id) for seen in evidence.records}
    expected: set[str] = set()
    for task in evidence.accepted:
        ending = endings.get(task.task_id)
        if ending is not None and ending is not task.ending:
            problems.append(f"task {task.task_id} ended {ending}, not {task.ending}")
        if ending is not None:
            problems += [f"task {task.task_id} has no {kind}" for kind in ONCE if (kind, task.task_id) not in kinds]
        expected |= set(keys_of(task))
    problems += [f"effect {key} is of no accepted event" for key in evidence.applied if key not in expected]
    compensated = [task for task in evidence.accepted if endings.get(task.task_id) is OutcomeStatus.COMPENSATED]
    for task in compensated:
        problems += [f"task {task.task_id} lacks effect {key}" for key in keys_of(task) if key not in evidence.applied]
    return problems


def keys_of(task: Accepted) -> tuple[str, ...]:
    """The keys of the effects that this task has on the shop, in order."""
    if task.ending is OutcomeStatus.COMPENSATED:
        key = effect_key(task.task_id, "readdress")
        return (key, key + UNDO)
    return (effect_key(task.task_id, "change"),)


def _out_of_order(evidence: Evidence) -> list[str]:
    """Tasks of one entity must act in the order of their events (``accepted`` is in that order)."""
    place = {key: number for number, key in reversed(list(enumerate(evidence.applied)))}
    last: dict[str, tuple[int, str]] = {}
    problems = []
    for task in evidence.accepted:
        places = [place[key] for key in keys_of(task) if key in place]
        before, who = last.get(task.entity, (-1, ""))
        if places and places[0] < before:
            problems.append(f"order: task {task.task_id} acted before {who}, whose event came first")
        if places:
            last[task.entity] = (places[-1], task.task_id)
    return problems
