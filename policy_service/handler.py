"""The policy stage: a plan in; a decision out, and the outcome when it ends there."""

from collections.abc import Mapping
from typing import Any

import structlog

from mesh import subjects, tracing
from mesh.errors import RetryableError, TerminalError
from mesh.halts import Halts
from mesh.identity import Identity
from mesh.journal import Journal, Stored, Write
from mesh.outcomes import outcome
from mesh.pack import Pack
from mesh.records import Context, OutcomeStatus, Phase, Plan, Verdict
from mesh.runtime import Outputs, Work
from mesh.settings import PolicySettings
from policy_service.deciding import decide, read_sheets, weigh
from policy_service.live import LiveBundles

log = structlog.get_logger(__name__)

_LOOKS = 5  # a replica of the journal can lag behind the plan, but not for seconds


class PolicyStage:
    """Decides on each plan once."""

    def __init__(
        self,
        journal: Journal,
        bundles: LiveBundles,
        packs: Mapping[str, Pack],
        systems: Mapping[str, Mapping[str, Any]],
        signer: Identity,
        settings: PolicySettings,
        halts: Halts,
    ) -> None:
        self._journal = journal
        self._bundles = bundles
        self._packs = packs
        self._systems = systems
        self._signer = signer
        self._settings = settings
        self._halts = halts

    async def decide(self, work: Work) -> Outputs:
        """The handler of the policy stage."""
        plan = work.record()
        if not isinstance(plan, Plan):
            raise TerminalError(f"{work.subject} at {work.seq} is a {plan.kind}, not a plan")
        head = plan.header
        tools = [step.call.tool for step in plan.steps]
        self._halts.require(head.domain, tools=tools, agents=(head.writer, work.writer))
        context = await self._context(work, plan)
        items = [context, Stored(work.seq, work.subject, plan.header.at, plan)]
        trace = tracing.child(head.traceparent, "decision")
        header = work.header(head.task_id, head.domain, trace)
        if plan.refusal:
            return (Write(outcome(header, OutcomeStatus.REFUSED, items, reason=plan.refusal)),)
        pack = self._packs.get(head.domain)
        if pack is None:
            raise TerminalError(f"this policy service has no pack {head.domain!r}: install it and release the record")
        assert isinstance(context.record, Context)
        sheets = await read_sheets(pack, self._systems[head.domain], context.record, plan)
        bundle = await self._bundles.current(head.domain)
        said = weigh(bundle, context.record, plan, sheets, frozenset())
        decision = decide(
            header, Phase.PROPOSE, plan, bundle, sheets, said, signer=self._signer, settings=self._settings
        )
        # Facts and policies took their time: a halt since then holds the decision too.
        self._halts.require(head.domain, tools=tools, agents=(head.writer, work.writer))
        log.debug("plan_decided", task_id=head.task_id, verdict=said.verdict, reason=said.reason)
        if said.verdict is Verdict.DENY:
            return (Write(decision), Write(outcome(header, OutcomeStatus.DENIED, items, reason=said.reason)))
        return (Write(decision),)

    async def _context(self, work: Work, plan: Plan) -> Stored:
        head = plan.header
        subject = subjects.record("context", head.domain, head.task_id, "-")
        item = await self._journal.record(subject)
        if item is not None:
            return item
        if work.attempt < _LOOKS:
            raise RetryableError(f"the journal does not show {subject} yet")
        raise TerminalError(f"there is no {subject}: a plan of no event")
