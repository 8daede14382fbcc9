"""Decides again from the journal alone: the recorded facts, under the recorded bundle and under the one in force."""

import msgspec

from mesh.replay import Difference, Recorded, Replayed, compare
from policy_service.again import Past, past_of
from policy_service.bundle import Bundle, BundleContents


def replay(recorded: Recorded) -> Replayed:
    """What the decisions of a task would be now."""
    past = past_of(recorded.items)
    contents = [msgspec.json.decode(raw, type=BundleContents) for raw in recorded.bundles]
    if not past or not contents:
        return Replayed(stage="policy", records=0)
    bundles = {each.digest: Bundle.load(each) for each in contents}
    differences: list[Difference] = []
    for each in past:
        for digest, bundle in bundles.items():
            name = "as recorded" if digest == each.decision.bundle else f"under {digest[:19]}"
            differences += _again(each, bundle, name)
    return Replayed(stage="policy", records=len(past), differences=tuple(differences))


def _again(past: Past, bundle: Bundle, name: str) -> tuple[Difference, ...]:
    decision, said = past.decision, past.again(bundle)
    return compare(
        f"decision {decision.phase}, {name}",
        {"verdict": decision.verdict, "reason": decision.reason, "steps": decision.steps},
        {"verdict": said.verdict, "reason": said.reason, "steps": said.steps},
    )
