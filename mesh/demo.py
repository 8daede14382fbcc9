"""What a pack brings to be shown: sample data, the business systems to run beside it, and what they say afterwards.

The rule: what was applied is counted from the target's own log, never from ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import msgspec

from mesh.applied import Applied as Applied
from mesh.errors import SettingsError
from mesh.records import Context, Outcome
from mesh.supervisor import ChildSpec

GROUP = "workmesh.demos"


@dataclass(frozen=True, slots=True)
class Systems:
    """The business systems of a demonstration: processes to run, and the pack's options to reach them."""

    children: Sequence[ChildSpec]
    options: Mapping[str, Any]


class Demo(Protocol):
    """A demonstration of one pack."""

    sample: Path
    """A folder with ``events.jsonl``, ``expected.jsonl`` and the systems' data."""

    roles: tuple[str, ...]
    """The roles that the demonstration's own approvers have: one person each."""

    def systems(self, data: Path, folder: Path, faults: Mapping[str, Any]) -> Systems:
        """The systems on this data, with their state in ``folder``."""
        ...

    async def applied(self, options: Mapping[str, Any]) -> list[Applied]:
        """Every change in the targets' own logs."""
        ...

    async def world(self, options: Mapping[str, Any]) -> msgspec.Raw:
        """The final state of the systems, as JSON in the shape of the input files."""
        ...

    def differences(self, expected: Sequence[bytes], world: msgspec.Raw) -> list[str]:
        """Where the world differs from these lines of ``expected.jsonl``, in words."""
        ...


@runtime_checkable
class Measured(Protocol):
    """What a demonstration may have beside: measures of the pack's own, which the report shows."""

    def measures(self, tasks: Sequence[tuple[Context, Outcome]]) -> Mapping[str, float]:
        """The measures by name, from what the journal has of the tasks that have ended."""
        ...


def load_demo(name: str) -> Demo:
    """The demonstration of a pack; raises ``SettingsError`` when there is none."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        raise SettingsError(f"no demo of a pack {name!r}: there are {', '.join(sorted(found)) or 'none'}")
    demo: Demo = found[name].load()
    return demo
