"""Cases of a pack's prompts: a text, what the systems would answer, and what must be made of it.

They stand in ``cases/*.yaml`` beside the prompt files; ``workmesh eval`` has a model answer them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from agents.planner.handing import STEP
from agents.planner.reading import agreed_form
from mesh.errors import SettingsError
from mesh.records import Plan


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the parts of a case."""


class ExpectedStep(_Part, frozen=True, kw_only=True):
    """A step that the plan must have. ``args`` are those that must be so; others are not looked at."""

    tool: str
    args: dict[str, Any] = {}


class Expected(_Part, frozen=True, kw_only=True):
    """What must come of it: a plan with exactly these ``steps``, a refusal, or that a person is asked.

    ``event_type`` is the request that must be understood.
    """

    outcome: Literal["plan", "refusal", "person"]
    event_type: str = ""
    steps: tuple[ExpectedStep, ...] = ()


class PromptCase(_Part, frozen=True, kw_only=True):
    """A text as the data of an event of ``type``. ``reads`` are the answers of read-only tools by the tool's name."""

    name: str
    type: str
    data: dict[str, Any]
    expect: Expected
    reads: dict[str, Any] = {}


def load_cases(folder: Path) -> tuple[PromptCase, ...]:
    """The cases beside a folder's prompts; raises ``SettingsError`` naming the file."""
    found: list[PromptCase] = []
    for path in sorted((folder / "cases").glob("*.yaml")):
        try:
            found += msgspec.convert(yaml.safe_load(path.read_bytes()), tuple[PromptCase, ...])
        except (msgspec.ValidationError, yaml.YAMLError) as error:
            raise SettingsError(f"prompt cases {path}: {error}") from error
    if len({case.name for case in found}) < len(found):
        raise SettingsError(f"prompt cases of {folder}: two have one name")
    return tuple(found)


def fault_of(expected: Expected, plan: Plan) -> str:
    """What is wrong with a plan; nothing when it is what was expected. The order of things in a list does not count."""
    is_handed = len(plan.steps) == 1 and plan.steps[0].id == STEP
    outcome = "refusal" if plan.refusal else "person" if is_handed else "plan"
    if outcome != expected.outcome:
        return f"{outcome} instead of {expected.outcome}: {_said(plan)}"
    if expected.outcome != "plan":
        return ""
    understood = plan.understood.event_type if plan.understood else ""
    if expected.event_type and understood != expected.event_type:
        return f"understood as {understood or 'nothing'}, not as {expected.event_type}"
    if [step.call.tool for step in plan.steps] != [step.tool for step in expected.steps]:
        return f"the steps are {_said(plan)}"
    for step, wanted in zip(plan.steps, expected.steps, strict=True):
        args: Mapping[str, Any] = msgspec.json.decode(step.call.args)
        got = {name: args.get(name) for name in wanted.args}
        if _form(got) != _form(wanted.args):
            return f"{wanted.tool} with {msgspec.json.encode(got).decode()}"
    return ""


def _form(args: Mapping[str, Any]) -> str:
    return agreed_form(msgspec.Raw(msgspec.json.encode(args)))


def _said(plan: Plan) -> str:
    if plan.refusal:
        return plan.refusal
    return plan.rationale if plan.steps and plan.steps[0].id == STEP else ", ".join(s.call.tool for s in plan.steps)
