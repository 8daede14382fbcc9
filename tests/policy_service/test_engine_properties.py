"""What must hold for every bundle: a forbid never allows more, and slicing never changes a decision."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.records import StepVerdict, Verdict
from policy_service.bundle import Bundle, BundleContents
from policy_service.engine import Question, judge, judge_approval
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


RICH = """
entity Agent enum ["planner"];
entity Person = { roles: Set<String> };
entity Tool enum ["till.pay", "till.count", "till.open"];
type Request = {
  tool: String, amount: Long, currency: String, approvals: Set<String>, tainted: Set<String>,
  total: Long, stage: String, hour: Long, entity: String, compensation: Bool,
  facts: { ok: Bool, count: Long }
};
action "propose", "execute" appliesTo { principal: Agent, resource: Tool, context: Request };
action "approve" appliesTo { principal: Person, resource: Tool, context: Request };
"""
rich_conditions = st.sampled_from(
    (
        "true",
        "context.total <= 100",
        "context.total + 9223372036854775807 > 0",
        'context.stage == "supervised"',
        "context.hour >= 9 && context.hour < 17",
        "context.compensation",
        "!context.compensation",
        'context.entity == "ann"',
        'context.approvals.contains("boss:2")',
        'context.approvals.containsAll(["boss", "clerk"])',
        'context.tainted.contains("memo")',
    )
)
person_conditions = st.sampled_from(
    ("true", 'principal.roles.contains("boss")', '!principal.roles.contains("clerk")', "context.amount <= 100")
)


@st.composite
def rich_policies(draw: st.DrawFn, effect: str, name: str) -> str:
    """One policy that looks at the extras, asks for a quorum, or says who may approve."""
    notes, resource = f'@id("{name}")', draw(resources)
    if draw(st.booleans()):
        condition = draw(person_conditions)
        return (
            f'{notes} {effect} (principal is Person, action == Action::"approve", {resource}) when {{ {condition} }};'
        )
    action = draw(actions.filter(lambda text: text != "action"))
    if effect == "permit" and action == 'action == Action::"propose"' and draw(st.booleans()):
        notes += draw(st.sampled_from((' @approval("boss:2")', ' @approval("boss,clerk")')))
    return f"{notes} {effect} (principal is Agent, {action}, {resource}) when {{ {draw(rich_conditions)} }};"


@st.composite
def rich_texts(draw: st.DrawFn) -> str:
    """A file of up to five such policies."""
    effects = draw(st.lists(st.sampled_from(("permit", "permit", "forbid")), min_size=1, max_size=5))
    return "\n".join(draw(rich_policies(effect, f"p{n}")) for n, effect in enumerate(effects))


def rich_bundle(text: str, *, sliced: bool = True) -> Bundle:
    """These policies under the schema with extras and people."""
    files = (("schema.cedarschema", RICH), ("till.cedar", text))
    return Bundle.load(BundleContents(domain="till", files=files), sliced=sliced)


@st.composite
def rich_questions(draw: st.DrawFn) -> Question:
    """A step with all that policies may see."""
    question = make_question(draw(st.sampled_from(TOOLS)), draw(st.sampled_from((100, 101))))
    extras = {
        "total": draw(st.sampled_from((100, 101))),
        "stage": draw(st.sampled_from(("", "supervised"))),
        "hour": draw(st.sampled_from((8, 9, 17))),
        "entity": draw(st.sampled_from(("ann", "bob"))),
        "compensation": draw(st.booleans()),
    }
    tainted = frozenset({"memo"}) if draw(st.booleans()) else frozenset[str]()
    return msgspec.structs.replace(question, extras=extras, tainted=tainted)


rich_approvals = st.sampled_from(
    (frozenset[str](), frozenset({"boss"}), frozenset({"boss", "boss:2"}), frozenset({"boss", "clerk"}))
)
people = st.sets(st.sampled_from(("boss", "clerk")))


@COMPILED
@given(
    text=rich_texts(),
    forbid=rich_policies("forbid", "added"),
    question=rich_questions(),
    given=rich_approvals,
    roles=people,
)
def test_a_forbid_never_allows_more_with_extras_a_quorum_and_people(
    text: str, forbid: str, question: Question, given: frozenset[str], roles: set[str]
) -> None:
    before, after = rich_bundle(text), rich_bundle(f"{text}\n{forbid}")
    assert BOLDNESS[judge(after, question, given).verdict] <= BOLDNESS[judge(before, question, given).verdict]
    said = [judge_approval(bundle, question, "ann", roles).verdict for bundle in (before, after)]
    assert BOLDNESS[said[1]] <= BOLDNESS[said[0]]


@COMPILED
@given(text=rich_texts(), question=rich_questions(), given=rich_approvals, roles=people)
def test_slicing_changes_nothing_with_extras_a_quorum_and_people(
    text: str, question: Question, given: frozenset[str], roles: set[str]
) -> None:
    sliced, whole = (rich_bundle(text, sliced=choice) for choice in (True, False))
    assert judge(sliced, question, given) == judge(whole, question, given)
    assert judge_approval(sliced, question, "ann", roles) == judge_approval(whole, question, "ann", roles)
