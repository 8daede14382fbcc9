"""From claims to facts of one slot: what is new, what was said before, and what may not be said. Pure.

The rule: a claim that is refused changes nothing, and one that says what stands already makes no fact.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from memory_service.rules import Held, same_claim, standing, value_of
from mesh.canonical import canonical_json
from mesh.errors import TerminalError
from mesh.facts import Cardinality, Claim, Fact, Slot

FACTS_MAX = 1000  # living facts of one slot: more are several subjects, or a history that nobody reads


@dataclass(frozen=True, slots=True)
class SlotState:
    """A slot as the view has it: its facts in the order they were recorded, and where its last event stands."""

    slot: Slot
    held: Sequence[Held] = ()
    seq: int = 0
    version: int = 0


@dataclass(frozen=True, slots=True)
class Admitted:
    """The new facts, and for each claim the id of the fact that it became or already was."""

    facts: tuple[Fact, ...]
    ids: tuple[str, ...]


def admit(state: SlotState, claims: Sequence[Claim], by: str, at: datetime) -> Admitted:
    """The facts that these claims of one slot make; raises ``TerminalError`` for one that cannot be taken."""
    held = list(state.held)
    version = state.version
    facts: list[Fact] = []
    ids: list[str] = []
    for claim in claims:
        fact = _fact(claim, state.slot, version + 1, by, at)
        _check_cardinality(held, fact)
        if (said := same_claim(held, fact)) is not None:
            ids.append(said.fact.id)
            continue
        if claim.expected is not None and claim.expected != version:
            raise TerminalError(
                f"{_name(state.slot)} stands at version {version}, not at {claim.expected}: look again, then repeat"
            )
        fact = msgspec.structs.replace(fact, supersedes=_displaced(held, fact))
        version += 1
        held.append(Held(fact, state.seq + 1 + len(facts)))
        facts.append(fact)
        ids.append(fact.id)
    if facts and sum(one.retracted is None for one in held) > FACTS_MAX:
        raise TerminalError(f"{_name(state.slot)} holds {FACTS_MAX} facts: spread them over more subjects")
    return Admitted(tuple(facts), tuple(ids))


def _fact(claim: Claim, slot: Slot, version: int, by: str, at: datetime) -> Fact:
    try:
        value = msgspec.Raw(canonical_json(claim.value))
    except (ValueError, OverflowError, RecursionError) as error:
        raise TerminalError(f"the value of {_name(slot)} is not JSON that can be read back: {error}") from error
    return Fact(
        id=f"{slot.id}-{version}",
        version=version,
        scope=claim.scope,
        subject=claim.subject,
        predicate=claim.predicate,
        type=claim.type,
        value=value,
        text=claim.text.strip() or sentence(claim.subject, claim.predicate, value),
        cardinality=claim.cardinality,
        source=claim.source,
        asserted_by=by,
        recorded_at=at,
        valid_from=claim.valid_from or at,
        valid_to=claim.valid_to,
        evidence=claim.evidence,
        derived_from=claim.derived_from,
        confidence=claim.confidence,
    )


def sentence(subject: str, predicate: str, value: msgspec.Raw) -> str:
    """A fact in words, for finding it: ``customer/7 preferred language: German``."""
    plain = msgspec.json.decode(value)
    said = plain if isinstance(plain, str) else bytes(value).decode()
    return f"{subject} {predicate.replace('_', ' ')}: {said}"


def _check_cardinality(held: Sequence[Held], fact: Fact) -> None:
    living = next((one.fact for one in held if one.retracted is None), None)
    if living is not None and living.cardinality is not fact.cardinality:
        raise TerminalError(
            f"{_name(fact.slot)} has {living.cardinality} value(s) at a time: say so, or retract what is there first"
        )


def _displaced(held: Sequence[Held], fact: Fact) -> str:
    """The fact that stood at the new one's beginning and says otherwise, if the new one will stand there."""
    if fact.cardinality is Cardinality.MANY:
        return ""
    before = [one for one in standing(held, fact.valid_from) if value_of(one.fact) != value_of(fact)]
    if not before:
        return ""
    seq = max(one.seq for one in held) + 1
    after = standing([*held, Held(fact, seq)], fact.valid_from)
    return before[0].fact.id if any(one.fact.id == fact.id for one in after) else ""


def _name(slot: Slot) -> str:
    return f"{slot.predicate!r} of {slot.subject!r} in {slot.scope.text}"
