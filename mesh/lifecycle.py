"""The lifecycles of task, action and approval: a state set and one transition table each (DESIGN 3).

The rule: an illegal step raises and changes nothing. The diagrams in the docs are generated from these tables.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Generic, TypeVar

from mesh.errors import TerminalError

S = TypeVar("S", bound=StrEnum)
T = TypeVar("T", bound=StrEnum)


class IllegalTransitionError(TerminalError):
    """The lifecycle has no such step from this state."""


class Lifecycle(Generic[S, T]):
    """A transition table: ``(state, trigger) -> state``; the first state named is the initial one."""

    def __init__(self, name: str, initial: S, table: Mapping[tuple[S, T], S]) -> None:
        self.name = name
        self.initial = initial
        self.table = dict(table)

    def step(self, state: S, trigger: T) -> S:
        """The state after ``trigger``; raises ``IllegalTransitionError`` when the table has no such row."""
        try:
            return self.table[state, trigger]
        except KeyError:
            raise IllegalTransitionError(f"a {self.name} that is {state} cannot take {trigger}") from None

    def is_final(self, state: S) -> bool:
        """Whether nothing leads on from this state."""
        return not any(source is state for source, _ in self.table)

    def mermaid(self) -> str:
        """The table as a Mermaid state diagram."""
        rows = [f"    [*] --> {self.initial}"]
        rows += [f"    {source} --> {target}: {trigger}" for (source, trigger), target in self.table.items()]
        rows += [f"    {state} --> [*]" for state in dict.fromkeys(self.table.values()) if self.is_final(state)]
        return "stateDiagram-v2\n" + "\n".join(rows)


class TaskState(StrEnum):
    """Where a task stands."""

    ACCEPTED = "accepted"
    PERCEIVED = "perceived"
    ASKING = "asking"
    PLANNED = "planned"
    WAITING = "waiting"
    PERMITTED = "permitted"
    ACTING = "acting"
    IN_DOUBT = "in_doubt"
    COMPENSATING = "compensating"
    COMPLETED = "completed"
    REFUSED = "refused"
    DENIED = "denied"
    FAILED = "failed"
    COMPENSATED = "compensated"
    EXPIRED = "expired"
    OBSERVED = "observed"


class TaskTrigger(StrEnum):
    """What moves a task on: the records of the journal, in past participles."""

    CONTEXT_WRITTEN = "context_written"
    PROMPT_WRITTEN = "prompt_written"
    PLAN_WRITTEN = "plan_written"
    APPROVAL_ASKED = "approval_asked"
    PERMIT_GIVEN = "permit_given"
    EFFECT_WRITTEN = "effect_written"
    DOUBT_RAISED = "doubt_raised"
    DOUBT_SETTLED = "doubt_settled"
    STEP_FAILED = "step_failed"
    TASK_COMPLETED = "task_completed"
    TASK_REFUSED = "task_refused"
    TASK_DENIED = "task_denied"
    TASK_FAILED = "task_failed"
    TASK_COMPENSATED = "task_compensated"
    TASK_EXPIRED = "task_expired"
    TASK_OBSERVED = "task_observed"
    PLAN_CORRECTED = "plan_corrected"
    PLAN_VOIDED = "plan_voided"


_T, _E = TaskState, TaskTrigger
TASK: Lifecycle[TaskState, TaskTrigger] = Lifecycle(
    "task",
    _T.ACCEPTED,
    {
        (_T.ACCEPTED, _E.CONTEXT_WRITTEN): _T.PERCEIVED,
        (_T.PERCEIVED, _E.PLAN_WRITTEN): _T.PLANNED,
        (_T.PERCEIVED, _E.TASK_FAILED): _T.FAILED,
        (_T.PERCEIVED, _E.PROMPT_WRITTEN): _T.ASKING,
        (_T.ASKING, _E.PROMPT_WRITTEN): _T.ASKING,
        (_T.ASKING, _E.PLAN_WRITTEN): _T.PLANNED,
        (_T.ASKING, _E.TASK_FAILED): _T.FAILED,
        (_T.PLANNED, _E.TASK_REFUSED): _T.REFUSED,
        (_T.PLANNED, _E.TASK_DENIED): _T.DENIED,
        (_T.PLANNED, _E.TASK_FAILED): _T.FAILED,
        (_T.PLANNED, _E.TASK_OBSERVED): _T.OBSERVED,
        (_T.PLANNED, _E.PLAN_VOIDED): _T.PERCEIVED,
        (_T.PLANNED, _E.APPROVAL_ASKED): _T.WAITING,
        (_T.PLANNED, _E.PERMIT_GIVEN): _T.PERMITTED,
        (_T.WAITING, _E.PERMIT_GIVEN): _T.PERMITTED,
        (_T.WAITING, _E.PLAN_CORRECTED): _T.PLANNED,
        (_T.WAITING, _E.PLAN_VOIDED): _T.PERCEIVED,
        (_T.WAITING, _E.TASK_DENIED): _T.DENIED,
        (_T.WAITING, _E.TASK_EXPIRED): _T.EXPIRED,
        (_T.PERMITTED, _E.EFFECT_WRITTEN): _T.ACTING,
        (_T.PERMITTED, _E.TASK_REFUSED): _T.REFUSED,
        (_T.PERMITTED, _E.TASK_EXPIRED): _T.EXPIRED,
        (_T.PERMITTED, _E.TASK_COMPLETED): _T.COMPLETED,
        (_T.ACTING, _E.EFFECT_WRITTEN): _T.ACTING,
        (_T.ACTING, _E.DOUBT_RAISED): _T.IN_DOUBT,
        (_T.ACTING, _E.STEP_FAILED): _T.COMPENSATING,
        (_T.ACTING, _E.TASK_COMPLETED): _T.COMPLETED,
        (_T.ACTING, _E.TASK_FAILED): _T.FAILED,
        (_T.IN_DOUBT, _E.DOUBT_SETTLED): _T.ACTING,
        (_T.COMPENSATING, _E.EFFECT_WRITTEN): _T.COMPENSATING,
        (_T.COMPENSATING, _E.TASK_COMPENSATED): _T.COMPENSATED,
        (_T.COMPENSATING, _E.TASK_FAILED): _T.FAILED,
    },
)


class ActionState(StrEnum):
    """Where one step's effect stands."""

    PENDING = "pending"
    DISPATCHED = "dispatched"
    IN_DOUBT = "in_doubt"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    COMPENSATED = "compensated"


class ActionTrigger(StrEnum):
    """What moves an effect on."""

    EFFECT_COMMITTED = "effect_committed"
    EFFECT_WITHDRAWN = "effect_withdrawn"
    CALL_SUCCEEDED = "call_succeeded"
    CALL_FAILED = "call_failed"
    EXECUTOR_LOST = "executor_lost"
    COMPENSATION_SUCCEEDED = "compensation_succeeded"


_A, _B = ActionState, ActionTrigger
ACTION: Lifecycle[ActionState, ActionTrigger] = Lifecycle(
    "action",
    _A.PENDING,
    {
        (_A.PENDING, _B.EFFECT_COMMITTED): _A.DISPATCHED,
        (_A.DISPATCHED, _B.EFFECT_WITHDRAWN): _A.PENDING,
        (_A.DISPATCHED, _B.CALL_SUCCEEDED): _A.SUCCEEDED,
        (_A.DISPATCHED, _B.CALL_FAILED): _A.FAILED,
        (_A.DISPATCHED, _B.EXECUTOR_LOST): _A.IN_DOUBT,
        (_A.IN_DOUBT, _B.EFFECT_COMMITTED): _A.DISPATCHED,
        (_A.IN_DOUBT, _B.CALL_SUCCEEDED): _A.SUCCEEDED,
        (_A.IN_DOUBT, _B.CALL_FAILED): _A.FAILED,
        (_A.SUCCEEDED, _B.COMPENSATION_SUCCEEDED): _A.COMPENSATED,
    },
)


class ApprovalState(StrEnum):
    """Where a request for approval stands."""

    ASKED = "asked"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    VOID = "void"
    USED = "used"


class ApprovalTrigger(StrEnum):
    """What moves a request for approval on."""

    PERSON_APPROVED = "person_approved"
    PERSON_REJECTED = "person_rejected"
    TIME_PASSED = "time_passed"
    PLAN_CHANGED = "plan_changed"
    PERMIT_SIGNED = "permit_signed"


_P, _Q = ApprovalState, ApprovalTrigger
APPROVAL: Lifecycle[ApprovalState, ApprovalTrigger] = Lifecycle(
    "approval",
    _P.ASKED,
    {
        (_P.ASKED, _Q.PERSON_APPROVED): _P.APPROVED,
        (_P.ASKED, _Q.PERSON_REJECTED): _P.REJECTED,
        (_P.ASKED, _Q.TIME_PASSED): _P.EXPIRED,
        (_P.ASKED, _Q.PLAN_CHANGED): _P.VOID,
        (_P.APPROVED, _Q.PLAN_CHANGED): _P.VOID,
        (_P.APPROVED, _Q.TIME_PASSED): _P.EXPIRED,
        (_P.APPROVED, _Q.PERMIT_SIGNED): _P.USED,
    },
)
