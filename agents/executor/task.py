"""A task as the executor holds it: what the journal says of it, and the writes that wait for the next commit."""

from collections.abc import Sequence
from typing import TypeVar

from agents.executor.protocol import Actions, actions_of
from mesh import subjects, tracing
from mesh.clock import now
from mesh.errors import RetryableError, TerminalError
from mesh.journal import Stored, Write
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
    Verdict,
)

T = TypeVar("T")


class Task:
    """One task under one permit."""

    permit: Permit

    def __init__(self, items: Sequence[Stored], writer: str) -> None:
        """Raises ``TerminalError`` when the journal lacks the plan or the decision."""
        self._items = list(items)
        self._writer = writer
        self._waiting: list[Write] = []
        self.context = self._one(Context)
        self.plan = self._one(Plan)
        self.decision_item = self._allowing()
        decision = self.decision_item.record
        assert isinstance(decision, Decision)
        self.decision: Decision = decision

    @property
    def id(self) -> str:
        """The task's id."""
        return self.decision.header.task_id

    @property
    def items(self) -> Sequence[Stored]:
        """All its records, as far as seen."""
        return self._items

    @property
    def outcome(self) -> Outcome | None:
        """How it ended, if it has."""
        return next((item.record for item in self._items if isinstance(item.record, Outcome)), None)

    def effects(self) -> list[Effect]:
        """Its effects, the last of each step."""
        return [item.record for item in self._items if isinstance(item.record, Effect)]

    def actions(self) -> Actions:
        """What has been said of its actions, with what waits to be committed."""
        return actions_of(self._items)

    def header(self, name: str) -> Header:
        """The header of a record that the decision causes."""
        head = self.decision.header
        return Header(
            task_id=head.task_id,
            domain=head.domain,
            causation=Causation(
                stream=subjects.JOURNAL, subject=self.decision_item.subject, seq=self.decision_item.seq
            ),
            writer=self._writer,
            at=now(),
            traceparent=tracing.child(head.traceparent, name),
        )

    def saw(self, record: Effect | Result, seq: int) -> None:
        """Take in a record that this process has committed."""
        self._items.append(Stored(seq, subjects.of(record), record.header.at, record))

    def wait_with(self, write: Write) -> None:
        """Have a result committed with what follows; it counts from now on."""
        self._waiting.append(write)
        assert isinstance(write.record, Result)
        self.saw(write.record, max((item.seq for item in self._items), default=0) + 1)

    def take_waiting(self) -> list[Write]:
        """What waits, to be committed now."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def _one(self, kind: type[T]) -> T:
        for item in self._items:
            if isinstance(item.record, kind):
                return item.record
        raise TerminalError(f"the journal has no {kind.__name__.lower()} of this task: its retention is too short")

    def _allowing(self) -> Stored:
        for item in reversed(self._items):
            if isinstance(item.record, Decision) and item.record.verdict is Verdict.ALLOW:
                return item
        raise RetryableError("the journal does not show the decision yet")
