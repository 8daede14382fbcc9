"""Finding what to propose: where tasks come to nothing and a pack declares another way, that is tried in shadow.

The rule: only what a pack declares is tried, and proposed only when no completed task would be lost and chance does not
explain the gain. Nothing that an event, a comment or a correction says in words is read here.
"""

from collections.abc import Iterator, Mapping

import structlog

from agents.learner.book import Book, Ending
from agents.learner.proposals import Proposals
from agents.learner.shadow import BAD, Shadow
from agents.learner.watching import watched, worsened
from mesh import metrics, service
from mesh.approvals import Nothing
from mesh.autonomy import Stage, StageLine
from mesh.bus import Bus
from mesh.clock import now
from mesh.control import Standing
from mesh.errors import BusUnavailableError
from mesh.learned import (
    PLANNED,
    ChangeKind,
    Count,
    LearnedAct,
    LearnedChange,
    Proposal,
    ProposalState,
    ShadowReport,
    Value,
    Watched,
)
from mesh.parameters import Declared
from mesh.settings import LearnerSettings

log = structlog.get_logger(__name__)

_BAD_MIN = 5  # fewer cannot convince: five better ones of five are p = 0.03 in the sign test
_RECORDS = 10


class Learning:
    """Looks at the past tasks: proposes, watches, takes back."""

    def __init__(
        self,
        bus: Bus,
        book: Book,
        shadow: Shadow,
        proposals: Proposals,
        declared: Mapping[str, Mapping[str, Declared]],
        settings: LearnerSettings,
    ) -> None:
        self._bus = bus
        self._book = book
        self._shadow = shadow
        self._proposals = proposals
        self._declared = declared
        self._settings = settings
        self._seen: dict[tuple[str, str], int] = {}
        self._seq = -1

    async def look(self) -> None:
        """One look: what stands, what has worsened, what could be better, who could do more by itself."""
        await self._proposals.settle()
        if self._book.seq == self._seq:
            return
        self._seq = self._book.seq
        await self.take_back()
        for domain, declared in self._declared.items():
            for base in declared.values():
                if not base.variant_of:
                    await self._look_at(domain, base)
        await self._look_at_stages()

    def watch(self, standing: Standing[LearnedAct]) -> tuple[Watched, ...]:
        """The measures of the tasks of a playbook's family before a change and since, the last of each."""
        change = standing.act.change
        family, limit = self._family(change.domain, change.target), self._settings.tasks
        before = self._book.last(change.domain, family, limit, before=standing.seq)
        later = (end for end in self._book.last(change.domain, family, limit) if end.seq > standing.seq)
        is_under = (end for end in later if change.value is None or standing.act.proposal in end.learned)
        return watched(before, tuple(is_under))

    async def take_back(self) -> None:
        """Take back each change since which a measure has worsened."""
        for item in self._proposals.in_force():
            if item.act.back:
                continue
            if why := worsened(self.watch(item), self._settings.roll_back_below):
                log.error("learned_change_taken_back", proposal=item.act.proposal, why=why)
                await self._proposals.roll_back(self._proposals.find(item.act.proposal).act, f"it has worsened: {why}")
                metrics.LEARNED_ROLLBACKS.inc()

    async def _look_at(self, domain: str, base: Declared) -> None:
        """Try what is declared beside a playbook, when enough has come to nothing since the last time."""
        family = self._family(domain, base.name)
        choice = LearnedChange(kind=ChangeKind.CHOICE, domain=domain, target=base.name)
        chosen = self._proposals.value(choice)
        current = self._declared[domain].get(chosen if isinstance(chosen, str) else base.name, base)
        changes = list(self._candidates(domain, base, current, family))
        if not changes:
            return
        endings = self._book.last(domain, (current.name,), self._settings.tasks)
        bad = [end for end in endings if end.status in BAD and end.seq > self._seen.get((domain, base.name), 0)]
        if len(bad) < _BAD_MIN:
            return
        self._seen[domain, base.name] = bad[0].seq
        await self._try(changes, endings)

    def _candidates(
        self, domain: str, base: Declared, current: Declared, family: tuple[str, ...]
    ) -> Iterator[LearnedChange]:
        choice = LearnedChange(kind=ChangeKind.CHOICE, domain=domain, target=base.name)
        for name in family:
            if name != current.name:
                yield self._change(choice, None if name == base.name else name)
        for name, parameter in current.parameters.items():
            threshold = LearnedChange(kind=ChangeKind.THRESHOLD, domain=domain, target=current.name, parameter=name)
            now_ = self._proposals.value(threshold)
            for value in parameter.candidates():
                if value != (parameter.default if now_ is None else now_):
                    yield self._change(threshold, value)

    def _change(self, of: LearnedChange, value: Value) -> LearnedChange:
        before = self._proposals.value(of)
        return LearnedChange(
            kind=of.kind, domain=of.domain, target=of.target, parameter=of.parameter, before=before, value=value
        )

    async def _try(self, changes: list[LearnedChange], endings: list[Ending]) -> None:
        """Propose the change with the greatest gain, if there is one that convinces."""
        best: tuple[LearnedChange, ShadowReport, list[Ending]] | None = None
        for change in changes:
            if self._proposals.is_open(change):
                continue
            new = [end for end in endings if end.seq > self._proposals.closed_at(change)]
            if sum(end.status in BAD for end in new) < _BAD_MIN:
                continue
            report = await self._shadow.report(change, new, self._proposals.uses(change.domain))
            log.info("shadow_run", change=change.sentence(), better=report.better, worse=report.worse, p=report.p)
            convinces = report.worse == 0 and report.p <= self._settings.propose_below
            if convinces and (best is None or report.better > best[1].better):
                best = change, report, new
        if best is not None:
            await self._proposals.propose(proposal_of(*best, version=self._version(best[0])))

    def _version(self, change: LearnedChange) -> int:
        target = (change.kind, change.domain, change.target, change.parameter)
        past = [item.act.proposal.change for item in self._proposals.standing()]
        return 1 + sum((each.kind, each.domain, each.target, each.parameter) == target for each in past)

    def _family(self, domain: str, target: str) -> tuple[str, ...]:
        declared = self._declared.get(domain, {})
        name = declared[target].family if target in declared else target
        return tuple(book.name for book in declared.values() if book.family == name) or (target,)

    async def _look_at_stages(self) -> None:
        """Show which tools have the evidence for the next stage; policy has the evidence, and changes the stage."""
        try:
            lines = await service.ask(self._bus, "policy", "stages", Nothing(), list[StageLine])
        except (BusUnavailableError, service.ServiceError) as error:
            log.debug("stages_not_known", error=str(error))
            return
        stages = {(line.domain, line.tool): line for line in lines}
        for item in self._proposals.standing():
            change = item.act.proposal.change
            if change.kind is not ChangeKind.AUTONOMY or item.act.state is not ProposalState.PROPOSED:
                continue
            line = stages.pop((change.domain, change.target), None)
            if line is None or line.stage != change.before or line.next_needs:
                why = f"it is {line.stage} now. {line.next_needs}" if line else "it is not staged any more"
                await self._proposals.withdraw(item.act, why.strip())
        for line in stages.values():
            proposal = _stage_proposal(line)
            if not line.next_needs and line.stage is not Stage.AUTONOMOUS and not self._was_rejected(proposal, line):
                await self._proposals.propose(proposal)

    def _was_rejected(self, proposal: Proposal, line: StageLine) -> bool:
        """Whether a person has said no to it since the tool has its stage."""
        return any(
            item.act.proposal.change == proposal.change
            and item.act.state is ProposalState.REJECTED
            and (line.since is None or item.stored_at > line.since)
            for item in self._proposals.standing()
        )


def proposal_of(change: LearnedChange, report: ShadowReport, endings: list[Ending], *, version: int) -> Proposal:
    """The proposal that a shadow speaks for."""
    assert change.kind in PLANNED
    bad = [end for end in endings if end.status in BAD]
    counts = {"tasks": len(endings)} | {status: sum(end.status is status for end in endings) for status in BAD}
    return Proposal(
        change=change,
        why=f"{len(bad)} of the last {len(endings)} tasks of {endings[0].playbook} were planned in vain",
        gain=f"{report.better} of {report.tasks} tasks would not have been planned in vain; no completed one is lost",
        evidence=tuple(Count(name=str(name), value=value) for name, value in counts.items()),
        records=tuple(end.subject for end in bad[:_RECORDS]),
        made_at=now(),
        version=version,
        shadow=report,
    )


def _stage_proposal(line: StageLine) -> Proposal:
    evidence = line.evidence
    change = LearnedChange(
        kind=ChangeKind.AUTONOMY,
        domain=line.domain,
        target=line.tool,
        before=str(line.stage),
        value=str(line.stage.above()),
    )
    return Proposal(
        change=change,
        why=evidence.sentence(),
        gain="fewer plans wait for a person",
        evidence=(
            Count(name="tasks", value=evidence.tasks),
            Count(name="errors", value=evidence.errors),
            Count(name="overrides", value=evidence.overrides),
        ),
        records=(),
        made_at=now(),
        version=1,
    )
