"""What has come of each published line so far, read from the streams alone."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from console.publish import Published
from mesh import quarantine, records, subjects
from mesh.bus import Bus
from mesh.quarantine import Reason
from mesh.records import Completion, Context, Decision, Outcome, OutcomeStatus, Phase, Usage, Verdict

OUTCOMES = (
    "completed",
    "refused",
    "denied",
    "rejected",
    "duplicate",
    "conflict",
    "waiting",
    "failed",
    "compensated",
)
_KINDS = ("context", "completion", "decision", "outcome")
_OF_REASON = {Reason.CONFLICT: "conflict", Reason.MALFORMED: "rejected", Reason.UNKNOWN_TYPE: "rejected"}


class LineOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one line of the input. ``amount`` is in units (354.49): moved, or at stake while it waits."""

    id: str
    task_id: str
    outcome: str
    reason: str
    amount: float


@dataclass(slots=True)
class Ledger:
    """A fold of ``JOURNAL`` and ``QUARANTINE``, by the sequence that each event has in ``EVENTS``."""

    bus: Bus
    task_of: dict[int, str] = field(default_factory=dict)
    contexts: dict[str, Context] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    waits: dict[str, Decision] = field(default_factory=dict)
    quarantined: dict[int, quarantine.Quarantined] = field(default_factory=dict)
    dead: dict[str, str] = field(default_factory=dict)
    usage: list[Usage] = field(default_factory=list)
    _read: dict[str, int] = field(default_factory=dict)

    async def skip(self) -> None:
        """Pass over all that is there already: what came of earlier runs is no part of this one."""
        follows = [(subjects.JOURNAL, subjects.kind(kind)) for kind in _KINDS]
        for stream, subject in (*follows, (subjects.QUARANTINE, "quarantine.>")):
            last = await self.bus.last(stream, subject)
            self._read[subject] = last.seq if last else 0

    async def catch_up(self) -> None:
        """Read what is new."""
        for kind in _KINDS:
            await self._follow(subjects.JOURNAL, subjects.kind(kind))
        await self._follow(subjects.QUARANTINE, "quarantine.>")

    def ended(self) -> list[tuple[Context, Outcome]]:
        """What the tasks that have ended came from, and how."""
        known = ((self.contexts.get(task), outcome) for task, outcome in self.outcomes.items())
        return [(context, outcome) for context, outcome in known if context is not None]

    def settled(self, line: Published) -> bool:
        """Whether the line has come to something that is not about to change."""
        task = self.task_of.get(line.seq)
        if task is None:
            return line.seq in self.quarantined
        return task in self.outcomes or task in self.waits or task in self.dead

    def of(self, line: Published) -> LineOutcome | None:
        """What came of the line; ``None`` when neither journal nor quarantine knows it (a duplicate, or lost)."""
        task = self.task_of.get(line.seq)
        if task is not None:
            return self._of_task(line, task)
        item = self.quarantined.get(line.seq)
        if item is None:
            return None
        return _line(line, _OF_REASON.get(item.reason, "failed"), item.detail)

    def _of_task(self, line: Published, task: str) -> LineOutcome | None:
        outcome = self.outcomes.get(task)
        if outcome is not None:
            expired = outcome.status is OutcomeStatus.EXPIRED
            return _line(line, "denied" if expired else outcome.status, outcome.reason, outcome.amount)
        if task in self.waits:
            decision = self.waits[task]
            return _line(line, "waiting", decision.reason, sum(sheet.amount for sheet in decision.sheets))
        if task in self.dead:
            return _line(line, "failed", f"in quarantine: {self.dead[task]}")
        return None

    async def _follow(self, stream: str, subject: str) -> None:
        while page := await self.bus.read(stream, self._read.get(subject, 0) + 1, 256, subject):
            for message in page:
                self._take(message.subject, message.data)
            self._read[subject] = page[-1].seq

    def _take(self, subject: str, data: bytes) -> None:
        if subject.startswith("quarantine."):
            if subject.startswith("quarantine.released."):
                return
            item = msgspec.json.decode(data, type=quarantine.Quarantined)
            if item.stream == subjects.EVENTS:
                self.quarantined[item.seq] = item
            elif item.reason is Reason.DEAD_LETTER:
                self.dead[item.subject.split(".")[3]] = item.detail
            return
        match records.decode(data):
            case Context(header=head, event=event) as context:
                self.task_of[event.seq] = head.task_id
                self.contexts[head.task_id] = context
            case Completion(usage=usage):
                self.usage += usage
            case Decision(header=head, phase=Phase.PROPOSE, verdict=Verdict.NEEDS_APPROVAL) as decision:
                self.waits[head.task_id] = decision
            case Decision(header=head, phase=Phase.EXECUTE):
                self.waits.pop(head.task_id, None)
            case Outcome(header=head) as outcome:
                self.outcomes[head.task_id] = outcome


def collect(ledger: Ledger, lines: Iterable[Published]) -> tuple[list[LineOutcome], list[Published]]:
    """What came of each line, in order, and the lines of which nothing is known: lost.

    A line that perception has acknowledged, and that is in no stream but ``EVENTS``, is a duplicate if the same task
    was accepted from an earlier line.
    """
    found: list[LineOutcome] = []
    lost: list[Published] = []
    accepted = set(ledger.task_of.values())
    for line in lines:
        outcome = ledger.of(line)
        if outcome is None and line.seq not in ledger.task_of and line.task_id in accepted:
            outcome = _line(line, "duplicate", "the same event came before")
        if outcome is None:
            lost.append(line)
            outcome = _line(line, "lost", "nothing is known of it")
        found.append(outcome)
    return found, lost


def counts(outcomes: Iterable[LineOutcome]) -> dict[str, int]:
    """How many lines came to each outcome."""
    counted = Counter(line.outcome for line in outcomes)
    return {name: counted.get(name, 0) for name in OUTCOMES}


def _line(line: Published, outcome: str, reason: str = "", amount: int = 0) -> LineOutcome:
    return LineOutcome(id=line.id, task_id=line.task_id, outcome=outcome, reason=reason, amount=amount / 100)
