"""Replay: planner and policy run again from the journal with effects off; what would differ is said.

The rule: a replay has what the journal holds and nothing else: no credentials, no tools, no executor. Only where a
person names a model to compare with is that one asked.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

import msgspec

from mesh.canonical import canonical_json
from mesh.experience import LearnedUse
from mesh.journal import Stored
from mesh.records import Plan
from mesh.settings import ModelSettings

GROUP = "workmesh.replay"


@dataclass(frozen=True, slots=True)
class Recorded:
    """A task's records, and the policy bundles (as published) to decide under, recorded ones first.

    ``learned`` are learned changes to assume instead of those that the plan was made under. With a ``model`` that one
    is asked anew what models were asked, where ``models`` say.
    """

    items: Sequence[Stored]
    bundles: Sequence[msgspec.Raw] = ()
    learned: Sequence[LearnedUse] | None = None
    model: str = ""
    models: ModelSettings | None = None


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One value that a replay makes otherwise than the record says."""

    stage: str
    field: str
    recorded: msgspec.Raw
    replayed: msgspec.Raw


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What one stage made again: how many records, and what differs.

    ``plan`` is the planner's, made again under what it was to assume. ``unknown`` says why the stage cannot tell:
    nothing is guessed.
    """

    stage: str
    records: int
    differences: tuple[Difference, ...] = ()
    plan: Plan | None = None
    unknown: str = ""


Replay = Callable[[Recorded], Replayed]


def load_replays() -> dict[str, Replay]:
    """The stages that can be replayed, in the order of the flow."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    order = ["planner", "policy", *sorted(found.keys() - {"planner", "policy"})]
    return {name: found[name].load() for name in order if name in found}


def compare(stage: str, recorded: Mapping[str, Any], replayed: Mapping[str, Any]) -> tuple[Difference, ...]:
    """The fields whose canonical JSON differs."""
    found = []
    for field, value in recorded.items():
        before, after = canonical_json(value), canonical_json(replayed[field])
        if before != after:
            found.append(
                Difference(stage=stage, field=field, recorded=msgspec.Raw(before), replayed=msgspec.Raw(after))
            )
    return tuple(found)
