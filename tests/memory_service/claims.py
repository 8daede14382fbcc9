"""Claims and histories for tests of the rules of facts."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from memory_service.admitting import SlotState, admit
from memory_service.rules import Choice, Held, Mark
from mesh.facts import Cardinality, Claim, Fact, Scope, Slot, Source

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
SCOPE = Scope(domain="retail")
SLOT = Slot(scope=SCOPE, subject="customer/7", predicate="address")


def day(number: float) -> datetime:
    """A day of 2026, from 0."""
    return BEGIN + timedelta(days=number)


def claim(value: Any, *, uri: str = "crm:7", authority: int = 1, digest: str = "", **more: Any) -> Claim:
    """A claim about the address of customer 7."""
    return Claim(
        scope=SCOPE,
        subject=more.pop("subject", SLOT.subject),
        predicate=more.pop("predicate", SLOT.predicate),
        value=msgspec.Raw(msgspec.json.encode(value)),
        source=Source(uri=uri, authority=authority, digest=digest),
        **more,
    )


class History:
    """One slot, to which claims and acts are added in order, as the stream would have them. Times go up by a day."""

    def __init__(self) -> None:
        self.held: list[Held] = []
        self.seq = 0

    @property
    def now(self) -> datetime:
        """The time of the last event."""
        return day(self.seq)

    def say(self, value: Any, *, by: str = "agent", **more: Any) -> str:
        """Admit a claim; the id of its fact."""
        self.seq += 1
        state = SlotState(SLOT, tuple(self.held), self.seq - 1, len(self.held))
        admitted = admit(state, [claim(value, **more)], by, self.now)
        self.held += [Held(fact, self.seq) for fact in admitted.facts]
        return admitted.ids[0]

    def retract(self, *ids: str, by: str = "person") -> None:
        """Retract facts."""
        self.seq += 1
        self._act(ids, retracted=Mark(self.now, self.seq, by))

    def resolve(self, chosen: str, by: str = "steward") -> None:
        """Have a person choose a fact, or none, over all others."""
        self.seq += 1
        mark = Mark(self.now, self.seq, by)
        over = [one.fact for one in self.held if one.fact.id != chosen and one.retracted is None]
        authority = max((fact.source.authority for fact in over), default=0)
        self._act([fact.id for fact in over], settled=mark, chosen=None)
        if chosen:
            choice = Choice(mark, authority, frozenset(fact.source.uri for fact in over))
            self._act([chosen], chosen=choice, settled=None, undermined=None)

    def fact(self, fact_id: str) -> Fact:
        """A fact by its id."""
        return next(one.fact for one in self.held if one.fact.id == fact_id)

    def _act(self, ids: Sequence[str], **marks: Any) -> None:
        self.held = [replace(one, **marks) if one.fact.id in ids else one for one in self.held]


def many(value: Any, **more: Any) -> Claim:
    """A claim of a predicate that has many values at a time."""
    return claim(value, cardinality=Cardinality.MANY, **more)
