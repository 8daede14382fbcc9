"""What was learned, on the bus: proposals, people's signed words on them, and the acts that put them in force.

The rule: the learner alone signs these acts, and none of them changes anything without the signed word of a person on
exactly that change; without one it can only go back to what was in force before.
"""

from datetime import datetime
from enum import StrEnum
from urllib.parse import quote

import msgspec

from mesh import subjects
from mesh.canonical import canonical_json, token
from mesh.control import Act, Kind
from mesh.errors import SignatureError, TerminalError
from mesh.lifecycle import Lifecycle
from mesh.records import NULL, Json, Struct
from mesh.signing import LEARNED_TYPE, open_envelope
from mesh.trust import TrustEntry

SIGNER_ROLE = "learner"
APPROVER_ROLE = "learning_admin"
BACK_ROLES = (APPROVER_ROLE, "operator")
"""Who may have a change taken back: going back needs no more than the kill switch does."""

Value = str | int | float | None


class ChangeKind(StrEnum):
    """What can be proposed. Policies, limits, roles and keys are no kind: nothing learned can name them."""

    CHOICE = "choice"
    THRESHOLD = "threshold"
    AUTONOMY = "autonomy"
    FACT = "fact"


PLANNED = (ChangeKind.CHOICE, ChangeKind.THRESHOLD)
"""The kinds that planners follow. A stage of autonomy is policy's to change, a fact memory's."""


class LearnedChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One change: of ``target`` from ``before`` to ``value``; null is what the pack says.

    ``choice``: of a playbook, the variant used in its place. ``threshold``: of a playbook, its ``parameter``.
    ``autonomy``: of a tool, its stage. ``fact``: of a subject, under a predicate (``parameter``), the text.
    """

    kind: ChangeKind
    domain: str
    target: str
    parameter: str = ""
    before: Value = None
    value: Value = None

    def sentence(self) -> str:
        """In words."""
        before, value = (f"{part}" if part is not None else "the pack's own" for part in (self.before, self.value))
        match self.kind:
            case ChangeKind.CHOICE:
                return f"plan {self.target} by {value} (now {before})"
            case ChangeKind.THRESHOLD:
                return f"set {self.parameter} of {self.target} to {value} (now {before})"
            case ChangeKind.AUTONOMY:
                return f"raise {self.target} from {before} to {value}"
            case ChangeKind.FACT:
                return f"remember of {self.target}: {value}"


class Count(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A named number that a proposal rests on."""

    name: str
    value: float


class TaskDifference(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A past task that would have gone otherwise: how it ended, and what would have been planned."""

    task_id: str
    recorded: str
    replayed: str


class ShadowReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Past tasks planned again under the change, with effects off: how many are the same, better, worse, or not to be
    told from the journal (``unknown``). ``before`` and ``after`` are the ``measure`` over those that can be told; ``p``
    is the probability of so many better ones by chance (``test``).
    """

    measure: str
    tasks: int
    same: int
    better: int
    worse: int
    unknown: int
    before: float
    after: float
    p: float
    test: str
    differences: tuple[TaskDifference, ...] = ()
    unknowns: tuple[str, ...] = ()


class Proposal(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change with what speaks for it. ``version`` counts the proposals for one target; ``records`` are subjects."""

    change: LearnedChange
    why: str
    gain: str
    evidence: tuple[Count, ...]
    records: tuple[str, ...]
    made_at: datetime
    version: int
    shadow: ShadowReport | None = None
    person: str = ""

    @property
    def id(self) -> str:
        """A function of the whole content, as it is read from the wire: there a whole float is no integer."""
        read = msgspec.json.decode(msgspec.json.encode(self), type=Proposal)
        return token("proposal", canonical_json(read).decode())


class ProposalState(StrEnum):
    """Where a proposal stands: ``remembered`` is an approved fact that memory has; ``replaced`` by one for the same
    target; ``withdrawn`` when what it rests on is gone.
    """

    PROPOSED = "proposed"
    APPROVED = "approved"
    REMEMBERED = "remembered"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    REPLACED = "replaced"
    ROLLED_BACK = "rolled_back"


PROPOSAL: Lifecycle[ProposalState, ProposalState] = Lifecycle(
    "proposal",
    ProposalState.PROPOSED,
    {
        (ProposalState.PROPOSED, ProposalState.APPROVED): ProposalState.APPROVED,
        (ProposalState.PROPOSED, ProposalState.REJECTED): ProposalState.REJECTED,
        (ProposalState.PROPOSED, ProposalState.WITHDRAWN): ProposalState.WITHDRAWN,
        (ProposalState.APPROVED, ProposalState.REMEMBERED): ProposalState.REMEMBERED,
        (ProposalState.REMEMBERED, ProposalState.ROLLED_BACK): ProposalState.ROLLED_BACK,
        (ProposalState.APPROVED, ProposalState.REPLACED): ProposalState.REPLACED,
        (ProposalState.APPROVED, ProposalState.ROLLED_BACK): ProposalState.ROLLED_BACK,
    },
)


class Verdict(StrEnum):
    """A person's word on a proposal."""

    APPROVE = "approve"
    REJECT = "reject"
    ROLL_BACK = "roll_back"


class LearnedWord(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person signs: bound to one proposal and to the change that it makes, with a nonce and an end."""

    proposal: str
    change: LearnedChange
    verdict: Verdict
    role: str
    person: str
    reason: str
    nonce: str
    at: datetime
    expires_at: datetime


class ProposalAct(Act, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A proposal as it stands; ``word`` is the one that approved or rejected it."""

    proposal: Proposal
    state: ProposalState
    word: Json = NULL


class LearnedAct(Act, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change in force. ``back``: the change of this proposal is taken back, ``reason`` says on which numbers."""

    change: LearnedChange
    proposal: str
    word: Json = NULL
    back: bool = False


def read_word(word: Json) -> tuple[LearnedWord, str]:
    """The word in an envelope and the key that signed it; who that is must be asked of the trust."""
    return open_envelope(word, LEARNED_TYPE, LearnedWord, lambda key: None)


def learned_subject(change: LearnedChange) -> str:
    """Where the changes of one target stand."""
    scope = (change.domain, change.kind, _token(change.target), _token(change.parameter))
    return subjects.control("learned", *scope)


def _token(name: str) -> str:
    return quote(name, safe="").replace(".", "=").replace("~", "%7E") or "-"


def _proposal_subject(act: ProposalAct) -> str:
    return subjects.control("proposal", act.proposal.change.domain, act.proposal.id)


def _require_learner(entry: TrustEntry) -> None:
    if SIGNER_ROLE not in entry.roles:
        raise SignatureError(f"{entry.name} has not the role {SIGNER_ROLE}: only the learner puts this on record")


def _require_word(word: Json, proposal: str, change: LearnedChange, verdict: Verdict) -> LearnedWord:
    said, _ = read_word(word)
    if (said.proposal, said.change) != (proposal, change):
        raise SignatureError(f"the word of {said.person} is about another proposal")
    if said.verdict is not verdict:
        raise SignatureError(f"the word of {said.person} is {said.verdict}, not {verdict}")
    if said.role != APPROVER_ROLE:
        raise SignatureError(f"{said.person} speaks as {said.role}: a {APPROVER_ROLE} must")
    return said


def _check_learned(act: LearnedAct, entry: TrustEntry) -> None:
    _require_learner(entry)
    if act.change.kind not in PLANNED:
        raise SignatureError(f"a change of {act.change.kind} is not put in force here")
    if not act.back:
        _require_word(act.word, act.proposal, act.change, Verdict.APPROVE)


def _learned_follows(act: LearnedAct, before: LearnedAct | None, at: datetime) -> None:
    """A word counts once, in its time, on what its person saw; going back leads to just what was there before."""
    if act.back:
        if before is None or before.back:
            raise SignatureError("there is nothing in force to go back from")
        reverse = (before.proposal, before.change.value, before.change.before)
        if (act.proposal, act.change.before, act.change.value) != reverse:
            raise SignatureError(f"going back from {before.proposal} leads to {before.change.before!r} only")
        return
    said, _ = read_word(act.word)
    if said.expires_at < at:
        raise SignatureError(f"the word of {said.person} was over at {said.expires_at.isoformat()}")
    if before is None:
        return
    if said.at <= before.at:
        raise SignatureError(f"the word of {said.person} is older than the act in force: a replay")
    if act.change.before != before.change.value:
        raise SignatureError(f"{before.change.value!r} is in force, not {act.change.before!r}")


def _learned_word(act: LearnedAct) -> tuple[str, str, str] | None:
    return None if act.back else _speaker(act.word)


def _speaker(word: Json) -> tuple[str, str, str]:
    said, keyid = read_word(word)
    return keyid, said.person, said.role


_WORDED = {ProposalState.APPROVED: Verdict.APPROVE, ProposalState.REJECTED: Verdict.REJECT}


def _check_proposal(act: ProposalAct, entry: TrustEntry) -> None:
    _require_learner(entry)
    if (verdict := _WORDED.get(act.state)) is not None:
        _require_word(act.word, act.proposal.id, act.proposal.change, verdict)


def _proposal_follows(act: ProposalAct, before: ProposalAct | None, at: datetime) -> None:
    try:
        state = ProposalState.PROPOSED if before is None else PROPOSAL.step(before.state, act.state)
    except TerminalError as error:
        raise SignatureError(str(error)) from error
    if act.state is not state:
        raise SignatureError(f"a proposal begins as {ProposalState.PROPOSED}, not as {act.state}")
    # What is put in force by an act of its own was in time there; its proposal may follow long after, past a crash.
    in_time = act.state is ProposalState.APPROVED and act.proposal.change.kind in PLANNED
    if act.state in _WORDED and not in_time and read_word(act.word)[0].expires_at < at:
        raise SignatureError("the word on the proposal was over before")


def _proposal_word(act: ProposalAct) -> tuple[str, str, str] | None:
    return _speaker(act.word) if act.state in _WORDED else None


LEARNED = Kind(
    "learned", LearnedAct, lambda act: learned_subject(act.change), _check_learned, _learned_word, _learned_follows
)
PROPOSALS = Kind("proposal", ProposalAct, _proposal_subject, _check_proposal, _proposal_word, _proposal_follows)


class LearnRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person's word on a proposal: the DSSE envelope over a ``LearnedWord``."""

    signed: Json


class ProposalRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Names a proposal, by its id, the beginning of it, or its target."""

    proposal: str


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """A measure of the tasks before a change and since: hits of tasks, and the probability of the rise by chance."""

    measure: str
    before: tuple[int, int]
    since: tuple[int, int]
    p: float


class ProposalLine(msgspec.Struct, frozen=True, kw_only=True):
    """A proposal as people see it, with what has become of its measures since it is in force."""

    id: str
    proposal: Proposal
    state: ProposalState
    since: datetime
    reason: str = ""
    watched: tuple[Watched, ...] = ()
