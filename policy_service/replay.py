"""Decides again from the journal alone: the recorded facts, under the recorded bundle and under the one in force."""

import msgspec

from mesh.plans import plans_of
from mesh.records import Approval, Context, Decision, Phase, Plan, Purpose, Statement, Word
from mesh.replay import Difference, Recorded, Replayed, compare
from policy_service.bundle import Bundle, BundleContents
from policy_service.deciding import agent_of, around_of, sheets_of, weigh
from policy_service.quorum import Voice, granted, joined


def replay(recorded: Recorded) -> Replayed:
    """What the decisions of a task would be now."""
    items = recorded.items
    context = next((item.record for item in items if isinstance(item.record, Context)), None)
    plans = {plan.revision: plan for plan in plans_of(items)}
    contents = [msgspec.json.decode(raw, type=BundleContents) for raw in recorded.bundles]
    if context is None or not plans or not contents:
        return Replayed(stage="policy", records=0)
    bundles = {each.digest: Bundle.load(each) for each in contents}
    agent = agent_of(plans[0]) if 0 in plans else ""
    words: list[Approval] = []
    first: dict[int, Decision] = {}
    differences: list[Difference] = []
    count = 0
    for item in items:
        match item.record:
            case Approval(statement=Statement(purpose=Purpose.PLAN, word=Word.APPROVE)) as word:
                words.append(word)
            case Decision(sheets=sheets) as decision if sheets:
                count += 1
                asked = first.setdefault(decision.revision, decision)
                roles = approvals_of(words, asked) if decision.phase is Phase.EXECUTE else frozenset[str]()
                for digest, bundle in bundles.items():
                    name = "as recorded" if digest == decision.bundle else f"under {digest[:19]}"
                    differences += _again(decision, context, plans[decision.revision], bundle, roles, name, agent)
    return Replayed(stage="policy", records=count, differences=tuple(differences))


def approvals_of(words: list[Approval], asked: Decision) -> frozenset[str]:
    """What the words on a plan amount to; ``asked`` is the first decision on it."""
    voices = [
        Voice(
            person=word.statement.person,
            role=word.statement.role,
            escalated=asked.escalate_at is not None and word.header.at >= asked.escalate_at,
        )
        for word in words
        if word.statement.plan_digest == asked.plan_digest
    ]
    wanted = joined(role for step in asked.steps for role in step.roles)
    return granted(voices, wanted, {role for step in asked.steps for role in step.stand_ins})


def _again(
    decision: Decision,
    context: Context,
    plan: Plan,
    bundle: Bundle,
    roles: frozenset[str],
    name: str,
    agent: str,
) -> tuple[Difference, ...]:
    around = around_of(decision, context, plan, agent)
    said = weigh(bundle, context, plan, sheets_of(decision), roles, around, decision.limits)
    return compare(
        f"decision {decision.phase}, {name}",
        {"verdict": decision.verdict, "reason": decision.reason, "steps": decision.steps},
        {"verdict": said.verdict, "reason": said.reason, "steps": said.steps},
    )
