"""A task as the executor holds it: what the journal says of it, and the writes that wait for the next commit."""

from collections.abc import Sequence
from typing import TypeVar

from agents.executor.duties import Duties
from agents.executor.protocol import Actions, actions_of
from mesh import subjects, tracing
from mesh.clock import now
from mesh.errors import TerminalError
from mesh.journal import Stored, Write
from mesh.plans import plans_of
from mesh.records import (
    Causation,
    Context,
    Decision,
    Effect,
    Header,
    Outcome,
    Permit,
    Plan,
    Result,
)

T = TypeVar("T")


class Task:
    """One task under one permit."""

    permit: Permit
    duties: Duties

    def __init__(self, items: Sequence[Stored], decision: Stored, writer: str) -> None:
        """``decision`` is what the task is carried out under; raises ``TerminalError`` when the journal lacks the plan.

        The outcome of a task counts whatever decision it is under.
        """
        assert isinstance(decision.record, Decision)
        self.items = list(items)
        self.decision_item = decision
        self.decision: Decision = decision.record
        self.context = self._one(Context)
        self.plan = self._plan(self.decision.revision)
        self._writer = writer
        self._waiting: list[Write] = []

    @property
    def id(self) -> str:
        """The task's id."""
        return self.decision.header.task_id

    @property
    def outcome(self) -> Outcome | None:
        """How it ended, if it has."""
        return next((item.record for item in self.items if isinstance(item.record, Outcome)), None)

    @property
    def has_ended(self) -> bool:
        """Whether it has ended under this very decision."""
        ending = self.outcome
        return ending is not None and ending.header.causation == self._cause

    def effects(self) -> list[Effect]:
        """Its effects under a permit, the last of each step."""
        return [item.record for item in self.items if isinstance(item.record, Effect) and item.record.permit]

    def actions(self) -> Actions:
        """What has been said of its actions, with what waits to be committed."""
        return actions_of(self.items)

    def header(self, name: str) -> Header:
        """The header of a record that the decision causes."""
        head = self.decision.header
        return Header(
            task_id=head.task_id,
            domain=head.domain,
            causation=self._cause,
            writer=self._writer,
            at=now(),
            traceparent=tracing.child(head.traceparent, name),
        )

    def saw(self, record: Effect | Result, seq: int) -> None:
        """Take in a record that this process has committed."""
        self.items.append(Stored(seq, subjects.of(record), record.header.at, record))

    def wait_with(self, write: Write) -> None:
        """Have a result, or the closing of an effect, committed with what follows; it counts from now on."""
        self._waiting.append(write)
        assert isinstance(write.record, Result | Effect)
        self.saw(write.record, max((item.seq for item in self.items), default=0) + 1)

    def take_waiting(self) -> list[Write]:
        """What waits, to be committed now."""
        waiting, self._waiting = self._waiting, []
        return waiting

    @property
    def _cause(self) -> Causation:
        item = self.decision_item
        return Causation(stream=subjects.JOURNAL, subject=item.subject, seq=item.seq)

    def _plan(self, revision: int) -> Plan:
        """The plan that was decided on: the planner's own, or a person's correction of it."""
        for plan in plans_of(self.items):
            if plan.revision == revision:
                return plan
        raise TerminalError(f"the journal has no plan of revision {revision} of this task: its retention is too short")

    def _one(self, kind: type[T]) -> T:
        for item in self.items:
            if isinstance(item.record, kind):
                return item.record
        raise TerminalError(f"the journal has no {kind.__name__.lower()} of this task: its retention is too short")
