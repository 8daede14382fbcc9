"""Planning is a pure function: the same inputs give the same plan, and a plan to do nothing says why."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from agents.planner.planning import Inputs, make_plan
from agents.planner.playbook import Playbook, choose, load_playbooks
from mesh import plans
from mesh.clock import now
from mesh.facts import RecalledFact
from mesh.records import Call, Causation, Context, Event, Header, Plan, Reading
from tests.ledger_pack.pack import LedgerOptions, pack, tools

TOOLS = {tool.name: tool for tool in tools(LedgerOptions())}
BOOKS = load_playbooks(pack.playbooks, TOOLS)


def inputs(kind: str = "move", balance: int = 7, **data: Any) -> Inputs:
    """A context of the ledger, and what was read for it."""
    causation = Causation(stream="EVENTS", subject="event.ledger.x", seq=1)
    header = Header(task_id="t1", domain="ledger", causation=causation, writer="planner/1", at=now())
    event_type = "ledger.move.requested" if kind == "move" else "ledger.entry.requested"
    event = Event(id="e1", source="s", type=event_type, time=None, digest="", seq=1, accepted_at=now())
    values = {"account": "a", "amount": 100, "kind": kind, "last": 1, "note": 1, **data}
    context = Context(header=header, event=event, data=msgspec.Raw(msgspec.json.encode(values)), entity="e")
    answer = msgspec.Raw(msgspec.json.encode({"frozen": False, "balance": balance}))
    reading = Reading(name="account", call=Call(tool="ledger.look", args=msgspec.Raw(b"{}")), answer=answer)
    fact = RecalledFact(id="f1", scope="account/a", key="k", text="careful", version=2, source="carla")
    return Inputs(context, (reading,), (fact,), ("a note",))


def make(of: Inputs, book: Playbook | None = None) -> Plan:
    """The plan by the ledger's playbooks, or by another one."""
    chosen = book or choose(BOOKS, of.context.event.type, of.variables)
    return make_plan(chosen, of, of.context.header)


def test_a_plan_is_sound_and_cites_what_it_rests_on() -> None:
    plan = make(inputs())
    assert plans.faults(plan) == []
    assert [(step.id, step.call.tool, step.optional) for step in plan.steps] == [
        ("debit", "ledger.post", False),
        ("credit", "ledger.transfer", False),
        ("note", "ledger.note", True),
        ("close", "ledger.wire", False),
    ]
    assert plan.steps[0].compensation is not None
    assert msgspec.json.decode(plan.steps[0].compensation.args) == {"account": "a", "amount": -100}
    assert [(cited.fact_id, cited.version, cited.source) for cited in plan.citations] == [("f1", 2, "carla")]
    assert (plan.readings[0].name, plan.notes) == ("account", ("a note",))


def test_the_rationale_is_worded_from_what_was_read() -> None:
    assert make(inputs("post", balance=42)).rationale == "Enter 100 on a, which has 42."


def test_a_rule_of_the_business_refuses_with_its_reason() -> None:
    plan = make(inputs("wire", amount=-1))
    assert (plan.refusal, plan.steps) == ("an entry of less than nothing", ())
    assert plan.playbook == "ledger.wire"
    assert plans.faults(plan) == []


def test_no_playbook_is_a_plan_to_do_nothing() -> None:
    plan = make(inputs("none"))
    assert (plan.refusal, plan.playbook) == ("no playbook for ledger.entry.requested", "")


def test_an_expression_that_fails_refuses_by_its_name() -> None:
    of = inputs()
    without = msgspec.structs.replace(of.context, data=msgspec.Raw(b'{"account":"a"}'))
    plan = make(Inputs(without))
    assert plan.refusal.startswith(
        "the playbook cannot be applied: move.yaml step debit argument amount: 'data.amount'"
    )


@given(amount=st.integers(-(2**31), 2**31), account=st.text(max_size=20))
def test_the_same_inputs_give_the_same_plan(amount: int, account: str) -> None:
    of = inputs(amount=amount, account=account)
    assert msgspec.json.encode(make(of)) == msgspec.json.encode(make(of))
    assert plans.faults(make(of)) == []
