"""Cases of a pack's prompts: a text, what the systems answer when they are read, and the plan that must come of it.

The rule: a case says what is to be done and no more: steps that may be left out, and the order of things in a list, are
nobody's concern.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import yaml

from agents.planner.handing import STEP
from agents.planner.reading import agreed_form
from mesh.errors import SettingsError
from mesh.records import Plan

FOLDER = "cases"


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the parts of a file of cases."""


class ExpectedStep(_Part, frozen=True, kw_only=True):
    """A step, with those of its arguments that matter."""

    tool: str
    args: dict[str, Any] = {}


class Expected(_Part, frozen=True, kw_only=True):
    """What must come of it: ``steps``, or that a ``person`` is asked or nothing done, for a reason that has this in it.

    Of the steps of a plan those count that are not optional, in order.
    """

    steps: tuple[ExpectedStep, ...] = ()
    person: str | None = None
    refusal: str | None = None

    def __post_init__(self) -> None:
        if bool(self.steps) + (self.person is not None) + (self.refusal is not None) != 1:
            raise ValueError("expect one of steps, person and refusal")


class Case(_Part, frozen=True, kw_only=True):
    """A text as the ``data`` of its ``event`` ("" is the first that the pack classifies).

    ``reads`` is what each read-only tool answers, by its name.
    """

    case: Annotated[str, msgspec.Meta(min_length=1)]
    data: dict[str, Any]
    expect: Expected
    event: str = ""
    reads: dict[str, Any] = {}


def load_cases(folder: Path) -> tuple[Case, ...]:
    """The cases of a folder's files, each a list; raises ``SettingsError`` naming the file."""
    found: dict[str, Case] = {}
    for path in sorted(folder.glob("*.yaml")):
        try:
            cases = msgspec.convert(yaml.safe_load(path.read_bytes()), tuple[Case, ...])
        except (msgspec.ValidationError, yaml.YAMLError) as error:
            raise SettingsError(f"cases {path}: {error}") from error
        for case in cases:
            if case.case in found:
                raise SettingsError(f"cases {path}: {case.case!r} is there twice")
            found[case.case] = case
    if not found:
        raise SettingsError(f"no cases (*.yaml) in {folder}")
    return tuple(found.values())


def fault_of(expected: Expected, plan: Plan) -> str:
    """What is wrong with a plan; nothing when it is what was expected."""
    handed = len(plan.steps) == 1 and plan.steps[0].id == STEP
    if expected.person is not None:
        return _for_reason(expected.person, plan.rationale) if handed else f"a person was to be asked, {_said(plan)}"
    if handed:
        return f"a person was asked: {plan.rationale}"
    if expected.refusal is not None:
        return _for_reason(expected.refusal, plan.refusal) if plan.refusal else f"nothing was to be done, {_said(plan)}"
    if plan.refusal:
        return f"nothing is to be done: {plan.refusal}"
    steps = [step for step in plan.steps if not step.optional]
    if [step.call.tool for step in steps] != [step.tool for step in expected.steps]:
        return _said(plan)
    for step, wanted in zip(steps, expected.steps, strict=True):
        args: Mapping[str, Any] = msgspec.json.decode(step.call.args)
        got = {name: args.get(name) for name in wanted.args}
        if _form(got) != _form(wanted.args):
            return f"{wanted.tool} with {msgspec.json.encode(got).decode()}"
    return ""


def _form(args: Mapping[str, Any]) -> str:
    return agreed_form(msgspec.Raw(msgspec.json.encode(args)))


def _for_reason(wanted: str, reason: str) -> str:
    return "" if wanted.casefold() in reason.casefold() else f"the reason was {reason!r}"


def _said(plan: Plan) -> str:
    steps = ", ".join(step.call.tool for step in plan.steps if not step.optional)
    return f"the plan was {steps}" if steps else f"nothing is to be done: {plan.refusal}"
