"""The figures of a run, as plain functions: percentiles, what was repeated, what was lost, when to kill."""

import random
import statistics
from collections import Counter
from collections.abc import Collection, Sequence

import msgspec

from benchmarks.peers.engine import IN_FLIGHT


class Speed(msgspec.Struct, frozen=True):
    """One run without a fault. ``cpu_ms``: CPU time a task of all processes, submitter and target too."""

    tasks_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float


class Kills(msgspec.Struct, frozen=True):
    """What came of the tasks of a run with kills.

    ``victims`` are the tasks whose effect had happened and whose answer was still on its way when the process died.
    """

    kills: int
    victims: int
    duplicated: int  # tasks whose effect occurred more than once
    repeats: int  # effects too many
    without_effect: int
    without_end: int
    waiting: int = 0  # ended only when a person has said what happened


class KillAt(msgspec.Struct, frozen=True):
    """Withhold answers from this effect on, and kill when so many are withheld."""

    effect: int
    held: int


def speed(seconds: float, latencies_ms: Sequence[float], cpu_ms: float) -> Speed:
    """The rate of a run and its latencies."""
    ranked = sorted(latencies_ms)
    p50, p99 = (round(percentile(ranked, percent), 1) for percent in (50, 99))
    return Speed(round(len(ranked) / seconds, 1), p50, p99, round(cpu_ms, 1))


def percentile(ranked: Sequence[float], percent: float) -> float:
    """The nearest rank of ascending values: the least value that so many percent do not exceed."""
    if not ranked:
        raise ValueError("no values")
    rank = -(-len(ranked) * percent // 100)
    return ranked[max(int(rank), 1) - 1]


def median_of(runs: Sequence[Speed]) -> Speed:
    """Each figure's own median."""
    return Speed(*(statistics.median(getattr(run, name) for run in runs) for name in Speed.__struct_fields__))


def kills_of(
    tasks: Collection[str],
    effects: Sequence[str],
    ended: Collection[str],
    victims: Collection[str],
    *,
    kills: int,
    waiting: Collection[str] = (),
) -> Kills:
    """Count what a run with kills left; ``effects`` names the task of every effect that happened, in any order."""
    counts = Counter(effect for effect in effects if effect in set(tasks))
    return Kills(
        kills=kills,
        victims=len(set(victims)),
        duplicated=sum(count > 1 for count in counts.values()),
        repeats=sum(count - 1 for count in counts.values()),
        without_effect=sum(task not in counts for task in tasks),
        without_end=len(set(tasks) - set(ended) - set(waiting)),
        waiting=len(set(waiting)),
    )


def kill_plan(seed: int, tasks: int, kills: int) -> list[KillAt]:
    """When to kill: one moment in each of as many stretches of the run, with 8 to 48 answers withheld."""
    chance = random.Random(seed)
    stretch = tasks // (kills + 1)
    if stretch <= IN_FLIGHT:
        raise ValueError(f"{tasks} tasks are too few for {kills} kills: {(kills + 1) * (IN_FLIGHT + 1)} are needed")
    return [
        KillAt(effect=number * stretch + chance.randrange(1, stretch - IN_FLIGHT + 1), held=chance.randint(8, 48))
        for number in range(kills)
    ]
