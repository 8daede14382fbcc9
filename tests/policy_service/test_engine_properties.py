"""What must hold for every bundle: a forbid never allows more, and slicing never changes a decision."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.records import StepVerdict, Verdict
from policy_service.engine import judge
from tests.policy_service.till import make_bundle, make_question

TOOLS = ("till.pay", "till.count", "till.open")
BOLDNESS = {Verdict.DENY: 0, Verdict.NEEDS_APPROVAL: 1, Verdict.ALLOW: 2}
COMPILED = settings(max_examples=150, deadline=None)

actions = st.sampled_from(
    (
        "action",
        'action == Action::"propose"',
        'action == Action::"execute"',
        'action in [Action::"propose", Action::"execute"]',
    )
)
resources = st.sampled_from(("resource", "resource is Tool", *(f'resource == Tool::"{tool}"' for tool in TOOLS)))
conditions = st.sampled_from(
    (
        "true",
        "context.amount <= 100",
        "context.amount > 100",
        "context.facts.ok",
        "!context.facts.ok",
        'context.approvals.contains("boss")',
        'resource == Tool::"till.pay"',
        'action == Action::"execute"',
        "context.facts.count + 9223372036854775807 > 0",
    )
)


@st.composite
def policies(draw: st.DrawFn, effect: str, name: str) -> str:
    """One policy of the small domain."""
    action, resource, condition = draw(actions), draw(resources), draw(conditions)
    notes = f'@id("{name}")'
    if effect == "permit" and action == 'action == Action::"propose"' and draw(st.booleans()):
        notes += ' @approval("boss")'
    if effect == "permit" and draw(st.booleans()):
        notes += f' @obligation("notify:{name}")'
    return f"{notes} {effect} (principal, {action}, {resource}) when {{ {condition} }};"


@st.composite
def texts(draw: st.DrawFn) -> str:
    """A file of up to five policies, permits more often than not."""
    effects = draw(st.lists(st.sampled_from(("permit", "permit", "forbid")), min_size=1, max_size=5))
    return "\n".join(draw(policies(effect, f"p{n}")) for n, effect in enumerate(effects))


approvals = st.sampled_from((frozenset[str](), frozenset({"boss"})))


@COMPILED
@given(
    text=texts(),
    forbid=policies("forbid", "added"),
    tool=st.sampled_from(TOOLS),
    amount=st.sampled_from((100, 101)),
    ok=st.booleans(),
    count=st.integers(0, 1),
    given=approvals,
)
def test_adding_a_forbid_never_allows_more(
    text: str,
    forbid: str,
    tool: str,
    amount: int,
    ok: bool,
    count: int,
    given: frozenset[str],
) -> None:
    question = make_question(tool, amount, ok, count)
    before = judge(make_bundle(text), question, given)
    after = judge(make_bundle(f"{text}\n{forbid}"), question, given)
    assert BOLDNESS[after.verdict] <= BOLDNESS[before.verdict]


@COMPILED
@given(
    text=texts(),
    tool=st.sampled_from((*TOOLS, "till.burn")),
    amount=st.sampled_from((100, 101)),
    ok=st.booleans(),
    count=st.integers(0, 1),
    given=approvals,
)
def test_slicing_never_changes_a_decision(
    text: str,
    tool: str,
    amount: int,
    ok: bool,
    count: int,
    given: frozenset[str],
) -> None:
    question = make_question(tool, amount, ok, count)
    sliced, whole = (judge(make_bundle(text, sliced=choice), question, given) for choice in (True, False))
    assert sliced == whole


@COMPILED
@given(
    text=texts(),
    tool=st.sampled_from(TOOLS),
    amount=st.sampled_from((100, 101)),
    ok=st.booleans(),
    given=approvals,
)
def test_leaving_execute_out_where_it_is_settled_never_changes_a_decision(
    text: str,
    tool: str,
    amount: int,
    ok: bool,
    given: frozenset[str],
) -> None:
    """A forbid on ``execute`` that never holds makes the engine ask twice."""
    never = '@id("never") forbid (principal, action == Action::"execute", resource) when { context.amount < 0 };'
    question = make_question(tool, amount, ok, -1)
    once = judge(make_bundle(text), question, given)
    twice = judge(make_bundle(f"{text}\n{never}"), question, given)
    assert _decision(once) == _decision(twice)


def _decision(verdict: StepVerdict) -> tuple[object, ...]:
    return verdict.verdict, verdict.roles, set(verdict.obligations), verdict.verdict is Verdict.DENY and verdict.reasons
