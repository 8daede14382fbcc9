"""What the linter finds in a bundle, and that it finds every permit that money can pass without end."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.records import Verdict
from policy_service.engine import judge
from policy_service.lint import Finding, lint, schema_tools
from tests.policy_service.till import make_bundle, make_question

HEAD = 'permit (principal, action, resource == Tool::"till.pay")'
LIMIT = '@id("limit") forbid (principal, action, resource)'


def caps(condition: str, more: str = "") -> list[Finding]:
    """Findings on money for one permit."""
    bundle = make_bundle(f'@id("pay") {HEAD} {condition}; {more}')
    return [finding for finding in lint(bundle) if finding.kind == "cap"]


CAPPED = [
    "when { context.amount <= 100 }",
    "when { context.amount < 5 * 20 }",
    "when { 100 >= context.amount }",
    "when { context.amount == 0 }",
    'when { context["amount"] <= 100 }',
    "when { context.facts.ok && (context.amount > 3 && context.amount < 100) }",
    "when { context.amount == 1 || (context.facts.ok && context.amount <= 7) }",
    "when { !(context.amount > 100) }",
    "when { !(context.amount != 0) }",
    "unless { context.amount > 100 }",
    "unless { context.amount > 100 || context.facts.ok }",
    "when { context.facts.ok } when { context.amount < 1 }",
    "when { if context.facts.ok then context.amount < 10 else context.amount < 5 }",
    "when { if context.amount < 10 then context.facts.ok else false }",
    "when { context.amount < -1 }",
    "when { false }",
]
UNCAPPED = [
    "",
    "when { context.facts.ok }",
    "when { context.amount >= 0 }",
    "when { 0 <= context.amount }",
    "when { context.amount != 5 }",
    "when { context.amount == context.amount }",
    "when { context.amount <= 100 || context.facts.ok }",
    "when { !(context.amount <= 100) }",
    "when { !(context.amount > 100 && context.facts.ok) }",
    "unless { context.amount < 100 }",
    "unless { context.amount > 100 && context.facts.ok }",
    "when { if context.facts.ok then true else context.amount < 5 }",
    "when { context.facts.count <= 100 }",
    "when { true }",
]


@pytest.mark.parametrize("condition", CAPPED)
def test_a_cap_is_seen(condition: str) -> None:
    assert caps(condition) == []


@pytest.mark.parametrize("condition", UNCAPPED)
def test_no_cap_is_an_error_that_says_what_to_add(condition: str) -> None:
    (finding,) = caps(condition)
    assert (finding.severity, finding.file, finding.policy) == ("error", "till.cedar", "pay")
    assert "add `context.amount <= N`" in finding.problem


@pytest.mark.parametrize("condition", UNCAPPED)
def test_a_forbid_over_all_of_its_tools_caps_a_permit(condition: str) -> None:
    assert caps(condition, f"{LIMIT} when {{ context.amount > 100 }};") == []
    assert caps(condition, f"{LIMIT} unless {{ context.amount <= 100 }};") == []


@pytest.mark.parametrize(
    "forbid",
    [
        '@id("l") forbid (principal, action, resource == Tool::"till.open") when { context.amount > 100 };',
        '@id("l") forbid (principal, action == Action::"propose", resource) when { context.amount > 100 };',
        '@id("l") forbid (principal == Agent::"planner", action, resource) when { context.amount > 100 };',
        '@id("l") forbid (principal, action, resource) when { context.facts.ok && context.amount > 100 };',
        '@id("l") forbid (principal, action, resource) when { context.amount > 100 } when { context.facts.ok };',
    ],
)
def test_a_forbid_that_does_not_always_apply_caps_nothing(forbid: str) -> None:
    assert len(caps("", forbid)) == 1


def test_a_cap_by_a_fact_is_a_warning() -> None:
    (finding,) = caps("when { context.amount <= context.facts.count }")
    assert (finding.severity, finding.kind) == ("warning", "cap")


_ATOMS = ["context.facts.ok", "context.facts.count < 3", "true", "false"] + [
    f"context.amount {operator} {value}" for operator in ("<", "<=", ">", ">=", "==", "!=") for value in (-1, 0, 7)
]
_EXPRESSIONS = st.recursive(
    st.sampled_from(_ATOMS),
    lambda inner: st.one_of(
        st.builds("!({})".format, inner),
        st.builds("({}) && ({})".format, inner, inner),
        st.builds("({}) || ({})".format, inner, inner),
        st.builds("if ({}) then ({}) else ({})".format, inner, inner, inner),
    ),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["when", "unless"]), _EXPRESSIONS, st.booleans(), st.integers(0, 5))
def test_what_the_linter_calls_capped_cedar_never_permits_at_a_huge_amount(
    kind: str, expression: str, ok: bool, count: int
) -> None:
    bundle = make_bundle(f'@id("pay") {HEAD} {kind} {{ {expression} }};')
    if any(finding.kind == "cap" for finding in lint(bundle)):
        return
    said = judge(bundle, make_question(amount=2**62, ok=ok, count=count), frozenset())
    assert said.verdict is Verdict.DENY


def tools(text: str, *pack: str) -> list[str]:
    """What is said of tools."""
    return [finding.problem for finding in lint(make_bundle(text), pack) if finding.kind == "tool"]


PAY = f'@id("pay") {HEAD} when {{ context.amount < 9 }};'
SHUT = '@id("shut") forbid (principal, action, resource == Tool::"till.open");'
COUNT = '@id("count") permit (principal, action, resource == Tool::"till.count") when { context.amount == 0 };'


def test_the_tools_are_those_of_the_schema() -> None:
    assert schema_tools(make_bundle(PAY)) == ("till.pay", "till.count", "till.open")


def test_a_tool_that_nothing_permits_is_named_unless_a_forbid_says_that_it_is_meant() -> None:
    (problem,) = tools(PAY + COUNT)
    assert "no policy permits to propose or to execute till.open" in problem
    assert tools(PAY + COUNT + SHUT) == []
    assert len(tools(PAY + COUNT + SHUT.replace(";", " when { context.facts.ok };"))) == 1


def test_a_tool_that_may_only_be_proposed_is_named() -> None:
    half = PAY.replace("(principal, action,", '(principal, action == Action::"propose",')
    assert any("no policy permits to execute till.pay" in problem for problem in tools(half + COUNT + SHUT))


def test_a_tool_of_the_pack_that_the_schema_does_not_name_is_named() -> None:
    found = tools(PAY + COUNT + SHUT, "till.pay", "till.burn")
    assert len(found) == 1 and found[0].startswith("does not name till.burn")


def roles(text: str) -> list[tuple[str, str]]:
    """Policies with a finding on roles, and what it says."""
    return [(finding.policy, finding.problem) for finding in lint(make_bundle(text)) if finding.kind == "role"]


def propose(role: str, tool: str = "till.pay") -> str:
    return (
        f'@id("ask.{tool}") @approval("{role}") permit (principal, action == Action::"propose", '
        f'resource == Tool::"{tool}") when {{ context.amount < 9 }};'
    )


def execute(condition: str, tool: str = "till.pay") -> str:
    return (
        f'@id("do.{tool}") permit (principal, action == Action::"execute", resource == Tool::"{tool}") '
        f"when {{ context.amount < 9 && {condition} }};"
    )


def test_a_role_that_is_asked_and_counted_is_fine() -> None:
    assert roles(propose("boss") + execute('context.approvals.contains("boss")')) == []
    assert roles(propose("boss,clerk") + execute('context.approvals.containsAll(["boss", "clerk"])')) == []


def test_a_role_that_is_needed_and_never_asked_is_an_error() -> None:
    (found,) = roles(execute('context.approvals.contains("boss")'))
    assert found[0] == "do.till.pay" and "no permit asks for" in found[1]
    other_tool = propose("boss", "till.open") + execute('context.approvals.contains("boss")')
    assert {name for name, _ in roles(other_tool)} == {"do.till.pay", "ask.till.open"}


def test_a_role_that_is_asked_in_vain_is_an_error() -> None:
    (found,) = roles(propose("boss") + execute("context.facts.ok"))
    assert found[0] == "ask.till.pay" and "no permit of `execute` counts" in found[1]


def test_findings_are_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(lint(make_bundle(SHUT))), type=list[Finding])
