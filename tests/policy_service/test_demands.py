"""What limits and stages demand on top of policies: always more, never less."""

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.autonomy import Stage
from mesh.pack import Sheet
from mesh.records import LimitUse, Party, Verdict
from policy_service.bundle import Bundle, BundleContents
from policy_service.deciding import weigh
from policy_service.engine import Assessment, Circumstances
from policy_service.limits import LimitError, takes
from tests.policy_service.plans import context_of, plan_of, step_of
from tests.policy_service.test_governance import AUTONOMY
from tests.policy_service.till import SCHEMA

POLICIES = """
@id("small") permit (principal, action, resource) when { context.amount <= 500 };
@id("large") @approval("boss") permit (principal, action == Action::"propose", resource)
when { context.amount > 500 && context.amount <= 5000 };
@id("large-approved") permit (principal, action == Action::"execute", resource)
when { context.amount > 500 && context.amount <= 5000 && context.approvals.contains("boss") };
"""
LIMITS = """
- {id: weekly, per: customer, window: P7D, amount: 1000, tasks: 3, over: approve, roles: chief}
- {id: daily, per: domain, window: P1D, amount: 3000}
"""
BOLDNESS = {Verdict.DENY: 0, Verdict.NEEDS_APPROVAL: 1, Verdict.ALLOW: 2}
AT = datetime(2026, 1, 2, tzinfo=UTC)


def bundle_of(*, limits: str = "", autonomy: str = "") -> Bundle:
    """The till's policies with limits and autonomy."""
    files = [("schema.cedarschema", SCHEMA), ("till.cedar", POLICIES)]
    files += [("limits.yaml", limits)] if limits else []
    files += [("autonomy.yaml", autonomy)] if autonomy else []
    return Bundle.load(BundleContents(domain="till", files=tuple(sorted(files))))


PLAIN, LIMITED, STAGED = bundle_of(), bundle_of(limits=LIMITS), bundle_of(autonomy=AUTONOMY)


def sheet_of(amount: int, customer: str = "ann", currency: str = "USD") -> Sheet:
    """Facts of a step for a customer."""
    facts = msgspec.Raw(b'{"ok":true,"count":1}')
    return Sheet(facts=facts, amount=amount, currency=currency, parties=(Party(kind="customer", id=customer),))


def weighed(
    bundle: Bundle,
    amount: int,
    approvals: frozenset[str] = frozenset(),
    uses: tuple[LimitUse, ...] = (),
    stage: str = "",
) -> Assessment:
    """What policy says of a plan with one payment."""
    stages = {"till.pay": stage} if stage else {}
    sheets = {"one": sheet_of(amount)}
    return weigh(
        bundle, context_of(), plan_of(step_of("one")), sheets, approvals, Circumstances(at=AT, stages=stages), uses
    )


def use_of(limit: str, used: int, adds: int, cap: int) -> LimitUse:
    """A use of a limit."""
    return LimitUse(limit=limit, key="k", unit="USD", used=used, adds=adds, cap=cap, over=used + adds > cap)


@settings(max_examples=60, deadline=None)
@given(
    amount=st.sampled_from((0, 100, 500, 501, 5000, 5001)),
    approvals=st.sets(st.sampled_from(("boss", "chief"))).map(frozenset),
    used=st.integers(0, 4000),
    stage=st.sampled_from(("", *Stage)),
)
def test_a_demand_never_allows_more(amount: int, approvals: frozenset[str], used: int, stage: str) -> None:
    plain = weighed(PLAIN, amount, approvals)
    uses = (use_of("weekly", used, amount, 1000), use_of("daily", used, amount, 3000))
    for said in (weighed(LIMITED, amount, approvals, uses), weighed(STAGED, amount, approvals, stage=stage)):
        assert BOLDNESS[said.verdict] <= BOLDNESS[plain.verdict]


def test_over_a_limit_more_people_must_approve_or_nobody_can() -> None:
    over = (use_of("weekly", 900, 200, 1000),)
    said = weighed(LIMITED, 200, uses=over)
    assert (said.verdict, said.steps[0].roles, said.steps[0].policies) == (
        Verdict.NEEDS_APPROVAL,
        ("chief",),
        ("small", "limit:weekly"),
    )
    assert "9.00 USD + 2.00 USD of 10.00 USD" in said.steps[0].reasons[-1]
    assert weighed(LIMITED, 200, frozenset({"chief"}), over).verdict is Verdict.ALLOW
    denied = weighed(LIMITED, 200, frozenset({"chief", "boss"}), (use_of("daily", 2900, 200, 3000),))
    assert (denied.verdict, denied.steps[0].policies) == (Verdict.DENY, ("limit:daily",))


def test_what_policies_ask_for_and_what_a_limit_asks_for_are_both_needed() -> None:
    over = (use_of("weekly", 900, 600, 1000),)
    assert weighed(LIMITED, 600, uses=over).reason == "waits for approval by boss, chief"
    assert weighed(LIMITED, 600, frozenset({"chief"}), over).reason == "waits for approval by boss"
    assert weighed(LIMITED, 600, frozenset({"chief", "boss"}), over).verdict is Verdict.ALLOW


@pytest.mark.parametrize(
    ("stage", "amount", "verdict"),
    [
        (Stage.OBSERVE, 10, Verdict.DENY),
        (Stage.PROPOSE, 10, Verdict.NEEDS_APPROVAL),
        (Stage.SUPERVISED, 100, Verdict.ALLOW),
        (Stage.SUPERVISED, 101, Verdict.NEEDS_APPROVAL),
        (Stage.AUTONOMOUS, 500, Verdict.ALLOW),
        (Stage.AUTONOMOUS, 501, Verdict.NEEDS_APPROVAL),
        (Stage.AUTONOMOUS, 5001, Verdict.DENY),
    ],
)
def test_how_far_a_tool_may_act_by_itself(stage: Stage, amount: int, verdict: Verdict) -> None:
    said = weighed(STAGED, amount, stage=stage)
    assert said.verdict is verdict
    assert said.observed is (stage is Stage.OBSERVE)
    assert said.steps[0].stage == stage


def test_what_is_observed_says_what_policy_would_have_said() -> None:
    assert weighed(STAGED, 501, stage=Stage.OBSERVE).reason == (
        "till.pay may only be observed yet; policy would have said: needs_approval"
    )


def test_a_plan_takes_of_a_limit_what_its_steps_move_together() -> None:
    plan = plan_of(step_of("one"), step_of("two"), step_of("three"))
    sheets = {"one": sheet_of(400), "two": sheet_of(400), "three": sheet_of(50, "bob")}
    found = {
        (take.limit.id, take.key): take.amount for take in takes(LIMITED.governance.limits, plan, sheets, "planner")
    }
    assert found == {("weekly", "customer ann"): 800, ("weekly", "customer bob"): 50, ("daily", "domain till"): 850}


def test_money_of_another_currency_cannot_be_counted_and_is_denied() -> None:
    plan, sheets = plan_of(step_of("one")), {"one": sheet_of(100, currency="EUR")}
    with pytest.raises(LimitError, match="counts USD, but step one moves EUR"):
        takes(LIMITED.governance.limits, plan, sheets, "planner")
    said = weigh(LIMITED, context_of(), plan, sheets, frozenset(), Circumstances(at=AT))
    assert said.verdict is Verdict.DENY
