"""The policy stage: a plan in; a decision out, and the outcome when it ends there."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import structlog

from mesh import subjects, tracing
from mesh.errors import RetryableError, TerminalError
from mesh.halts import Halts
from mesh.journal import Journal, Stored, Write
from mesh.outcomes import outcome
from mesh.plans import declared_void, plans_of
from mesh.records import Approval, Context, Decision, Header, LimitUse, OutcomeStatus, Phase, Plan, Verdict, Word
from mesh.runtime import Outputs, Work
from mesh.statements import open_word
from mesh.tools import Tool
from mesh.trust import TrustDirectory
from policy_service.bundle import Bundle
from policy_service.citing import Cited
from policy_service.correcting import corrected
from policy_service.deciding import Decider, Matter, agent_of
from policy_service.engine import Assessment
from policy_service.ledger import Draft, Ledger
from policy_service.live import LiveBundles
from policy_service.measuring import begin_words
from policy_service.shadow import Shadow
from policy_service.voiding import void_outputs

log = structlog.get_logger(__name__)

_LOOKS = 5  # a replica of the journal can lag behind the plan, but not for seconds


class PolicyStage:
    """Decides on each plan once."""

    def __init__(
        self,
        journal: Journal,
        bundles: LiveBundles,
        decider: Decider,
        ledger: Ledger,
        trust: TrustDirectory,
        tools: Mapping[str, Mapping[str, Tool]],
        halts: Halts,
        cited: Cited,
    ) -> None:
        self._journal = journal
        self._decider = decider
        self._ledger = ledger
        self._shadow = Shadow(bundles)
        self._trust = trust
        self._tools = tools
        self._halts = halts
        self._cited = cited

    async def decide(self, work: Work) -> Outputs:
        """The handler of the policy stage."""
        plan = work.record()
        if not isinstance(plan, Plan):
            raise TerminalError(f"{work.subject} at {work.seq} is a {plan.kind}, not a plan")
        head = plan.header
        called = [step.call.tool for step in plan.steps]
        self._halts.require(head.domain, tools=called, agents=(head.writer, work.writer))
        context_item = await self._context(work, plan)
        context = context_item.record
        assert isinstance(context, Context)
        before = await self._journal.task(head.task_id, head.domain) if plan.revision else [context_item]
        this = Stored(work.seq, work.subject, plan.header.at, plan)
        items = [*(item for item in before if item.seq != work.seq), this]
        header = work.header(head.task_id, head.domain, tracing.child(head.traceparent, "decision"))
        agent = self._agent(plan, before) if plan.revision else agent_of(plan)
        if plan.citations and (fallen := await self._cited.fallen(plan)) is not None:
            return void_outputs(await self._decider.void(context, plan, header, Phase.PROPOSE, fallen), items)
        if plan.refusal:
            return (Write(outcome(header, OutcomeStatus.REFUSED, items, reason=plan.refusal)),)
        matter = await self._decider.matter(context, plan, agent, header.at)
        # The facts took their time: a halt since then holds the decision too.
        self._halts.require(head.domain, tools=called, agents=(head.writer, work.writer))
        if takes := matter.takes():
            draft = await self._ledger.settle(takes, lambda uses: self._draft(matter, header, items, uses))
        else:
            draft = self._draft(matter, header, items, ())
        decision = draft.writes[0].record
        assert isinstance(decision, Decision)
        begin_words(plan, decision)
        await self._shadow.compare(decision, partial(_again, matter, decision))
        return () if takes else draft.writes

    def _draft(self, matter: Matter, header: Header, items: list[Stored], uses: tuple[LimitUse, ...]) -> Draft:
        said = matter.weigh(frozenset(), uses)
        decision = self._decider.decision(matter, header, Phase.PROPOSE, said, uses)
        log.debug("plan_decided", task_id=header.task_id, verdict=said.verdict, reason=said.reason)
        if said.verdict is Verdict.DENY:
            status = OutcomeStatus.OBSERVED if said.observed else OutcomeStatus.DENIED
            return Draft((Write(decision), Write(outcome(header, status, items, reason=said.reason))), takes=False)
        return Draft((Write(decision),), takes=said.verdict is Verdict.ALLOW)

    def _agent(self, plan: Plan, items: list[Stored]) -> str:
        """Which agent planned first, of a plan that takes the place of another.

        Raises ``TerminalError`` unless that other was declared void, or a person has signed this very correction of it.
        """
        head = plan.header
        found = plans_of(items)
        before = next((each for each in found if each.revision == plan.revision - 1), None)
        if plan.anew:
            if before is not None and declared_void(items, before) is not None:
                return agent_of(found[0])
            raise TerminalError(f"nobody declared the plan void that plan {plan.token} of task {head.task_id} replaces")
        words = [item.record for item in items if isinstance(item.record, Approval)]
        for word in words:
            if before is None or word.statement.word is not Word.CORRECT or word.statement.plan_digest != before.digest:
                continue
            said = open_word(word, self._trust)
            if corrected(before, said, head, self._tools.get(head.domain, {})).steps == plan.steps:
                return agent_of(found[0])
        raise TerminalError(f"revision {plan.revision} of the plan of task {head.task_id} is no person's correction")

    async def _context(self, work: Work, plan: Plan) -> Stored:
        head = plan.header
        subject = subjects.record("context", head.domain, head.task_id, "-")
        item = await self._journal.record(subject)
        if item is not None:
            return item
        if work.attempt < _LOOKS:
            raise RetryableError(f"the journal does not show {subject} yet")
        raise TerminalError(f"there is no {subject}: a plan of no event")


def _again(matter: Matter, decision: Decision, bundle: Bundle) -> Assessment:
    """What another bundle says of it, with what the decision took of limits over time."""
    return replace(matter, bundle=bundle).weigh(frozenset(), decision.limits)
