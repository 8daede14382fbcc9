"""From a plan to a signed decision: reads the facts, asks the engine, signs what it says.

The rule: policy never trusts the planner about facts, and any failure to know is no permit.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec

from mesh import plans
from mesh.canonical import token
from mesh.errors import TerminalError
from mesh.identity import Identity
from mesh.link import Link
from mesh.pack import Pack, Sheet
from mesh.records import Context, Decision, FactSheet, Header, LimitUse, Permit, Phase, Plan, Verdict
from mesh.settings import PolicySettings
from mesh.signing import PERMIT_TYPE, sign
from policy_service.bundle import Bundle
from policy_service.citing import Fallen
from policy_service.demands import demanded, observed, of_limits, of_stages
from policy_service.engine import Assessment, Circumstances, Question, assess, questions
from policy_service.limits import LimitError, Take, takes
from policy_service.live import LiveBundles

Stages = Callable[[str, str], str]
"""The stage that was decided for a tool of a domain, or an empty string."""


@dataclass(frozen=True, slots=True)
class Matter:
    """What is decided on: a plan with the facts of its steps, under a bundle, in these circumstances."""

    context: Context
    plan: Plan
    sheets: Mapping[str, Sheet]
    bundle: Bundle
    around: Circumstances

    def takes(self) -> tuple[Take, ...]:
        """What it takes of the limits over time; nothing when that cannot be counted, for which weighing denies it."""
        try:
            return takes(self.bundle.governance.limits, self.plan, self.sheets, self.around.agent)
        except LimitError:
            return ()

    def questions(self) -> list[Question]:
        """Its steps as policy sees them."""
        return questions(self.bundle, self.context, self.plan, self.sheets, self.around)

    def weigh(self, approvals: frozenset[str], uses: tuple[LimitUse, ...] = ()) -> Assessment:
        """What policy says of it with these approvals."""
        return weigh(self.bundle, self.context, self.plan, self.sheets, approvals, self.around, uses)


class Decider:
    """Reads what a decision needs, and signs it."""

    def __init__(
        self,
        packs: Mapping[str, Pack],
        systems: Mapping[str, Mapping[str, Any]],
        bundles: LiveBundles,
        stages: Stages,
        signer: Identity,
        settings: PolicySettings,
        link: Link | None = None,
    ) -> None:
        self._packs = packs
        self._systems = systems
        self._bundles = bundles
        self._stages = stages
        self._signer = signer
        self._settings = settings
        self._link = link

    async def matter(self, context: Context, plan: Plan, agent: str, at: datetime) -> Matter:
        """The plan with its facts of now; raises ``TerminalError`` when there is no such pack here."""
        domain = plan.header.domain
        pack = self._packs.get(domain)
        if pack is None:
            raise TerminalError(f"this policy service has no pack {domain!r}: install it and release the record")
        is_small = len(plan.steps) <= plans.STEPS_MAX  # else it is denied, whatever the facts are
        sheets = await read_sheets(pack, self._systems[domain], context, plan) if is_small else {}
        bundle = await self._bundles.current(domain)
        around = Circumstances(
            at=at,
            agent=agent,
            stages=self._stages_of(bundle, plan),
            entity=context.entity,
            related=len(context.earlier),
            hub_silent_s=await self._link.silent_s(at) if self._link else None,
        )
        return Matter(context, plan, sheets, bundle, around)

    def decision(
        self,
        matter: Matter,
        header: Header,
        phase: Phase,
        said: Assessment,
        uses: tuple[LimitUse, ...] = (),
        approved_by: tuple[str, ...] = (),
    ) -> Decision:
        """The decision as a record, with the permit (or its refusal) signed."""
        plan, bundle, at = matter.plan, matter.bundle, header.at
        permit = Permit(
            id=token("permit", header.task_id, plan.digest, phase),
            task_id=header.task_id,
            domain=header.domain,
            plan_digest=plan.digest,
            verdict=said.verdict,
            steps=tuple(step.id for step in plan.steps),
            bundle=bundle.digest,
            approved_by=approved_by,
            issued_at=at,
            expires_at=at + timedelta(seconds=self._settings.permit_ttl_s),
            obligations=tuple(
                msgspec.structs.replace(obligation, step=step.step)
                for step in said.steps
                for obligation in step.obligations
            ),
        )
        waits = said.verdict is Verdict.NEEDS_APPROVAL
        return Decision(
            header=header,
            phase=phase,
            verdict=said.verdict,
            plan_digest=plan.digest,
            bundle=bundle.digest,
            steps=said.steps,
            sheets=tuple(fact_sheet(step, sheet) for step, sheet in matter.sheets.items()),
            reason=said.reason,
            approve_by=at + timedelta(seconds=self._settings.approval_ttl_s) if waits else None,
            signed=sign(permit, PERMIT_TYPE, self._signer),
            escalate_at=at + said.escalate_after if waits and said.escalate_after else None,
            limits=uses,
            revision=plan.revision,
            hub_silent_s=matter.around.hub_silent_s,
        )

    async def void(self, context: Context, plan: Plan, header: Header, phase: Phase, fallen: Fallen) -> Decision:
        """The decision that a plan is void, for facts that it cites have changed: nothing is read or weighed for it."""
        bundle = await self._bundles.current(plan.header.domain)
        matter = Matter(context, plan, {}, bundle, Circumstances(at=header.at, agent=agent_of(plan)))
        said = Assessment(verdict=Verdict.DENY, reason=fallen.reason)
        return msgspec.structs.replace(self.decision(matter, header, phase, said), void=fallen.facts)

    def _stages_of(self, bundle: Bundle, plan: Plan) -> dict[str, str]:
        autonomy = bundle.governance.autonomy
        if autonomy is None:
            return {}
        tools = {step.call.tool for step in plan.steps}
        return {tool: self._stages(plan.header.domain, tool) or str(autonomy.start) for tool in tools}


async def read_sheets(pack: Pack, systems: Mapping[str, Any], context: Context, plan: Plan) -> dict[str, Sheet]:
    """The facts of each step, read now from the system that owns them; raises ``RetryableError`` while it is away.

    The steps are asked about side by side, so that a pack can answer the same question once.
    """
    if len(plan.steps) == 1:
        return {plan.steps[0].id: await pack.facts(context, plan, plan.steps[0], systems)}
    sheets = await asyncio.gather(*(pack.facts(context, plan, step, systems) for step in plan.steps))
    return {step.id: sheet for step, sheet in zip(plan.steps, sheets, strict=True)}


def fact_sheet(step: str, sheet: Sheet) -> FactSheet:
    """What was read of a step, as it goes on record."""
    return FactSheet(
        step=step,
        facts=sheet.facts,
        amount=sheet.amount,
        currency=sheet.currency,
        parties=sheet.parties,
        source=sheet.source,
        confirmed=sheet.confirmed,
    )


def sheets_of(decision: Decision) -> dict[str, Sheet]:
    """What was read for a decision, from its record."""
    return {
        sheet.step: Sheet(
            facts=sheet.facts,
            amount=sheet.amount,
            currency=sheet.currency,
            parties=sheet.parties,
            source=sheet.source,
            confirmed=sheet.confirmed,
        )
        for sheet in decision.sheets
    }


def around_of(decision: Decision, context: Context, plan: Plan, agent: str) -> Circumstances:
    """The circumstances of a decision, from its record: for deciding again."""
    tools = {step.id: step.call.tool for step in plan.steps}
    stages = {tools[step.step]: step.stage for step in decision.steps if step.stage and step.step in tools}
    return Circumstances(
        at=decision.header.at,
        agent=agent,
        stages=stages,
        entity=context.entity,
        related=len(context.earlier),
        hub_silent_s=decision.hub_silent_s,
    )


def agent_of(plan: Plan) -> str:
    """Which agent wrote a plan: the role in its writer's name."""
    return plan.header.writer.partition("/")[0]


def weigh(
    bundle: Bundle,
    context: Context,
    plan: Plan,
    sheets: Mapping[str, Sheet],
    approvals: frozenset[str],
    around: Circumstances,
    uses: tuple[LimitUse, ...] = (),
) -> Assessment:
    """What policy says of a plan; an unsound plan is denied before any policy is asked.

    ``uses`` are what it takes of the limits over time, as they stand.
    """
    if found := plans.faults(plan):
        return Assessment(verdict=Verdict.DENY, reason="; ".join(found))
    try:
        takes(bundle.governance.limits, plan, sheets, around.agent)
    except LimitError as error:
        return Assessment(verdict=Verdict.DENY, reason=str(error))
    said = assess(bundle, context, plan, sheets, approvals, around)
    demands = [*of_stages(bundle, plan, said, sheets, around), *of_limits(bundle, plan, uses)]
    if demands:
        said = demanded(bundle, said, demands, approvals)
    return observed(bundle, plan, said, around)
