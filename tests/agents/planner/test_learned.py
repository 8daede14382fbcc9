"""What the planner makes of learned changes: only what a playbook declares, within its bounds, and on record."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.planner.learned import InForce, LearnedChanges, pick, values_of
from agents.planner.planning import Inputs, make_plan
from agents.planner.replay import replay
from mesh import subjects
from mesh.clock import now
from mesh.control import Standing
from mesh.experience import LearnedUse
from mesh.journal import Stored
from mesh.learned import ChangeKind, LearnedAct, LearnedChange, Value
from mesh.parameters import Parameter
from mesh.records import AnyRecord, Plan
from mesh.replay import Recorded
from tests.agents.planner.test_planning import BOOKS, inputs
from tests.ledger_pack.running import installed

CAREFUL = LearnedUse(target="ledger.post", value="ledger.careful", proposal="p1")


def standing(target: str, value: Value, parameter: str = "") -> Standing[LearnedAct]:
    """A change in force."""
    kind = ChangeKind.THRESHOLD if parameter else ChangeKind.CHOICE
    change = LearnedChange(kind=kind, domain="ledger", target=target, parameter=parameter, value=value)
    return Standing(LearnedAct(person="learner", at=now(), change=change, proposal="p1"), "control.x", 7, now())


def in_force(*changes: Standing[LearnedAct]) -> InForce:
    """What the planner takes of these."""
    learned = LearnedChanges({"ledger": BOOKS})
    learned.replace(changes)
    return learned.of("ledger")


def plan(of: Inputs, changes: InForce) -> Plan:
    """The plan under these changes."""
    book, uses = pick(BOOKS, of.context.event.type, of.variables, changes)
    return make_plan(book, under(of, uses), of.context.header)


def under(of: Inputs, uses: tuple[LearnedUse, ...]) -> Inputs:
    """The inputs under these uses."""
    return Inputs(of.context, of.readings, of.recalled, of.notes, uses)


def test_a_variant_is_not_used_unless_it_was_learned() -> None:
    assert plan(inputs("post"), InForce()).playbook == "ledger.post"
    chosen = plan(inputs("post"), in_force(standing("ledger.post", "ledger.careful")))
    assert (chosen.playbook, chosen.learned) == (
        "ledger.careful",
        (LearnedUse(target="ledger.post", value="ledger.careful", proposal="p1", seq=7),),
    )


def test_a_learned_value_is_what_expressions_see() -> None:
    changes = in_force(standing("ledger.post", 600_000, "most"))
    assert plan(inputs("post", amount=600_000), changes).refusal == ""
    refused = plan(inputs("post", amount=600_001), changes)
    assert (refused.refusal, [use.value for use in refused.learned]) == ("more than 600000", [600_000])


@pytest.mark.parametrize(
    ("target", "value", "parameter"),
    [
        ("ledger.post", "ledger.wire", ""),
        ("ledger.post", "ledger.nothing", ""),
        ("ledger.wire", "ledger.careful", ""),
        ("ledger.post", 600_000, ""),
        ("ledger.post", None, ""),
        ("ledger.post", 499_999, "most"),
        ("ledger.post", 3_000_001, "most"),
        ("ledger.post", 600_000.5, "most"),
        ("ledger.post", "600000", "most"),
        ("ledger.post", 600_000, "least"),
        ("nothing", 600_000, "most"),
    ],
)
def test_what_no_playbook_declares_is_not_used(target: str, value: Any, parameter: str) -> None:
    assert in_force(standing(target, value, parameter)) == InForce()


PARAMETERS = st.tuples(st.integers(), st.integers(), st.integers()).map(
    lambda three: Parameter(type="int", min=min(three), max=max(three), default=sorted(three)[1])
)


@given(PARAMETERS, st.one_of(st.integers(), st.floats(), st.booleans(), st.text(), st.none()))
def test_no_value_is_ever_out_of_its_bounds(parameter: Parameter, value: Any) -> None:
    book = BOOKS[[each.name for each in BOOKS].index("ledger.post")]
    declared = type(book)(
        **{name: getattr(book, name) for name in book.__slots__} | {"parameters": {"most": parameter}}
    )
    use = LearnedUse(target="ledger.post", value=value, proposal="p", parameter="most")
    found = values_of(declared, (use,))["most"]
    assert parameter.min <= found <= parameter.max
    assert isinstance(found, int)
    assert all(not parameter.why_not(each) for each in parameter.candidates())


def recorded(made: Plan, of: Inputs, *learned: LearnedUse, assume: bool = True) -> Recorded:
    """The records of a task with this plan."""
    records: tuple[AnyRecord, ...] = (of.context, made)
    items = [Stored(seq, subjects.of(record), now(), record) for seq, record in enumerate(records, 1)]
    return Recorded(items, learned=learned if assume else None)


def test_a_replay_uses_what_was_in_force_then_or_what_is_to_be_assumed() -> None:
    of = reading(inputs("post", amount=700_000), "a")
    changes = in_force(standing("ledger.post", 600_000, "most"))
    made = plan(of, changes)
    with installed():
        assert replay(recorded(made, of, assume=False)).differences == ()
        without = replay(recorded(made, of))
    assert without.plan is not None
    assert (without.plan.refusal, without.plan.learned) == ("", ())


def reading(of: Inputs, account: str) -> Inputs:
    """The same with the call on record that was made."""
    read = of.readings[0]
    args = msgspec.Raw(msgspec.json.encode({"account": account}))
    call = type(read.call)(tool=read.call.tool, args=args)
    return Inputs(of.context, (type(read)(name=read.name, call=call, answer=read.answer),), (), ())


def test_a_variant_is_planned_again_from_what_was_read_and_not_guessed_without_it() -> None:
    with installed():
        known = reading(inputs("post"), "a")
        again = replay(recorded(plan(known, InForce()), known, CAREFUL))
        assert again.plan is not None
        assert (again.plan.playbook, again.unknown) == ("ledger.careful", "")
        other = reading(inputs("post"), "b")
        unknown = replay(recorded(plan(other, InForce()), other, CAREFUL))
    assert (unknown.plan, unknown.records) == (None, 0)
    assert "which was not read so" in unknown.unknown
