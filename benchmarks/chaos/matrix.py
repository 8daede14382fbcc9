"""All cells: every process at every boundary of its work, killed and stopped, and runs under random kills.

The rule: a cell that makes no sense is not here, and stands as ``-`` in the table; docs/reliability.md says why.
"""

from collections.abc import Awaitable, Callable, Iterator
from functools import partial

from benchmarks.chaos.cell import (
    AFTER_FETCH,
    BEFORE_ACK,
    BEFORE_COMMIT,
    BEFORE_DISPATCH,
    BEFORE_RECORD,
    BOUNDARIES,
    COMPENSATION,
    DRAINING,
    KILLS,
    RECOVERY,
    Bench,
    Cell,
    Fault,
)
from benchmarks.chaos.drills import Drill
from benchmarks.chaos.environment import environment
from benchmarks.chaos.evidence import Verdict
from benchmarks.chaos.site import NATS, SHOP, SiteSpec
from benchmarks.chaos.storm import storm
from benchmarks.chaos.trial import Load

MATRIX = "process x boundary"
STORMS = "random kills"

_STAGES = ("perception", "planner", "policy", "learner")
# One process of each role where it is killed; a copy beside it where it is stopped: that one takes over.
_SITES = {Fault.KILL: SiteSpec(), Fault.STOP: SiteSpec(copies=True)}
_FORGETFUL = SiteSpec(copies=True, keys="ignore")
_SAGAS = Load(sagas=4)
_FACTS = Load(facts=6)

Run = Callable[[Bench], Awaitable[Verdict]]


def cells() -> list[Cell]:
    """All cells, those that share a site next to each other."""
    systems = [cell for fault in Fault for cell in (*_row(SHOP, fault, _shop(fault)), *_row(NATS, fault, _nats(fault)))]
    storms = [Cell(STORMS, "sample", f"keys {keys}", KILLS, partial(storm, keys=keys)) for keys in ("honour", "ignore")]
    return [*_roles(Fault.KILL), *systems, *_roles(Fault.STOP), *_forgetful(), *environment(), *storms]


def _roles(fault: Fault) -> Iterator[Cell]:
    for role in _STAGES:
        yield from _row(role, fault, _stage(role, fault))
    yield from _row("executor", fault, _executor(_SITES[fault], fault))
    yield from _row("memory", fault, _memory(fault))


def _row(row: str, fault: Fault, runs: dict[str, Run]) -> Iterator[Cell]:
    return (Cell(MATRIX, row, column, fault, runs[column]) for column in BOUNDARIES if column in runs)


def _stage(role: str, fault: Fault) -> dict[str, Run]:
    drill = Drill(_SITES[fault], fault, Load(last_kind="lesson" if role == "learner" else "outcome"))
    point = partial(drill.at_point, role=role)
    return {
        AFTER_FETCH: partial(point, point=f"{role}.before_handling"),
        BEFORE_COMMIT: partial(point, point=f"{role}.before_commit"),
        BEFORE_ACK: partial(point, point=f"{role}.before_ack"),
        RECOVERY: partial(drill.at_start, role=role, point=f"{role}.before_ack"),
        DRAINING: partial(drill.at_drain, role=role, held=f"{role}.before_commit", point=f"{role}.while_draining"),
    }


def _executor(spec: SiteSpec, fault: Fault) -> dict[str, Run]:
    drill, undoing = Drill(spec, fault), Drill(spec, fault, _SAGAS)
    point = partial(drill.at_point, role="executor")
    return {
        AFTER_FETCH: partial(point, point="executor.before_handling"),
        BEFORE_COMMIT: partial(point, point="executor.before_commit"),
        BEFORE_ACK: partial(point, point="executor.before_ack"),
        BEFORE_DISPATCH: partial(point, point="executor.before_call"),
        BEFORE_RECORD: partial(point, point="executor.after_call"),
        RECOVERY: drill.at_recovery,
        COMPENSATION: partial(undoing.at_point, role="executor", point="executor.after_undo"),
        DRAINING: partial(drill.at_drain, role="executor", held="executor.after_call", point="executor.while_draining"),
    }


def _memory(fault: Fault) -> dict[str, Run]:
    drill = Drill(_SITES[fault], fault, _FACTS)
    point = partial(drill.at_point, role="memory")
    return {
        AFTER_FETCH: partial(point, point="memory.on_request"),
        BEFORE_COMMIT: partial(point, point="memory.before_commit"),
        BEFORE_ACK: partial(point, point="memory.before_answer"),
        RECOVERY: partial(drill.at_start, role="memory", point="memory.before_answer"),
        DRAINING: partial(drill.at_drain, role="memory", held="memory.before_answer", point="memory.while_stopping"),
    }


def _shop(fault: Fault) -> dict[str, Run]:
    drill, undoing = Drill(SiteSpec(), fault), Drill(SiteSpec(), fault, _SAGAS)
    return {
        AFTER_FETCH: partial(drill.in_shop, crash="crash_on_request"),
        BEFORE_COMMIT: partial(drill.in_shop, crash="crash_before_commit"),
        BEFORE_ACK: partial(drill.in_shop, crash="crash_after_commit"),
        BEFORE_DISPATCH: partial(drill.beside, victim=SHOP, point="executor.before_call"),
        BEFORE_RECORD: partial(drill.beside, victim=SHOP, point="executor.after_call"),
        RECOVERY: partial(drill.beside, victim=SHOP, point="executor.during_recovery", after="executor.after_call"),
        COMPENSATION: partial(undoing.beside, victim=SHOP, point="executor.before_undo"),
        DRAINING: drill.in_draining_shop,
    }


def _nats(fault: Fault) -> dict[str, Run]:
    drill, undoing = Drill(SiteSpec(), fault), Drill(SiteSpec(), fault, _SAGAS)
    beside = partial(drill.beside, victim=NATS)
    return {
        AFTER_FETCH: partial(beside, point="executor.before_handling"),
        BEFORE_COMMIT: partial(beside, point="executor.before_commit"),
        BEFORE_ACK: partial(beside, point="executor.before_ack"),
        BEFORE_DISPATCH: partial(beside, point="executor.before_call"),
        BEFORE_RECORD: partial(beside, point="executor.after_call"),
        RECOVERY: partial(beside, point="executor.during_recovery", after="executor.after_call"),
        COMPENSATION: partial(undoing.beside, victim=NATS, point="executor.after_undo"),
        DRAINING: partial(beside, point="executor.while_draining", drain="executor.after_call"),
    }


def _forgetful() -> Iterator[Cell]:
    """The executor's own boundaries again, with a shop that forgets keys: tools are then settled by asking it."""
    for fault in Fault:
        runs = _executor(_FORGETFUL, fault)
        own = {column: runs[column] for column in (BEFORE_DISPATCH, BEFORE_RECORD, RECOVERY, COMPENSATION)}
        yield from _row("executor, keys ignored", fault, own)
