"""roles.yaml, limits.yaml and autonomy.yaml: what is meant is read, what cannot be meant is refused by name."""

from datetime import UTC, datetime, timedelta

import pytest
import yaml

from mesh.autonomy import Evidence, Stage
from policy_service.autonomy import breach, read_autonomy, why_not_up
from policy_service.bundle import Bundle, BundleContents, BundleError
from policy_service.governance import Governance, GovernanceError
from tests.policy_service.till import SCHEMA

PAY = '@id("pay") permit (principal, action, resource);'
ASKS = '@id("ask") @approval("boss") permit (principal, action == Action::"propose", resource);'
LIMIT = """
- id: pays-a-day
  per: customer
  window: P1D
  amount: 1000
"""
AUTONOMY = """
start: supervised
approvers: boss
promoters: owner
raise_when: {window: P30D, tasks: 100, override_rate: 0.02, error_rate: 0.01}
lower_when: {window: P1D, tasks: 20, override_rate: 0.2, error_rate: 0.1}
tools: [{tool: till.pay, approve_above: 100}]
"""


def bundle_of(**files: str) -> Bundle:
    """A bundle of the till with these YAML files beside its policies."""
    named = tuple((f"{name}.yaml", text) for name, text in files.items())
    contents = (*named, ("schema.cedarschema", SCHEMA), ("till.cedar", PAY if "roles" not in files else ASKS))
    return Bundle.load(BundleContents(domain="till", files=contents))


def test_a_bundle_holds_what_stands_beside_its_policies() -> None:
    bundle = bundle_of(limits=LIMIT, autonomy=AUTONOMY)
    (limit,) = bundle.governance.limits
    assert (limit.id, limit.per, limit.length_s, limit.amount, limit.tasks) == (
        "pays-a-day",
        "customer",
        86400,
        1000,
        None,
    )
    autonomy = bundle.governance.autonomy
    assert autonomy is not None
    assert (autonomy.start, autonomy.rule("till.pay").approve_above) == (Stage.SUPERVISED, 100)


@pytest.mark.parametrize(
    ("file", "text", "problem"),
    [
        ("limits", "- {id: x, per: customer, window: P1D}", "caps nothing"),
        ("limits", "- {id: x, per: customer, window: P2Y, tasks: 1}", "window"),
        ("limits", "- {id: x, per: customer, window: P400D, tasks: 1}", "at most a year"),
        ("limits", "- {id: X Y, per: customer, window: P1D, tasks: 1}", "ids are"),
        ("limits", "- {id: x, per: customer, window: P1D, tasks: 1, over: approve}", "needs `roles`"),
        ("limits", "- {id: x, per: customer, window: P1D, tasks: 1, roles: boss}", "needs `roles`"),
        ("limits", "- {id: x, per: customer, window: P1D, tasks: 1, over: approve, roles: Boss}", "snake_case"),
        ("limits", "- {id: x, per: customer, window: P1D, tasks: 1, unit: USD}", "unknown field"),
        ("limits", LIMIT + LIMIT, "occurs twice"),
        ("limits", "{", "limits.yaml"),
        ("autonomy", AUTONOMY.replace("supervised", "free"), "free"),
        ("autonomy", AUTONOMY.replace("till.pay, approve_above: 100}", "a}, {tool: a}"), "stands twice"),
        ("autonomy", AUTONOMY.replace("approvers: boss", "approvers: The Boss"), "snake_case"),
        ("roles", "boss", "roles.yaml"),
        ("roles", "{owner: decides}", "asks for boss"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_file(file: str, text: str, problem: str) -> None:
    with pytest.raises(BundleError, match=problem):
        bundle_of(**{file: text})


def test_a_limit_and_a_stage_cannot_ask_for_a_role_that_is_not_declared() -> None:
    for name, text in (("limits.yaml", LIMIT + "  over: approve\n  roles: chief"), ("autonomy.yaml", AUTONOMY)):
        with pytest.raises(GovernanceError, match=r"chief|owner"):
            Governance.read({"roles.yaml": "{boss: approves}", name: text}, ())


def evidence(tasks: int = 0, errors: int = 0, words: int = 0, overrides: int = 0) -> Evidence:
    """Evidence of a day."""
    since = datetime(2026, 1, 1, tzinfo=UTC)
    return Evidence(since=since, tasks=tasks, errors=errors, words=words, overrides=overrides)


@pytest.mark.parametrize(
    ("found", "lacks"),
    [
        (evidence(99), "too few"),
        (evidence(100), ""),
        (evidence(100, errors=1), ""),
        (evidence(100, errors=2), "in error"),
        (evidence(100, words=10, overrides=2), ""),
        (evidence(100, words=10, overrides=3), "overridden"),
    ],
)
def test_up_takes_enough_tasks_and_few_overrides_and_errors(found: Evidence, lacks: str) -> None:
    autonomy = read_autonomy(yaml.safe_load(AUTONOMY))
    why = why_not_up(found, autonomy.raise_when)
    assert (lacks in why) if lacks else why == ""


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (evidence(19, errors=19), ""),
        (evidence(20, errors=2), ""),
        (evidence(20, errors=3), "in error"),
        (evidence(20, words=20, overrides=5), "overridden"),
    ],
)
def test_down_takes_a_breach_over_enough_tasks(found: Evidence, why: str) -> None:
    autonomy = read_autonomy(yaml.safe_load(AUTONOMY))
    said = breach(found, autonomy.lower_when)
    assert (why in said) if why else said == ""


def test_stages_go_one_by_one() -> None:
    assert [stage.above() for stage in Stage] == [Stage.PROPOSE, Stage.SUPERVISED, Stage.AUTONOMOUS, Stage.AUTONOMOUS]
    assert [stage.below() for stage in Stage] == [Stage.OBSERVE, Stage.OBSERVE, Stage.PROPOSE, Stage.SUPERVISED]


def test_windows_are_at_most_a_year() -> None:
    (limit,) = bundle_of(limits=LIMIT.replace("P1D", "P366D")).governance.limits
    assert limit.window == timedelta(days=366)
