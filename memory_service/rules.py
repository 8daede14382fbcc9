"""The rules of facts: what is current, superseded, contested or retracted in one slot at one time. Pure.

The rule: a status is a function of what was recorded and of the moment that is asked about, so nothing is overwritten,
and what a retracted fact had displaced stands again by itself.

In order, for a predicate that has one value at a time:

1. A fact counts while its validity holds, unless it was retracted, its ground was (then it is contested), or a person
   decided against it. What somebody else retracted and its source says again is contested.
2. Of one source only its latest claim counts, if it has the same authority.
3. The highest authority stands. Among canonical sources the one that was there first stands; another is contested.
   What a person chose has at least the authority of what it was chosen over.
4. Among equals the later validity stands; claims of the same moment with different values are contested.
5. The others are superseded, but a weaker claim that came after a stronger one is contested: somebody says otherwise.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from mesh.facts import CANONICAL, Cardinality, Fact, FactStatus


@dataclass(frozen=True, slots=True)
class Mark:
    """What an act did to a fact: when, at which sequence, by whom (or by which fact), and why."""

    at: datetime
    seq: int
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """A person's choice that made this fact stand: its authority then, and the sources that it was chosen over."""

    mark: Mark
    authority: int
    sources: frozenset[str]


@dataclass(frozen=True, slots=True)
class Held:
    """A fact as the stream has it (``seq``), with the acts on it that are known at the time that is asked about."""

    fact: Fact
    seq: int
    retracted: Mark | None = None
    undermined: Mark | None = None
    settled: Mark | None = None
    chosen: Choice | None = None

    @property
    def is_acted_on(self) -> bool:
        """Whether any act is on it."""
        return bool(self.retracted or self.undermined or self.settled or self.chosen)


class Judgement(NamedTuple):
    """What is made of one fact, why, and by which others."""

    status: FactStatus
    reason: str = ""
    by: tuple[str, ...] = ()


class _Contender(NamedTuple):
    """A fact that counts at the moment. ``rank`` is its authority, ``since`` orders it among equals."""

    held: Held
    rank: int
    since: datetime
    value: bytes

    @property
    def id(self) -> str:
        return self.held.fact.id

    @property
    def version(self) -> int:
        return self.held.fact.version


def judge(slot: Sequence[Held], at: datetime) -> dict[str, Judgement]:
    """What is made of each fact of a slot at this moment; facts whose validity does not hold then are left out."""
    if len(slot) == 1 and not slot[0].is_acted_on:
        return {slot[0].fact.id: Judgement(FactStatus.CURRENT)} if covers(slot[0].fact, at) else {}
    found: dict[str, Judgement] = {}
    open_: list[Held] = []
    retracted = {(held.fact.source.uri, value_of(held.fact)): held.retracted for held in slot if held.retracted}
    for held in slot:
        if not covers(held.fact, at):
            continue
        if (said := _by_act(held) or _said_again(held, retracted)) is not None:
            found[held.fact.id] = said
        else:
            open_.append(held)
    if any(held.fact.cardinality is Cardinality.MANY for held in open_):
        return found | {held.fact.id: Judgement(FactStatus.CURRENT) for held in open_}
    return found | _one(open_)


def judge_at_its_time(slot: Sequence[Held], held: Held, at: datetime) -> Judgement:
    """What is made of a fact at ``at``, or at the nearest moment of its validity."""
    fact = held.fact
    moment = max(at, fact.valid_from)
    if fact.valid_to is not None and moment >= fact.valid_to:
        said = _by_act(held)
        return said or Judgement(FactStatus.SUPERSEDED, f"its validity ended {fact.valid_to.isoformat()}")
    return judge(slot, moment)[fact.id]


def covers(fact: Fact, at: datetime) -> bool:
    """Whether the fact claims to be true at this moment (``valid_to`` is the first at which it is not)."""
    return fact.valid_from <= at and (fact.valid_to is None or at < fact.valid_to)


def standing(slot: Sequence[Held], at: datetime) -> list[Held]:
    """The facts that are current, the highest authority and the latest validity first."""
    judged = judge(slot, at)
    found = [held for held in slot if held.fact.id in judged and judged[held.fact.id].status is FactStatus.CURRENT]
    return sorted(found, key=lambda held: (_rank(held), held.fact.valid_from, held.fact.version), reverse=True)


def once(facts: Iterable[Held]) -> list[Held]:
    """Of several facts that say the same the first."""
    found: dict[bytes, Held] = {}
    for held in facts:
        found.setdefault(value_of(held.fact), held)
    return list(found.values())


def same_claim(slot: Iterable[Held], claim: Fact) -> Held | None:
    """The fact that already says this: the last word of the same source, alive, with this value and validity.

    ``claim.valid_from`` equal to ``recorded_at`` asks for no moment of its own: then the validity need not be the same.
    """
    of_source = [held for held in slot if held.fact.source.uri == claim.source.uri and held.retracted is None]
    if claim.cardinality is Cardinality.ONE:
        of_source = of_source[-1:]
    any_time = claim.valid_from == claim.recorded_at
    for held in reversed(of_source):
        fact = held.fact
        if value_of(fact) != value_of(claim) or fact.source.authority != claim.source.authority:
            continue
        if held.settled is not None:
            return held  # a person decided against it: saying it again does not bring it back
        if (any_time or fact.valid_from == claim.valid_from) and fact.valid_to == claim.valid_to:
            return held
    return None


def value_of(fact: Fact) -> bytes:
    """What two facts have in common that say the same; their values are kept as canonical JSON."""
    return fact.type.encode() + b" " + bytes(fact.value)


def _by_act(held: Held) -> Judgement | None:
    """What acts alone make of a fact."""
    if (mark := held.retracted) is not None:
        return Judgement(FactStatus.RETRACTED, mark.reason or f"retracted by {mark.by}", ())
    if (mark := held.undermined) is not None:
        return Judgement(FactStatus.CONTESTED, f"it rests on {mark.by}, which was retracted", (mark.by,))
    if (mark := held.settled) is not None:
        return Judgement(FactStatus.SUPERSEDED, f"{mark.by} decided against it: {mark.reason}".rstrip(": "))
    return None


def _said_again(held: Held, retracted: Mapping[tuple[str, bytes], Mark]) -> Judgement | None:
    if not retracted or held.chosen is not None:
        return None
    mark = retracted.get((held.fact.source.uri, value_of(held.fact)))
    if mark is None or mark.seq >= held.seq or mark.by == held.fact.asserted_by:
        return None
    return Judgement(FactStatus.CONTESTED, f"{mark.by} retracted the same before")


def _one(open_: Sequence[Held]) -> dict[str, Judgement]:
    found: dict[str, Judgement] = {}
    contenders = [_contender(held) for held in open_]
    latest: dict[tuple[str, int], list[_Contender]] = {}
    for one in contenders:
        latest.setdefault((one.held.fact.source.uri, one.rank), []).append(one)
    counted: list[_Contender] = []
    for claims in latest.values():
        # A source that says two things of one moment leaves both.
        since = max(one.since for one in claims)
        newest = [one for one in claims if one.since == since]
        last = [one for one in newest if not any(_corrects(other, one) for other in newest)]
        counted += last
        for one in claims:
            if one not in last:
                found[one.id] = Judgement(FactStatus.SUPERSEDED, "its source said otherwise later", (last[0].id,))
    if counted:
        found |= _among(counted, _incumbent(contenders))
    return found


def _incumbent(contenders: Sequence[_Contender]) -> frozenset[str]:
    """The sources that may change what is canonical: the last that a person chose and those it was chosen over, or
    the one that was there first."""
    canonical = [one.held for one in contenders if one.rank >= CANONICAL]
    chosen = [(held.chosen.mark.seq, held) for held in canonical if held.chosen is not None]
    if chosen:
        _, last = max(chosen, key=lambda pair: pair[0])
        assert last.chosen is not None
        return last.chosen.sources | {last.fact.source.uri}
    return frozenset({min(canonical, key=lambda held: held.fact.version).fact.source.uri} if canonical else ())


def _contender(held: Held) -> _Contender:
    since = max(held.fact.valid_from, held.chosen.mark.at) if held.chosen else held.fact.valid_from
    return _Contender(held, _rank(held), since, value_of(held.fact))


def _rank(held: Held) -> int:
    own = held.fact.source.authority
    return max(own, held.chosen.authority) if held.chosen else own


def _corrects(one: _Contender, other: _Contender) -> bool:
    """Whether a claim takes the place of another of the same source and moment."""
    if one.value == other.value or one.held.fact.source.digest != other.held.fact.source.digest:
        return one.version > other.version
    return False


def _among(contenders: list[_Contender], incumbent: frozenset[str]) -> dict[str, Judgement]:
    """The judgement of the latest claims of each source."""
    top = max(one.rank for one in contenders)
    leaders = [one for one in contenders if one.rank == top]
    rivals: list[_Contender] = []
    if top >= CANONICAL:
        rivals = [one for one in leaders if one.held.fact.source.uri not in incumbent]
        leaders = [one for one in leaders if one.held.fact.source.uri in incumbent]
    since = max(one.since for one in leaders)
    first = [one for one in leaders if one.since == since]
    values = {one.value for one in first}
    ids = tuple(one.id for one in first)
    found: dict[str, Judgement] = {}
    if len(values) > 1:
        for one in first:
            found[one.id] = Judgement(
                FactStatus.CONTESTED,
                "another claim of the same moment and authority says otherwise",
                tuple(i for i in ids if i != one.id),
            )
    else:
        found |= {one.id: Judgement(FactStatus.CURRENT) for one in first}
    standing = next(iter(values)) if len(values) == 1 else None
    came = min(one.version for one in first)
    for one in contenders:
        if one.id not in found:
            found[one.id] = _other(one, one in rivals, top, standing, came, ids)
    return found


def _other(
    one: _Contender, is_rival: bool, top: int, standing: bytes | None, came: int, ids: tuple[str, ...]
) -> Judgement:
    """A claim that is not among the first."""
    if one.value == standing:
        return Judgement(FactStatus.CURRENT, "another source says the same", ids)
    if is_rival:
        return Judgement(FactStatus.CONTESTED, "another canonical source was there first", ids)
    if one.rank == top:
        return Judgement(FactStatus.SUPERSEDED, "a later claim of the same authority stands", ids)
    if one.version > came:
        return Judgement(FactStatus.CONTESTED, "it came after a claim of a higher authority, which stands", ids)
    return Judgement(FactStatus.SUPERSEDED, "a claim of a higher authority stands", ids)
