"""Cases of a pack's prompts: a text, what the systems would answer, and what must be made of it.

They stand in ``cases/*.yaml`` beside the prompt files; ``workmesh eval`` has a model answer them.
"""

from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from mesh.errors import SettingsError


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
