"""Which models are asked, how many readings are made, and whether a judge looks at the plan: a table of rules.

The rule: money saved never makes a decision less safe. A small budget takes away the large model and the wait for an
answer at once, not the second reading.
"""

from dataclasses import dataclass
from typing import Literal

from mesh.inference import Mode, ModelRole, Tier

Risk = Literal["low", "medium", "high"]

SCARCE = 0.1  # of the day's budget: what is left is kept for the small model


@dataclass(frozen=True, slots=True)
class Need:
    """What a question is about: ``budget_left`` is the part of the day's budget that is free, 0 to 1.

    ``novel``: no playbook is for it. ``amount`` is money that would move, in minor units. ``can_wait``: nobody waits
    for the answer.
    """

    risk: Risk = "high"
    amount: int = 0
    large_amount: int = 0
    novel: bool = False
    can_wait: bool = False
    budget_left: float = 1.0


@dataclass(frozen=True, slots=True)
class Route:
    """Which tiers are asked in turn, how, and why."""

    chain: tuple[Tier, ...]
    mode: Mode
    reason: str


def route(role: ModelRole, need: Need, sample: int = 0) -> Route:
    """The route of one question. Further samples begin with another model, so that one model's error is not repeated.

    The ``reason`` stands in the prompt's record.
    """
    reasons: list[str] = []
    scarce = need.budget_left < SCARCE
    match role:
        case ModelRole.CLASSIFY | ModelRole.EXTRACT:
            chain = _turned((Tier.SMALL, Tier.JUDGE, Tier.LARGE), sample)
            reasons.append(f"{role}: {chain[0]} first" + (f", reading {sample + 1}" if sample else ""))
        case ModelRole.PLAN:
            chain = (Tier.LARGE, Tier.SMALL)
            reasons.append("no playbook is for it: the large model plans")
        case ModelRole.JUDGE:
            chain = (Tier.JUDGE, Tier.LARGE)
            reasons.append("another model than the one that read")
    if scarce and Tier.LARGE in chain:
        chain = tuple(tier for tier in chain if tier is not Tier.LARGE) or (Tier.SMALL,)
        reasons.append(f"{need.budget_left:.0%} of the day's budget is left: no large model")
    mode = Mode.BATCH if need.can_wait else Mode.INTERACTIVE
    if need.can_wait:
        reasons.append("nobody waits: in a batch")
    return Route(chain, mode, "; ".join(reasons))


def judged(need: Need) -> str:
    """Why a judge must look at the plan; "" when none need."""
    if need.novel:
        return "its steps are a model's"
    if need.risk != "low" and need.amount > need.large_amount:
        return f"it moves {need.amount}, more than {need.large_amount}"
    return ""


def _turned(tiers: tuple[Tier, ...], by: int) -> tuple[Tier, ...]:
    first = by % len(tiers)
    return (tiers[first], *(tier for tier in tiers if tier is not tiers[first]))
