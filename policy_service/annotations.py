"""The annotations of a policy: what Cedar carries along without reading, and this project gives a meaning.

``@id`` (required), ``@reason`` and ``@rank`` explain; ``@approval``, ``@escalate_after``, ``@escalate_to`` and
``@obligation`` bind.
The rule: an annotation that would have no effect, or not the one meant, is refused.
"""

import re
from datetime import timedelta
from typing import Literal

import msgspec

from mesh import obligations
from mesh.records import Obligation, Struct
from policy_service.quorum import QuorumError, people_of, read_roles

KNOWN = ("approval", "escalate_after", "escalate_to", "id", "obligation", "rank", "reason")
LAST_RANK = 1000  # where a policy without @rank stands among the reasons

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ACTION = b'{"Var":"action"}'


class AnnotationError(ValueError):
    """A policy's annotations are wrong; ``policy`` is its id as far as it has one."""

    def __init__(self, problem: str, policy: str = "") -> None:
        super().__init__(problem)
        self.policy = policy


class _CedarEntity(msgspec.Struct):
    """An entity in Cedar's JSON form."""

    type: str = ""
    id: str = ""


class _CedarScope(msgspec.Struct):
    """One part of a policy's head, in Cedar's JSON form."""

    op: str
    entity: _CedarEntity | None = None

    def literal(self, kind: str) -> str:
        """The id, when the head says ``== Kind::"id"``; else empty."""
        named = self.op == "==" and self.entity is not None and self.entity.type == kind
        return self.entity.id if named and self.entity is not None else ""


class _CedarPolicy(msgspec.Struct):
    """What is read of a policy in Cedar's JSON form (its conditions are Cedar's alone)."""

    effect: Literal["permit", "forbid"]
    action: _CedarScope
    resource: _CedarScope
    annotations: dict[str, str | None] = {}


class Policy(Struct, frozen=True, kw_only=True):
    """A policy's name and annotations. ``tool`` is empty unless the head names one literally.

    ``roles`` must approve (``role:2`` is two people); ``stand_ins`` may do it for them after ``escalate_after``.
    ``both`` says that nothing in the policy asks which action it is: it holds for ``propose`` and ``execute`` alike.
    """

    id: str
    file: str
    effect: Literal["permit", "forbid"]
    tool: str = ""
    both: bool = False
    reason: str = ""
    rank: int = LAST_RANK
    roles: tuple[str, ...] = ()
    escalate_after: timedelta | None = None
    stand_ins: tuple[str, ...] = ()
    obligations: tuple[Obligation, ...] = ()

    @property
    def order(self) -> tuple[int, str]:
        """Where it stands among determining policies: the most basic reason first, then by id."""
        return self.rank, self.id


def read_policy(text: bytes, file: str) -> Policy:
    """A policy in Cedar's JSON form as its annotations with their meaning; raises ``AnnotationError``."""
    source = msgspec.json.decode(text, type=_CedarPolicy)
    notes = {name: value or "" for name, value in source.annotations.items()}
    name = notes.get("id", "")
    if not _ID.fullmatch(name):
        raise AnnotationError('needs an @id("...") of letters, digits, dots and dashes', name)
    if unknown := sorted(set(notes) - set(KNOWN)):
        raise AnnotationError(f"unknown annotation @{unknown[0]}: known are {', '.join(KNOWN)}", name)
    try:
        return Policy(
            id=name,
            file=file,
            effect=source.effect,
            tool=source.resource.literal("Tool"),
            both=source.action.op == "All" and _ACTION not in b"".join(text.split()),
            reason=notes.get("reason", ""),
            rank=_rank(notes),
            roles=_roles(notes, source),
            escalate_after=_escalation(notes),
            stand_ins=_stand_ins(notes),
            obligations=_obligations(notes, source),
        )
    except AnnotationError as error:
        raise AnnotationError(str(error), name) from error


def _rank(notes: dict[str, str]) -> int:
    text = notes.get("rank", str(LAST_RANK))
    if not (text.isascii() and text.isdigit()):
        raise AnnotationError(f'@rank("{text}") must be a whole number: lower ranks give their reason first')
    return int(text)


def _roles(notes: dict[str, str], source: _CedarPolicy) -> tuple[str, ...]:
    if "approval" not in notes:
        return ()
    if source.effect != "permit" or source.action.literal("Action") != "propose":
        raise AnnotationError('@approval belongs on a permit with action == Action::"propose" only')
    try:
        return read_roles(notes["approval"])
    except QuorumError as error:
        raise AnnotationError(f"@approval({error})") from error


def _escalation(notes: dict[str, str]) -> timedelta | None:
    if "escalate_after" not in notes:
        return None
    if "approval" not in notes or "escalate_to" not in notes:
        raise AnnotationError("@escalate_after needs @approval and @escalate_to: who is waited for, and who comes next")
    text = notes["escalate_after"]
    try:
        wait = msgspec.convert(text, timedelta)
    except msgspec.ValidationError:
        wait = timedelta()
    if wait <= timedelta():
        raise AnnotationError(f'@escalate_after("{text}") must be an ISO 8601 duration, such as PT30M')
    return wait


def _stand_ins(notes: dict[str, str]) -> tuple[str, ...]:
    if "escalate_to" not in notes:
        return ()
    if "escalate_after" not in notes:
        raise AnnotationError("@escalate_to without @escalate_after never comes to pass: say after how long")
    try:
        roles = read_roles(notes["escalate_to"])
    except QuorumError as error:
        raise AnnotationError(f"@escalate_to({error})") from error
    if any(people_of(role) > 1 for role in roles):
        raise AnnotationError("@escalate_to names roles without numbers: each of them stands in for one person")
    return roles


def _obligations(notes: dict[str, str], source: _CedarPolicy) -> tuple[Obligation, ...]:
    """What ``@obligation("notify:owner; receipt:/id")`` asks for: several are separated by semicolons."""
    if "obligation" not in notes:
        return ()
    if source.effect != "permit":
        raise AnnotationError('@obligation("name:value") belongs on a permit')
    try:
        return tuple(obligations.parse(part.strip()) for part in notes["obligation"].split(";"))
    except obligations.ObligationError as error:
        raise AnnotationError(f"@obligation: {error}") from error
