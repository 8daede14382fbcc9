"""Decides again from the journal alone: the recorded facts, under the recorded bundle and under the one in force."""

import msgspec

from mesh.pack import Sheet
from mesh.records import Approval, Context, Decision, Phase, Plan, Purpose, Statement, Word
from mesh.replay import Difference, Recorded, Replayed, compare
from policy_service.bundle import Bundle, BundleContents
from policy_service.deciding import weigh


def replay(recorded: Recorded) -> Replayed:
    """What the decisions of a task would be now."""
    items = recorded.items
    context = next((item.record for item in items if isinstance(item.record, Context)), None)
    plan = next((item.record for item in items if isinstance(item.record, Plan)), None)
    contents = [msgspec.json.decode(raw, type=BundleContents) for raw in recorded.bundles]
    if context is None or plan is None or not contents:
        return Replayed(stage="policy", records=0)
    bundles = {each.digest: Bundle.load(each) for each in contents}
    approvals: set[str] = set()
    differences: list[Difference] = []
    count = 0
    for item in items:
        match item.record:
            case Approval(statement=Statement(purpose=Purpose.PLAN, word=Word.APPROVE) as said):
                approvals.add(said.role)
            case Decision(sheets=sheets) as decision if sheets:
                count += 1
                roles = frozenset(approvals) if decision.phase is Phase.EXECUTE else frozenset()
                for digest, bundle in bundles.items():
                    name = "as recorded" if digest == decision.bundle else f"under {digest[:19]}"
                    differences += _again(decision, context, plan, bundle, roles, name)
    return Replayed(stage="policy", records=count, differences=tuple(differences))


def _again(
    decision: Decision, context: Context, plan: Plan, bundle: Bundle, roles: frozenset[str], name: str
) -> tuple[Difference, ...]:
    sheets = {
        sheet.step: Sheet(facts=sheet.facts, amount=sheet.amount, currency=sheet.currency) for sheet in decision.sheets
    }
    said = weigh(bundle, context, plan, sheets, roles)
    return compare(
        f"decision {decision.phase}, {name}",
        {"verdict": decision.verdict, "reason": decision.reason, "steps": decision.steps},
        {"verdict": said.verdict, "reason": said.reason, "steps": said.steps},
    )
