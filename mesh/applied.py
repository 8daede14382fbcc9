"""What a target says that was done to it: pages of its own log of changes, by the keys that they came with.

The rule: it is the target's word, read back; nothing here is taken from the journal.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Applied:
    """One change in a target's own log: the effect key it came with, and what it was."""

    key: str
    kind: str


@dataclass(frozen=True, slots=True)
class AppliedPage:
    """A page of a target's log, and where the next begins. The last page is one without changes."""

    changes: Sequence[Applied]
    cursor: str


TargetLog = Callable[[Any, str], Awaitable[AppliedPage]]
"""``(system, cursor)``: the changes behind a cursor, "" at first; raises a ``ToolError`` when it cannot be read."""
