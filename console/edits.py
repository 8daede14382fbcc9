"""A person's edits of a plan, from the command line to the changes that are signed.

The rule: what is signed is each changed step's arguments whole, as they would be executed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from mesh.approvals import Shown
from mesh.errors import WorkmeshError
from mesh.records import Change


@dataclass(frozen=True, slots=True)
class Edits:
    """``STEP.ARG=VALUE`` and steps to leave out, as they were typed; or the candidate that is chosen."""

    settings: Sequence[str] = ()
    drops: Sequence[str] = ()
    choose: int = 0

    def changes(self, shown: Shown) -> tuple[Change, ...]:
        """The changes of what was shown; raises ``WorkmeshError`` for an edit of what is not there."""
        if self.choose:
            digest = {candidate.number: candidate.digest for candidate in shown.candidates}.get(self.choose)
            if digest is None:
                raise WorkmeshError(f"no candidate {self.choose}: the plan has {len(shown.candidates)}")
            return (Change(step="", choose=self.choose, digest=digest),)
        steps = {step.id: msgspec.json.decode(step.call.args, type=dict[str, Any]) for step in shown.steps}
        edited: dict[str, dict[str, Any]] = {}
        for typed in self.settings:
            place, sign, value = typed.partition("=")
            step, dot, argument = place.partition(".")
            if not sign or not dot or step not in steps or argument not in steps[step]:
                known = ", ".join(f"{name}.{each}" for name, args in steps.items() for each in args)
                raise WorkmeshError(f"--set {typed!r}: expected STEP.ARG=VALUE, with one of {known}")
            edited.setdefault(step, dict(steps[step]))[argument] = _value(value)
        for step in self.drops:
            if step not in steps:
                raise WorkmeshError(f"--drop {step}: the plan has no such step, only {', '.join(steps)}")
        found = [Change(step=step, args=msgspec.Raw(msgspec.json.encode(args))) for step, args in edited.items()]
        return (*found, *(Change(step=step, drop=True) for step in self.drops))


def _value(text: str) -> Any:
    """JSON where it is JSON, else the text as it stands."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
