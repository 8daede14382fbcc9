"""Reading tasks from the journal for people: lists and summaries, straight from the stream."""

from dataclasses import dataclass

import msgspec

from mesh import records, subjects
from mesh.bus import Bus
from mesh.errors import WorkmeshError
from mesh.halts import Halts, why
from mesh.journal import Journal, Stored, committing
from mesh.lifecycle import TaskState
from mesh.records import (
    AnyRecord,
    Context,
    Decision,
    Effect,
    Outcome,
    Phase,
    Plan,
    Prompt,
    Result,
    ResultStatus,
    Verdict,
)

_PREFIX = 4
_NO_HALTS = Halts()
# Where a task goes on by itself, unless it is held.
_HOLDABLE = (TaskState.PLANNED, TaskState.PERMITTED, TaskState.ACTING, TaskState.COMPENSATING)


class TaskLine(msgspec.Struct, frozen=True, kw_only=True):
    """A task in a list."""

    task_id: str
    domain: str
    event_type: str
    event_id: str
    entity: str
    accepted_at: str
    state: str
    reason: str = ""
    amount: int = 0
    held: str = ""


@dataclass(slots=True)
class _Seen:
    context: Context
    state: TaskState = TaskState.PERCEIVED
    outcome: Outcome | None = None
    reason: str = ""
    plan: Plan | None = None


async def list_tasks(bus: Bus, *, state: str = "", limit: int = 50, halts: Halts = _NO_HALTS) -> list[TaskLine]:
    """The newest tasks first, optionally in one state; ``held`` says which of the halts holds one."""
    seen: dict[str, _Seen] = {}
    seq = 1
    while page := await bus.read(subjects.JOURNAL, seq, 256, "task.>"):
        for message in page:
            try:
                _take(seen, records.decode(message.data))
            except ValueError:
                continue
        seq = page[-1].seq + 1
    lines = [_line(task, halts) for task in reversed(seen.values())]
    return [line for line in lines if not state or line.state == state][:limit]


def state_of(items: list[Stored]) -> TaskState:
    """Where a task stands, from its records in order."""
    seen: dict[str, _Seen] = {}
    for item in items:
        _take(seen, item.record)
    return next(iter(seen.values())).state if seen else TaskState.ACCEPTED


async def history(bus: Bus, task_id: str) -> list[Stored]:
    """All records of a task, named by its id, the beginning of it, or its event's id; else ``WorkmeshError``."""
    async with committing(bus) as committer:
        journal = Journal(bus, committer)
        items = await journal.history(task_id)
        if not items:
            items = await journal.history(await _find(bus, task_id))
    return items


async def _find(bus: Bus, start: str) -> str:
    """The task whose id begins so, or that came from the event of this id."""
    found = [
        line.task_id
        for line in await list_tasks(bus, limit=1_000_000)
        if line.event_id == start or (len(start) >= _PREFIX and line.task_id.startswith(start))
    ]
    if len(found) != 1:
        what = "no task" if not found else f"{len(found)} tasks"
        raise WorkmeshError(f"{what} {start!r} in the journal: `workmesh tasks list` shows what there is")
    return found[0]


def _take(seen: dict[str, _Seen], record: AnyRecord) -> None:
    task = record.header.task_id
    if isinstance(record, Context):
        seen[task] = _Seen(record)
    if task not in seen:
        return
    known = seen[task]
    known.state, known.reason = moved(known.state, known.reason, record)
    if isinstance(record, Plan):
        known.plan = record
    elif isinstance(record, Outcome):
        known.outcome = record


def moved(state: TaskState, reason: str, record: AnyRecord) -> tuple[TaskState, str]:
    """Where a task stands after a record, and why; the record may leave both as they are."""
    match record:
        case Prompt(name=name) if state in (TaskState.PERCEIVED, TaskState.ASKING):
            return TaskState.ASKING, f"a model is asked: {name}"
        case Plan(refusal=refusal):
            return TaskState.PLANNED, refusal
        case Decision(verdict=Verdict.NEEDS_APPROVAL, reason=given):
            return TaskState.WAITING, given
        case Decision(verdict=Verdict.ALLOW):
            return TaskState.PERMITTED, ""
        case Decision(void=facts, reason=given) if facts:
            return TaskState.PERCEIVED, given
        case Decision(verdict=Verdict.DENY, reason=given, phase=Phase()):
            return TaskState.DENIED, given
        case Effect(step=step):
            return (TaskState.COMPENSATING if step.endswith("~undo") else TaskState.ACTING), reason
        case Result(status=ResultStatus.IN_DOUBT, error=error):
            return TaskState.IN_DOUBT, error
        case Outcome(status=status, reason=given):
            return TaskState(status), given
    return state, reason


def held_by(items: list[Stored], halts: Halts) -> str:
    """Which halt holds a task, in words; empty when none does."""
    seen: dict[str, _Seen] = {}
    for item in items:
        _take(seen, item.record)
    return next((_held(task, halts) for task in seen.values()), "")


def _held(task: _Seen, halts: Halts) -> str:
    plan = task.plan
    if plan is None or task.state not in _HOLDABLE:
        return ""
    tools = {call.tool for step in plan.steps for call in (step.call, step.compensation) if call}
    halt = halts.find(plan.header.domain, tools=tools, agents=(plan.header.writer,))
    return why(halt) if halt else ""


def _line(task: _Seen, halts: Halts) -> TaskLine:
    context = task.context
    return TaskLine(
        task_id=context.header.task_id,
        domain=context.header.domain,
        event_type=context.event.type,
        event_id=context.event.id,
        entity=context.entity,
        accepted_at=context.event.accepted_at.isoformat(),
        state=task.state,
        reason=task.reason,
        amount=task.outcome.amount if task.outcome else 0,
        held=_held(task, halts),
    )
