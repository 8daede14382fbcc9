"""Staged autonomy on the bus: how far a tool may act by itself, the evidence for it, and people's words on it.

The rule: policy alone changes a stage, and what raises one holds the signed word of a person.
"""

from datetime import datetime
from enum import StrEnum

import msgspec

from mesh import subjects
from mesh.control import Act, Kind
from mesh.errors import SignatureError
from mesh.records import NULL, Json, Struct
from mesh.signing import STAGE_TYPE, open_envelope
from mesh.trust import TrustEntry

SIGNER_ROLE = "policy"


class Stage(StrEnum):
    """How far a tool may act by itself, least first."""

    OBSERVE = "observe"
    PROPOSE = "propose"
    SUPERVISED = "supervised"
    AUTONOMOUS = "autonomous"

    @property
    def rank(self) -> int:
        """0 for the least."""
        return list(Stage).index(self)

    def above(self) -> "Stage":
        """The next stage up; the highest stays."""
        return list(Stage)[min(len(Stage) - 1, self.rank + 1)]

    def below(self) -> "Stage":
        """The next stage down; the lowest stays."""
        return list(Stage)[max(0, self.rank - 1)]


class Evidence(Struct, frozen=True, kw_only=True):
    """What happened with a tool from ``since`` on: tasks that ended, of them in error, people's words, of them no's."""

    since: datetime
    tasks: int = 0
    errors: int = 0
    words: int = 0
    overrides: int = 0

    @property
    def error_rate(self) -> float:
        """Errors a task."""
        return self.errors / self.tasks if self.tasks else 0.0

    @property
    def override_rate(self) -> float:
        """How often a person said otherwise: a word that was a no, or of a task that needed none."""
        return self.overrides / max(self.words, self.tasks) if self.words or self.tasks else 0.0

    def sentence(self) -> str:
        """In words, for people."""
        return (
            f"{self.tasks} tasks since {self.since:%Y-%m-%d %H:%M}, {self.errors} in error ({self.error_rate:.1%}), "
            f"{self.overrides} overridden ({self.override_rate:.1%})"
        )


class StageAct(Act, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change of stage, signed by policy (its ``person``). One that raises holds the signed ``word`` for it."""

    domain: str
    tool: str
    before: Stage
    stage: Stage
    evidence: Evidence
    word: Json = NULL


class StageWord(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person signs to change the stage of a tool, ``before`` being the one that they saw."""

    domain: str
    tool: str
    before: Stage
    stage: Stage
    role: str
    person: str
    reason: str
    nonce: str
    at: datetime
    expires_at: datetime


class StageRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person's word on a stage: the DSSE envelope over a ``StageWord``."""

    signed: Json


class StageLine(msgspec.Struct, frozen=True, kw_only=True):
    """A tool's stage, since when and why, with the evidence since; ``next_needs`` is what it lacks to go up."""

    domain: str
    tool: str
    stage: Stage
    since: datetime | None
    person: str
    reason: str
    evidence: Evidence
    next_needs: str


def _subject(act: StageAct) -> str:
    return subjects.control("autonomy", act.domain, act.tool)


def _check(act: StageAct, entry: TrustEntry) -> None:
    """One stage up needs a person's word on exactly that; down, policy may go by itself."""
    if SIGNER_ROLE not in entry.roles:
        raise SignatureError(f"{entry.name} has not the role {SIGNER_ROLE}: only policy changes stages")
    if (opened := _opened(act)) is None:
        return
    said, _ = opened
    if act.stage is not act.before.above():
        raise SignatureError(f"from {act.before} a tool goes to {act.before.above()}, not to {act.stage}")
    if (said.domain, said.tool, said.before, said.stage) != (act.domain, act.tool, act.before, act.stage):
        raise SignatureError(f"the word of {said.person} is about another change of stage")


def _word(act: StageAct) -> tuple[str, str, str] | None:
    """Who said that a tool may act further."""
    if (opened := _opened(act)) is None:
        return None
    said, keyid = opened
    return keyid, said.person, said.role


def _opened(act: StageAct) -> tuple[StageWord, str] | None:
    """The word that an act which raises a stage must hold, and the key that signed it; other acts need none."""
    if act.stage.rank <= act.before.rank:
        return None
    return open_envelope(act.word, STAGE_TYPE, StageWord, lambda key: None)


AUTONOMY = Kind("autonomy", StageAct, _subject, _check, _word)
