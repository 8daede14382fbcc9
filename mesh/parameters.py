"""What playbook files declare for learning: variants of a playbook, and parameters with their bounds.

The rule: what is learned stays inside what a pack declares; nothing else of a playbook can be changed by it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml

from mesh.errors import SettingsError

Number = int | float
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,39}\Z")]

CANDIDATES = 4
"""How many values of a parameter are tried between its bounds, beside the bounds themselves."""


class Parameter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value that playbooks see as ``parameters.<name>``: what it is unless learned, and the bounds of what may be."""

    type: Literal["int", "number"]
    default: Number
    min: Number
    max: Number

    def __post_init__(self) -> None:
        if not self.min <= self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        for value in (self.default, self.min, self.max):
            if why := self.why_not(value):
                raise ValueError(why)

    def why_not(self, value: object) -> str:
        """Why this value cannot be taken; empty when it can."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"{value!r} is no number"
        if self.type == "int" and not isinstance(value, int):
            return f"{value!r} is no whole number"
        if not self.min <= value <= self.max:
            return f"{value!r} is not within {self.min} and {self.max}"
        return ""

    def candidates(self) -> tuple[Number, ...]:
        """Values to try: the bounds, and some between them."""
        width = self.max - self.min
        found = [self.min + width * part / (CANDIDATES + 1) for part in range(CANDIDATES + 2)]
        values = [round(value) if self.type == "int" else value for value in found]
        return tuple(dict.fromkeys(value for value in values if not self.why_not(value)))


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """What one playbook file declares; the rest of it is the planner's."""

    name: str
    events: tuple[str, ...]
    variant_of: str = ""
    parameters: Mapping[Name, Parameter] = {}

    @property
    def family(self) -> str:
        """The playbook that this one is, or is a variant of."""
        return self.variant_of or self.name


def read_declared(folder: Path) -> dict[str, Declared]:
    """The declarations of a folder of playbooks, by name; raises ``SettingsError`` naming the file."""
    found: dict[str, Declared] = {}
    for path in sorted(folder.glob("*.yaml")):
        try:
            declared = msgspec.convert(yaml.safe_load(path.read_bytes()), Declared)
        except (msgspec.ValidationError, yaml.YAMLError) as error:
            raise SettingsError(f"playbook {path.name}: {error}") from error
        found[declared.name] = declared
    return found


def why_no_variant(declared: Mapping[str, Any], target: str, value: object) -> str:
    """Why a playbook cannot be chosen in place of ``target``; empty when the pack declares it as its variant."""
    chosen = declared.get(value) if isinstance(value, str) else None
    if chosen is None:
        return f"there is no playbook {value!r}"
    if chosen.variant_of != target:
        return f"{value} is no variant of {target}"
    return ""
