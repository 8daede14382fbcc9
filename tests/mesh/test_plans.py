"""What must be true of any plan, whoever made it."""

from typing import Any

import msgspec
import pytest

from mesh import plans
from mesh.plans import plan_digest
from mesh.records import Plan, Step
from tests.mesh.samples import json, plan


def with_steps(*steps: Step) -> Plan:
    """A plan of these steps whose digest is right."""
    return plan(steps=steps)


def changed(step: Step, **changes: Any) -> Step:
    """The step with other fields."""
    return msgspec.structs.replace(step, **changes)


FIRST, SECOND = plan().steps


def test_a_sound_plan_has_no_faults() -> None:
    assert plans.faults(plan()) == []
    assert plans.faults(plan(steps=())) == []


def test_a_step_changed_after_the_digest_is_found() -> None:
    call = msgspec.structs.replace(FIRST.call, args=json({"cents": 500}))
    forged = msgspec.structs.replace(plan(), steps=(changed(FIRST, call=call), SECOND))
    assert plans.faults(forged) == ["the plan's digest is not that of its steps"]


def test_a_plan_moved_to_another_task_or_domain_is_found() -> None:
    assert plan_digest("t1", "retail", ()) != plan_digest("t2", "retail", ())
    assert plan_digest("t1", "retail", ()) != plan_digest("t1", "bank", ())


def test_the_digest_does_not_count_white_space_but_every_argument() -> None:
    loose = changed(FIRST, call=msgspec.structs.replace(FIRST.call, args=msgspec.Raw(b'{ "cents" : 5 }')))
    assert plan_digest("t1", "retail", (loose,)) == plan_digest("t1", "retail", (FIRST,))
    assert plan_digest("t1", "retail", (changed(FIRST, optional=True),)) != plan_digest("t1", "retail", (FIRST,))


@pytest.mark.parametrize("key", ["", "wm-t1-s2", "wm-t2-s1", "chosen-by-a-model"])
def test_an_effect_key_that_the_runtime_did_not_make_is_found(key: str) -> None:
    found = plans.faults(with_steps(changed(FIRST, effect_key=key)))
    assert found == ["step s1 has an effect key that the runtime did not make"]


def test_two_steps_of_one_name_are_found() -> None:
    assert "two steps are called s1" in plans.faults(with_steps(FIRST, FIRST))


@pytest.mark.parametrize("need", ["s1", "s2", "nowhere"])
def test_a_step_that_needs_what_is_not_before_it_is_found(need: str) -> None:
    found = plans.faults(with_steps(changed(FIRST, needs=(need,)), SECOND))
    assert found == [f"step s1 needs {need}, which is no step before it"]
