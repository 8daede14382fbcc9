"""What a candidate bundle would have decided otherwise, of the journal's past decisions, and the money at stake.

The rule: only verdicts are compared, step by step. Reasons may be reworded; what would have been done differs or not.
"""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from mesh import records, subjects
from mesh.bus import Bus, StoredMessage
from mesh.records import AnyRecord, Struct
from policy_service.again import Past, pasts
from policy_service.bundle import Bundle

EXAMPLES = 3
# Context, plans and words of each task in one question; the server answers with at most 1,024 subjects.
_TASKS_AT_ONCE = 64
_KINDS = ("context", "plan", "approval")
WHOLE_PLAN = "(the plan)"


class Money(Struct, frozen=True, kw_only=True):
    """An amount, in minor units."""

    amount: int
    currency: str


class ChangeGroup(Struct, frozen=True, kw_only=True):
    """Steps whose verdict changes in the same way, by the same policies."""

    tool: str
    phase: str
    before: str
    after: str
    policies_before: tuple[str, ...]
    policies_after: tuple[str, ...]
    reason_after: str
    count: int
    at_stake: tuple[Money, ...]
    examples: tuple[str, ...]


class DiffReport(Struct, frozen=True, kw_only=True):
    """What a candidate would change. ``decisions`` were decided again; ``changed`` and ``stayed`` count their steps.

    ``undecided`` are decisions that people or time made, which no bundle makes otherwise.
    """

    domain: str
    candidate: str
    decisions: int
    undecided: int
    stayed: int
    changed: int
    groups: tuple[ChangeGroup, ...] = ()


@dataclass(slots=True)
class _Group:
    count: int = 0
    reason: str = ""
    money: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)


_Key = tuple[str, str, str, str, tuple[str, ...], tuple[str, ...]]


class Comparison:
    """Takes past decisions in, and tells what the candidate would have changed."""

    def __init__(self, candidate: Bundle) -> None:
        self._candidate = candidate
        self._groups: dict[_Key, _Group] = {}
        self.decisions = 0
        self.undecided = 0
        self.stayed = 0
        self.changed = 0

    def take(self, past: Past) -> None:
        """Decide again under the candidate, and compare."""
        self.decisions += 1
        said, decision = past.again(self._candidate), past.decision
        if not decision.steps or not said.steps:
            self._compare(past, WHOLE_PLAN, decision.verdict, said.verdict, (), (), said.reason, decision.sheets)
            return
        tools = {step.id: step.call.tool for step in past.plan.steps}
        after = {step.step: step for step in said.steps}
        for before in decision.steps:
            step = after[before.step]
            reason = step.reasons[0] if step.reasons else ""
            sheets = [sheet for sheet in decision.sheets if sheet.step == before.step]
            self._compare(
                past,
                tools.get(before.step, WHOLE_PLAN),
                before.verdict,
                step.verdict,
                before.policies,
                step.policies,
                reason,
                sheets,
            )

    def report(self) -> DiffReport:
        """What there is so far; the groups with the most steps first."""
        groups = [_group(key, found) for key, found in self._groups.items()]
        return DiffReport(
            domain=self._candidate.domain,
            candidate=self._candidate.digest,
            decisions=self.decisions,
            undecided=self.undecided,
            stayed=self.stayed,
            changed=self.changed,
            groups=tuple(sorted(groups, key=lambda group: (-group.count, group.tool))),
        )

    def _compare(
        self,
        past: Past,
        tool: str,
        before: str,
        after: str,
        policies_before: tuple[str, ...],
        policies_after: tuple[str, ...],
        reason: str,
        sheets: Iterable[records.FactSheet],
    ) -> None:
        if before == after:
            self.stayed += 1
            return
        self.changed += 1
        key = (tool, str(past.decision.phase), str(before), str(after), policies_before, policies_after)
        group = self._groups.setdefault(key, _Group(reason=reason))
        group.count += 1
        for sheet in sheets:
            group.money[sheet.currency] = group.money.get(sheet.currency, 0) + abs(sheet.amount)
        if len(group.examples) < EXAMPLES:
            group.examples.append(past.context.header.task_id)


def _group(key: _Key, found: _Group) -> ChangeGroup:
    tool, phase, before, after, policies_before, policies_after = key
    return ChangeGroup(
        tool=tool,
        phase=phase,
        before=before,
        after=after,
        policies_before=policies_before,
        policies_after=policies_after,
        reason_after=found.reason,
        count=found.count,
        at_stake=tuple(Money(amount=amount, currency=name) for name, amount in sorted(found.money.items()) if amount),
        examples=tuple(found.examples),
    )


async def past_decisions(bus: Bus, domain: str, since: datetime | None = None) -> AsyncIterator[tuple[int, list[Past]]]:
    """The past decisions of a domain, page by page: how many records, and those of them that policy made on facts."""
    flt = f"task.decision.{domain}.>"
    start = 1
    if since is not None:
        first = await bus.first_since(subjects.JOURNAL, since, flt)
        if first is None:
            return
        start = first.seq
    while page := await bus.read(subjects.JOURNAL, start, _TASKS_AT_ONCE, flt):
        start = page[-1].seq + 1
        yield len(page), await _page(bus, domain, page)


async def _page(bus: Bus, domain: str, page: list[StoredMessage]) -> list[Past]:
    tasks = dict.fromkeys(message.subject.split(".")[3] for message in page)
    filters = [f"task.{kind}.{domain}.{task}.*" for task in tasks for kind in _KINDS]
    around = await bus.last_of_each(subjects.JOURNAL, filters)
    by_task: dict[str, list[tuple[int, AnyRecord]]] = {task: [] for task in tasks}
    for message in (*around, *page):
        try:
            record = records.decode(message.data)
        except ValueError:
            continue  # a corrupt record is dead-lettered by its stage
        by_task[message.subject.split(".")[3]].append((message.seq, record))
    found: list[Past] = []
    for items in by_task.values():
        ordered = sorted(items, key=lambda item: item[0])
        found += pasts(record for _, record in ordered)
    return found
