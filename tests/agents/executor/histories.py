"""Records of one task for tests of the executor's pure parts."""

from datetime import UTC, datetime, timedelta

import msgspec

from mesh import subjects
from mesh.canonical import effect_key
from mesh.journal import Stored
from mesh.plans import plan_digest
from mesh.records import AnyRecord, Call, Causation, Effect, Header, Plan, Result, ResultStatus, Step

TASK = "t1"
AT = datetime(2026, 1, 1, tzinfo=UTC)


def header() -> Header:
    """The header of a record of the task."""
    causation = Causation(stream="JOURNAL", subject=f"task.decision.till.{TASK}.-", seq=3)
    return Header(task_id=TASK, domain="till", causation=causation, writer="executor/1", at=AT)


def step(name: str, *needs: str, optional: bool = False, undo: bool = True) -> Step:
    """A step; with ``undo`` it can be compensated."""
    args = msgspec.Raw(b"{}")
    compensation = Call(tool="till.undo", args=args) if undo else None
    call = Call(tool="till.pay", args=args)
    return Step(
        id=name,
        call=call,
        effect_key=effect_key(TASK, name),
        needs=needs,
        optional=optional,
        compensation=compensation,
    )


def plan(*steps: Step) -> Plan:
    """A sound plan of these steps."""
    return Plan(header=header(), playbook="p", playbook_digest="", digest=plan_digest(TASK, "till", steps), steps=steps)


class History:
    """A journal of one task, in memory: the last record of each subject, in order."""

    def __init__(self) -> None:
        self.items: list[Stored] = []
        self._seq = 10

    def write(self, record: AnyRecord) -> int:
        """Append a record; its sequence."""
        self._seq += 1
        subject = subjects.of(record)
        self.items = [item for item in self.items if item.subject != subject]
        self.items.append(Stored(self._seq, subject, AT, record))
        return self._seq

    def effect(self, token: str, epoch: int = 1, *, withdrawn: bool = False) -> int:
        """An action is about to be dispatched, or was not sent."""
        return self.write(
            Effect(
                header=header(),
                step=token,
                tool="till.pay",
                key=effect_key(TASK, token),
                epoch=epoch,
                executor="executor/1",
                call_by=AT + timedelta(seconds=5),
                permit="permit",
                withdrawn=withdrawn,
            )
        )

    def result(self, token: str, status: ResultStatus, epoch: int = 1) -> int:
        """An action ended so."""
        return self.write(
            Result(
                header=header(),
                step=token,
                tool="till.pay",
                key=effect_key(TASK, token),
                epoch=epoch,
                status=status,
                error="because",
            )
        )
