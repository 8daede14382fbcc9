"""What a person types to correct a plan becomes whole arguments, as they would be executed."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from console.edits import Edits
from console.words import limit_line
from mesh.approvals import Shown, ShownStep, Waiting
from mesh.errors import WorkmeshError
from mesh.records import EMPTY_OBJECT, Call, Change, LimitUse, Purpose

ARGS = {"amount": 100, "account": "a", "lines": ["x"]}


def shown() -> Shown:
    """A plan of two steps."""
    at = datetime(2026, 1, 2, tzinfo=UTC)
    waiting = Waiting(
        task_id="t", domain="d", purpose=Purpose.PLAN, roles=("boss",), since=at, until=None, reason="", step=""
    )
    steps = tuple(
        ShownStep(
            id=name,
            call=Call(tool="d.pay", args=msgspec.Raw(msgspec.json.encode(ARGS))),
            effect_key="k",
            verdict="",
            policies=(),
            roles=(),
            facts=EMPTY_OBJECT,
            amount=0,
            currency="USD",
        )
        for name in ("pay", "tell")
    )
    return Shown(
        waiting=waiting,
        plan_digest="",
        bundle="",
        playbook="",
        rationale="",
        event_type="",
        event_id="",
        source="",
        entity="",
        data=EMPTY_OBJECT,
        taint=(),
        steps=steps,
    )


def args_of(change: Change) -> dict[str, Any]:
    """A change's arguments."""
    return msgspec.json.decode(change.args, type=dict[str, Any])


@pytest.mark.parametrize(
    ("typed", "value"),
    [("7", 7), ('"7"', "7"), ("[1,2]", [1, 2]), ("a = b.c", "a = b.c"), ("", ""), ("null", None), ("{", "{")],
)
def test_a_value_is_json_where_it_is_and_text_elsewhere(typed: str, value: object) -> None:
    (change,) = Edits((f"pay.amount={typed}",)).changes(shown())
    assert args_of(change) == {**ARGS, "amount": value}


def test_several_edits_of_a_step_are_one_change_and_the_rest_stays() -> None:
    changes = Edits(("pay.amount=1", "pay.account=b", "tell.amount=2")).changes(shown())
    assert [(change.step, change.drop) for change in changes] == [("pay", False), ("tell", False)]
    assert args_of(changes[0]) == {"amount": 1, "account": "b", "lines": ["x"]}
    assert Edits((), ("tell",)).changes(shown()) == (Change(step="tell", drop=True),)


@pytest.mark.parametrize("typed", ["pay.amount", "amount=1", "pay.other=1", "other.amount=1", "=", "pay.=1"])
def test_what_is_not_in_the_plan_cannot_be_set_and_the_choices_are_told(typed: str) -> None:
    with pytest.raises(WorkmeshError, match=r"STEP.ARG=VALUE, with one of pay.amount"):
        Edits((typed,)).changes(shown())


def test_a_step_that_is_not_there_cannot_be_left_out() -> None:
    with pytest.raises(WorkmeshError, match="no such step, only pay, tell"):
        Edits((), ("other",)).changes(shown())


def test_a_limit_is_told_in_money_or_in_tasks() -> None:
    use = LimitUse(limit="weekly", key="customer ann", unit="USD", used=190_000, adds=20_000, cap=200_000, over=True)
    assert limit_line(use) == "OVER weekly of customer ann: 1,900.00 USD + 200.00 USD of 2,000.00 USD"
    tasks = msgspec.structs.replace(use, unit="tasks", used=3, adds=1, cap=12, over=False)
    assert limit_line(tasks) == "weekly of customer ann: 3 tasks + 1 tasks of 12 tasks"
