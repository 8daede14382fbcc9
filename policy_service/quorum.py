"""Who must approve, and who has: roles, several people in one role, and those who may stand in after a time.

The rule: one person is one voice. Whoever holds two roles, or has corrected the plan, does not approve it twice.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from mesh.records import Decision, Struct

PEOPLE_MAX = 5  # in one role for one plan
_ROLE = re.compile(r"([a-z][a-z0-9_]{0,39})(?::([1-9]))?")


class QuorumError(ValueError):
    """A text that names no role."""


class Voice(Struct, frozen=True, kw_only=True):
    """One person's approval in one role. ``escalated`` says that it was given after the plan had been escalated."""

    person: str
    role: str
    escalated: bool = False


def read_roles(text: str) -> tuple[str, ...]:
    """The roles in an annotation such as ``refund_manager:2, auditor``: sorted, each once, with how many people.

    Raises ``QuorumError`` for what is no role in snake_case, or asks for more than ``PEOPLE_MAX`` people.
    """
    wanted: dict[str, int] = {}
    for part in text.split(","):
        match = _ROLE.fullmatch(part.strip())
        people = int(match.group(2) or 1) if match else 0
        if match is None or people > PEOPLE_MAX:
            raise QuorumError(
                f'"{text}" must name roles in snake_case, separated by commas; role:2 asks for two people, at most '
                f"{PEOPLE_MAX}"
            )
        wanted[match.group(1)] = max(people, wanted.get(match.group(1), 0))
    return tuple(sorted(written(role, people) for role, people in wanted.items()))


def name_of(token: str) -> str:
    """The role in ``role:2``."""
    return token.partition(":")[0]


def people_of(token: str) -> int:
    """How many people ``role:2`` asks for; 1 without a number."""
    return int(token.partition(":")[2] or 1)


def written(role: str, people: int) -> str:
    """``role`` for one person, ``role:2`` for two."""
    return role if people == 1 else f"{role}:{people}"


def joined(tokens: Iterable[str]) -> tuple[str, ...]:
    """The roles of several policies as one list: each once, with the most people that any of them asks for."""
    wanted: dict[str, int] = {}
    for token in tokens:
        wanted[name_of(token)] = max(people_of(token), wanted.get(name_of(token), 0))
    return tuple(sorted(written(role, people) for role, people in wanted.items()))


def granted(voices: Sequence[Voice], wanted: Iterable[str], stand_ins: Iterable[str] = ()) -> frozenset[str]:
    """What these approvals amount to: ``role``, and ``role:2`` and so on where several people gave it.

    A person counts once, with the first voice. One in a stand-in's role, given after the escalation, counts for the
    first role that still lacks somebody.
    """
    counts: Counter[str] = Counter()
    heard: set[str] = set()
    wanted, helping = joined(wanted), frozenset(stand_ins)
    names = {name_of(token) for token in wanted}
    for voice in voices:
        if voice.person in heard:
            continue
        heard.add(voice.person)
        if voice.role in helping and voice.role not in names and voice.escalated:
            lacking = (name_of(token) for token in wanted if counts[name_of(token)] < people_of(token))
            counts[next(lacking, voice.role)] += 1
        else:
            counts[voice.role] += 1
    return frozenset(written(role, n) for role, people in counts.items() for n in range(1, people + 1))


def missing(wanted: Iterable[str], approvals: frozenset[str]) -> tuple[str, ...]:
    """The roles that still lack somebody."""
    return tuple(token for token in joined(wanted) if token not in approvals)


def roles_of(decision: Decision) -> tuple[str, ...]:
    """The roles that must approve what was decided on, ``role:2`` where two people must."""
    return joined(role for step in decision.steps for role in step.roles)


def stand_ins_of(decision: Decision) -> tuple[str, ...]:
    """The roles that may act in place of those, once it has been escalated."""
    return tuple(sorted({role for step in decision.steps for role in step.stand_ins}))
