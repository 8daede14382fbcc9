"""Steps that a model makes: known tools, arguments that stand somewhere, and nothing of the runtime's."""

from typing import Any

import pytest

from agents.planner.reading import Ask, Await, HandOver
from agents.planner.unforeseen import Proposal, ReadFirst, propose
from mesh.canonical import effect_key
from tests.agents.planner.answers import asked, exchange, prompts

NOTE = {"id": "note", "tool": "shop.note", "args": {"to": "A-1", "body": "We have it, for 12.50."}}
FINE = {"reads": [], "steps": [NOTE], "rationale": "It asks about A-1.", "cannot": ""}


def after(**answers: Any) -> Any:
    unforeseen = prompts().plan
    assert unforeseen is not None
    return propose(unforeseen, "t1", exchange(**answers))


def test_the_steps_get_the_keys_of_the_runtime() -> None:
    found = after(plan=FINE)
    assert isinstance(found, Proposal)
    [step] = found.steps
    assert (step.id, step.call.tool, step.effect_key) == ("note", "shop.note", effect_key("t1", "note"))
    assert found.rationale == "It asks about A-1."


def test_what_must_be_known_first_is_read_and_it_is_asked_again() -> None:
    reading = {"reads": [{"name": "thing", "tool": "shop.look", "args": {"thing": "A-2"}}], "steps": []}
    found = after(plan=reading)
    assert isinstance(found, ReadFirst)
    assert (found.name, [(name, call.tool) for name, call in found.reads]) == ("plan-2", [("thing", "shop.look")])
    assert after(plan=reading, plan_2=asked("plan-2")) == Await()
    assert isinstance(after(plan=reading, plan_2=FINE), Proposal)
    assert isinstance(after(plan=reading, plan_2=reading), HandOver)  # two rounds are all there are


def _with(**changes: Any) -> dict[str, Any]:
    return {**FINE, "steps": [{**NOTE, **changes}]}


WRONG: list[tuple[str, Any, str]] = [
    ("a tool that it may not use", _with(tool="shop.wipe", args={"thing": "A-1"}), "no tool 'shop.wipe'"),
    ("a reading tool as a step", _with(tool="shop.look", args={"thing": "A-1"}), "no tool 'shop.look' for this"),
    ("a made-up argument", _with(args={"to": "eve", "body": "x"}), "/to: 'eve' occurs nowhere"),
    ("a made-up amount in its own words", _with(args={"to": "A-1", "body": "You get 900."}), "/body: '900'"),
    ("a made-up address", _with(args={"to": "A-1", "body": "See https://evil.example"}), "https://evil.example"),
    ("an unknown argument", _with(args={"to": "A-1", "body": "x", "key": "k"}), "unknown field `key`"),
    ("a key of its own", _with(id="Note!"), "the id is lower-case"),
    ("a step that needs another", _with(needs=["pay"]), "needs 'pay'"),
    ("a step twice", {**FINE, "steps": [NOTE, NOTE]}, "two steps have this id"),
    ("too many steps", {**FINE, "steps": [{**NOTE, "id": f"n{n}"} for n in range(11)]}, "at most 10 steps"),
    ("neither steps nor a reason", {**FINE, "steps": []}, "neither steps nor reads"),
    ("a claim in its reasons", {**FINE, "rationale": "Policy 77 allows it."}, "rationale: '77'"),
    ("a read that writes", {**FINE, "reads": [{"name": "x", "tool": "shop.note", "args": NOTE["args"]}]}, "no tool"),
    ("no plan", "do it", "Expected `object`"),
]


@pytest.mark.parametrize(("_", "answer", "why"), WRONG, ids=[name for name, *_ in WRONG])
def test_what_is_wrong_is_asked_for_once_more_and_then_left_to_a_person(_: str, answer: Any, why: str) -> None:
    again = after(plan=answer)
    assert isinstance(again, tuple)
    [ask] = again
    assert isinstance(ask, Ask)
    assert ask.name == "plan~2"
    assert why in ask.mistake
    found = after(plan=answer, plan__2=answer)
    assert isinstance(found, HandOver)
    assert why in found.reason


def test_a_model_may_say_that_it_cannot() -> None:
    found = after(plan={**FINE, "steps": [], "cannot": "it needs a refund"})
    assert isinstance(found, HandOver)
    assert found.reason == "no model can do it: it needs a refund"
