"""Which plan of a task is wanted: the first, the next after a void one, or none because one stands."""

from collections.abc import Sequence
from dataclasses import dataclass

from mesh.journal import Stored
from mesh.plans import declared_void, plans_of


@dataclass(frozen=True, slots=True)
class Place:
    """Where a plan stands among those of its task: its revision, the facts that the one before fell by, and why."""

    revision: int = 0
    old: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


FIRST = Place()


def place_of(items: Sequence[Stored]) -> Place | None:
    """The place of the next plan of a task, by its records; ``None`` when one stands."""
    if not (found := plans_of(items)):
        return FIRST
    void = declared_void(items, found[-1])
    if void is None:
        return None
    return Place(found[-1].revision + 1, frozenset(void.void), (f"planned anew: {void.reason}",))
