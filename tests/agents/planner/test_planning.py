"""Planning is a pure function: the same inputs give the same plan, and a plan to do nothing says why."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from agents.planner.planning import Inputs, make_plan, recalled_of
from agents.planner.playbook import Playbook, choose, compile_playbook, load_playbooks
from mesh import plans, records
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
    fact = RecalledFact(
        id="f1",
        version=2,
        scope="organisation/ledger/-",
        subject="account/a",
        predicate="limit",
        text="careful",
        value=msgspec.Raw(b'{"amount":250}'),
        source="carla",
        authority=2,
        confidence=0.5,
        valid_from=now(),
        score=0.25,
    )
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


REMEMBERING = compile_playbook(
    msgspec.json.encode(
        {
            "name": "ledger.remembering",
            "events": ["ledger.entry.requested"],
            "steps": [
                {
                    "id": "enter",
                    "tool": "ledger.post",
                    "args": {"account": "data.account", "amount": "memory[0].value.amount"},
                    "when": 'memory[0].authority > 1 && memory[0].predicate == "limit"',
                }
            ],
            "rationale": "memory[0].text + memory[0].valid_from",
        }
    ),
    "remembering.yaml",
    TOOLS,
)


def test_a_plan_made_from_facts_is_made_again_from_its_own_citations() -> None:
    of = inputs("post")
    plan = make(of, REMEMBERING)
    assert msgspec.json.decode(plan.steps[0].call.args) == {"account": "a", "amount": 250}
    read = records.decode(records.encode(plan))
    assert isinstance(read, Plan)
    again = make(Inputs(of.context, read.readings, recalled_of(read), read.notes), REMEMBERING)
    assert records.encode(again) == records.encode(plan)


def test_a_citation_of_an_old_record_is_read_by_its_key() -> None:
    old = msgspec.json.decode(records.encode(make(inputs())))
    old["citations"] = [{"fact_id": "f0", "version": 1, "scope": "account/a", "key": "outcomes", "text": "3 done"}]
    plan = records.decode(msgspec.json.encode(old))
    assert isinstance(plan, Plan)
    (fact,) = recalled_of(plan)
    assert (fact.id, fact.predicate, fact.text, bytes(fact.value)) == ("f0", "outcomes", "3 done", b"null")


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
