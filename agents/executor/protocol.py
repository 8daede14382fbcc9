"""The effect protocol as a pure function: from a plan and what the journal says of it to the next move.

The rule: a call is dispatched only when no earlier dispatch of it can still be in the world, or the tool has said how
that is settled. Effects are compensated in reverse order when a step that matters fails for good.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from mesh.journal import Stored
from mesh.records import Call, Effect, Plan, Result, ResultStatus, Step

UNDO = "~undo"
NOTIFY = "~notify"


@dataclass(frozen=True, slots=True)
class Action:
    """What the journal says of one action: its last effect and result, with their sequences."""

    effect: Effect | None = None
    effect_seq: int = 0
    result: Result | None = None
    result_seq: int = 0

    @property
    def in_flight(self) -> bool:
        """Whether a dispatch may be in the world without a result."""
        effect = self.effect
        return effect is not None and not (effect.withdrawn or effect.closed) and self.result is None

    @property
    def epoch(self) -> int:
        """The last epoch used; 0 when there was none."""
        return self.effect.epoch if self.effect else 0

    def ended(self, status: ResultStatus) -> bool:
        """Whether the action has this result."""
        return self.result is not None and self.result.status is status


@dataclass(frozen=True, slots=True)
class Notice:
    """Somebody (``who``) is to be told once ``step`` has succeeded."""

    token: str
    step: str
    call: Call
    key: str
    who: str


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Commit an effect of this epoch, then call."""

    token: str
    call: Call
    key: str
    epoch: int
    expected_seq: int


@dataclass(frozen=True, slots=True)
class Recover:
    """An effect without a result: settle it as its tool declares."""

    token: str
    call: Call
    effect: Effect
    effect_seq: int


@dataclass(frozen=True, slots=True)
class AskPerson:
    """An effect in doubt that only a person can settle."""

    token: str


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing more is to be done. ``failed`` names the step that failed for good, ``undone`` what was compensated.

    ``unmet`` are the notices that failed for good, in words.
    """

    failed: str = ""
    reason: str = ""
    undone: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    unmet: tuple[str, ...] = ()


Move = Dispatch | Recover | AskPerson | Finish


@dataclass(frozen=True, slots=True)
class Actions:
    """All actions of a task, by token (``step``, ``step~undo``, ``step~notify``)."""

    by_token: Mapping[str, Action] = field(default_factory=dict)

    def get(self, token: str) -> Action:
        """The action, or one of which nothing is said yet."""
        return self.by_token.get(token, Action())


def actions_of(items: Iterable[Stored]) -> Actions:
    """What a task's records say of its actions."""
    found: dict[str, Action] = {}
    for item in items:
        record = item.record
        if isinstance(record, Effect):
            old = found.get(record.step, Action())
            if item.seq > old.effect_seq:
                found[record.step] = Action(record, item.seq, old.result, old.result_seq)
        elif isinstance(record, Result):
            old = found.get(record.step, Action())
            if item.seq > old.result_seq:
                found[record.step] = Action(old.effect, old.effect_seq, record, item.seq)
    return Actions({token: _without_void(action) for token, action in found.items()})


def _without_void(action: Action) -> Action:
    """Leave out a result that an effect record has made void.

    A doubt is void once the effect behind it was withdrawn or dispatched again. A failure is void once a later epoch
    was dispatched: it comes from an executor that was taken for dead, and says nothing of the later call.
    """
    effect, result = action.effect, action.result
    if effect is None or result is None or result.status is ResultStatus.SUCCEEDED:
        return action
    settled = result.status is ResultStatus.IN_DOUBT and action.effect_seq > action.result_seq
    return replace(action, result=None) if settled or result.epoch < effect.epoch else action


def next_move(plan: Plan, actions: Actions, notices: Iterable[Notice] = ()) -> Move:
    """The one thing to do now.

    Notices come when the steps leave nothing to do: neither the work nor its undoing waits for whoever is told.
    """
    move = _next_of_steps(plan, actions)
    if isinstance(move, Dispatch | Recover):
        return move
    unmet: list[str] = []
    for notice in notices:
        if not actions.get(notice.step).ended(ResultStatus.SUCCEEDED):
            continue
        action = actions.get(notice.token)
        if action.ended(ResultStatus.FAILED):
            assert action.result is not None
            unmet.append(f"{notice.who} was not told of step {notice.step}: {action.result.error}")
        elif not action.ended(ResultStatus.SUCCEEDED):
            return _act(notice.token, notice.call, notice.key, action)
    return replace(move, unmet=tuple(unmet)) if isinstance(move, Finish) else move


def _next_of_steps(plan: Plan, actions: Actions) -> Move:
    dead: set[str] = set()
    for step in plan.steps:
        action = actions.get(step.id)
        if action.ended(ResultStatus.SUCCEEDED):
            continue
        if action.ended(ResultStatus.IN_DOUBT):
            return AskPerson(step.id)
        failed = action.ended(ResultStatus.FAILED)
        orphaned = not failed and action.effect is None and bool(dead.intersection(step.needs))
        if failed or orphaned:
            if not step.optional:
                return _compensate(plan, actions, step)
            dead.add(step.id)
            continue
        return _act(step.id, step.call, step.effect_key, action)
    return Finish()


def _compensate(plan: Plan, actions: Actions, failed: Step) -> Move:
    """Undo, in reverse order, what succeeded before the step that failed."""
    reason = _reason(actions.get(failed.id), failed)
    undone: list[str] = []
    left: list[str] = []
    for step in reversed(plan.steps):
        if not actions.get(step.id).ended(ResultStatus.SUCCEEDED):
            continue
        if step.compensation is None:
            left.append(step.id)
            continue
        token = step.id + UNDO
        action = actions.get(token)
        if action.ended(ResultStatus.SUCCEEDED):
            undone.append(step.id)
        elif action.ended(ResultStatus.FAILED):
            left.append(step.id)
        elif action.ended(ResultStatus.IN_DOUBT):
            return AskPerson(token)
        else:
            return _act(token, step.compensation, step.effect_key + UNDO, action)
    return Finish(failed.id, reason, tuple(undone), tuple(left))


def _act(token: str, call: Call, key: str, action: Action) -> Move:
    if action.in_flight:
        assert action.effect is not None
        return Recover(token, call, action.effect, action.effect_seq)
    return Dispatch(token, call, key, action.epoch + 1, action.effect_seq)


def _reason(action: Action, step: Step) -> str:
    if action.result is None:
        return f"step {step.id} needs a step that failed"
    return f"step {step.id} ({step.call.tool}) failed: {action.result.error or action.result.code}"
