"""The records of the journal: one frozen, tagged struct for each kind, decoded once and matched after (DESIGN 2).

The rule: a record is written once and never changed; new fields need defaults, and in what is signed or digested the
default is ``msgspec.UNSET``: where such a field is not used it is in no digest, and releases agree (docs/upgrading.md).
"""

from datetime import datetime
from enum import StrEnum

import msgspec

from mesh.experience import Experience, LearnedUse
from mesh.inference import Completion as Completion
from mesh.inference import Prompt as Prompt
from mesh.inference import Usage as Usage
from mesh.record import EMPTY_OBJECT as EMPTY_OBJECT
from mesh.record import NULL as NULL
from mesh.record import SCHEMA_VERSION as SCHEMA_VERSION
from mesh.record import WHOLE_TASK as WHOLE_TASK
from mesh.record import Call as Call
from mesh.record import Causation as Causation
from mesh.record import Citation as Citation
from mesh.record import Found as Found
from mesh.record import Header as Header
from mesh.record import Json as Json
from mesh.record import Reading as Reading
from mesh.record import Record as Record
from mesh.record import Struct as Struct

REPLANS_MAX = 3  # of one task, when facts that its plan cites change: each is a subject that only the planner may write
REVISIONS_MAX = 9  # corrections of one plan: each is a subject that only policy may write


class Event(Struct, frozen=True, kw_only=True):
    """The accepted CloudEvent: its attributes, the digest of its content, where and when ``EVENTS`` stored it.

    ``channel`` is the source of intake that it came by; ``original`` the digest of the bytes it was made of.
    ``traceparent`` is the publisher's span, where it gave one.
    """

    id: str
    source: str
    type: str
    time: datetime | None
    digest: str
    seq: int
    accepted_at: datetime
    subject: str = ""
    channel: str = ""
    original: str = ""
    traceparent: str = ""


class Context(Record, frozen=True, kw_only=True, tag="context"):
    """What perception made of an event. ``taint`` holds JSON pointers into ``data`` of text from outside.

    ``after`` is the task that must end before this one acts: the previous task of the same entity (invariant 7).
    ``entity_kind`` is what the entity is, such as ``order``: statistics are counted by it. ``found`` is what can be
    seen in its text. ``case`` names the request that it seems to be, and ``earlier`` are tasks of the same case that
    came by another channel.
    """

    event: Event
    data: Json
    entity: str
    after: str = ""
    urgency: str = "normal"
    taint: tuple[str, ...] = ()
    entity_kind: str = ""
    found: tuple[Found, ...] = ()
    case: str = ""
    earlier: tuple[str, ...] = ()


class Step(Struct, frozen=True, kw_only=True):
    """One step of a plan. ``needs`` are ids of steps before it; ``optional`` steps may fail without harm."""

    id: str
    call: Call
    effect_key: str
    needs: tuple[str, ...] = ()
    compensation: Call | None = None
    optional: bool = False


class Understood(Struct, frozen=True, kw_only=True):
    """What models read in a text: the request as if it had come as an event of this type, with this data."""

    event_type: str
    data: Json


class Origin(StrEnum):
    """Where a plan's steps come from: a playbook, one over what models read in a text (``read``), or a model."""

    PLAYBOOK = "playbook"
    READ = "read"
    MODEL = "model"


class Candidate(Struct, frozen=True, kw_only=True):
    """One of several plans that models could not agree on: a person may choose it. ``label`` says whose it is.

    ``origin`` is that of its steps: a letter that a model wrote stays one when it is chosen.
    """

    label: str
    playbook: str
    playbook_digest: str
    steps: tuple[Step, ...]
    rationale: str = ""
    understood: Understood | None = None
    origin: Origin = Origin.READ


class Plan(Record, frozen=True, kw_only=True, tag="plan"):
    """What the planner proposes. A plan with a ``refusal`` has no steps and proposes to do nothing, and why.

    A ``revision`` above 0 takes the place of the plan before, which is void: a person's correction, or made ``anew``.
    One that hands over to a person may hold ``candidates``. ``understood`` is a claim: whoever acts on it checks it.
    One that ``repeats`` a task does nothing, since that task has the same request by another channel.
    """

    playbook: str
    playbook_digest: str
    digest: str
    steps: tuple[Step, ...] = ()
    rationale: str = ""
    refusal: str = ""
    citations: tuple[Citation, ...] = ()
    readings: tuple[Reading, ...] = ()
    usage: tuple[Usage, ...] = ()
    notes: tuple[str, ...] = ()
    revision: int = 0
    anew: bool = False
    learned: tuple[LearnedUse, ...] = ()
    origin: Origin = Origin.PLAYBOOK
    understood: Understood | None = None
    candidates: tuple[Candidate, ...] = ()
    repeats: str = ""

    @property
    def token(self) -> str:
        """``-`` for the first plan, ``v1`` and so on for those made anew, ``r1`` and so on for corrections."""
        return revised(WHOLE_TASK, self.revision, "v" if self.anew else "r")


class Verdict(StrEnum):
    """What policy says of a step or a plan."""

    ALLOW = "allow"
    DENY = "deny"
    NEEDS_APPROVAL = "needs_approval"


class Obligation(Struct, frozen=True, kw_only=True):
    """Something the executor must do with the effect of ``step``, as the policy's annotation words it."""

    name: str
    value: str = ""
    step: str = ""


class StepVerdict(Struct, frozen=True, kw_only=True):
    """The verdict on one step: the policies that determined it, their reasons, the roles that must approve.

    A role that needs several people stands as ``role:2``. ``stand_ins`` may approve in place of any of the roles once
    the decision's ``escalate_at`` has come. ``tainted`` are arguments that hold text from outside; ``stage`` is how far
    the tool may act by itself.
    """

    step: str
    verdict: Verdict
    policies: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    obligations: tuple[Obligation, ...] = ()
    stand_ins: tuple[str, ...] = ()
    tainted: tuple[str, ...] = ()
    stage: str = ""


class Party(Struct, frozen=True, kw_only=True):
    """Whom a step concerns, such as the ``customer`` of this id: what limits over time are counted by."""

    kind: str
    id: str


class FactSheet(Struct, frozen=True, kw_only=True):
    """What the policy information point read of a step, from the canonical system itself (``source``).

    ``amount`` is the money that would move, in minor units of ``currency``; ``facts`` is a JSON object.
    """

    step: str
    facts: Json
    amount: int = 0
    currency: str = "USD"
    parties: tuple[Party, ...] = ()
    source: str = ""
    confirmed: tuple[str, ...] = ()


class LimitUse(Struct, frozen=True, kw_only=True):
    """What a plan would take of a limit over time: ``used`` before it in the window, ``adds`` by it, of ``cap``.

    ``unit`` is a currency (minor units) or ``tasks``. ``key`` is whose limit it is. ``over`` says that it is exceeded.
    """

    limit: str
    key: str
    unit: str
    used: int
    adds: int
    cap: int
    over: bool = False


class Phase(StrEnum):
    """``propose``: the first decision on a plan; ``execute``: the one after approvals, or the lack of them."""

    PROPOSE = "propose"
    EXECUTE = "execute"


class Decision(Record, frozen=True, kw_only=True, tag="decision"):
    """One decision on a plan. ``signed`` is a DSSE envelope over a ``Permit``; ``void`` are cited facts that fell;
    ``hub_silent_s`` is for how long the site's hub had not been heard, where it has one."""

    phase: Phase
    verdict: Verdict
    plan_digest: str
    bundle: str
    steps: tuple[StepVerdict, ...]
    sheets: tuple[FactSheet, ...] = ()
    reason: str = ""
    approve_by: datetime | None = None
    signed: Json = NULL
    escalate_at: datetime | None = None
    limits: tuple[LimitUse, ...] = ()
    revision: int = 0
    void: tuple[str, ...] = ()
    hub_silent_s: int | None = None

    @property
    def token(self) -> str:
        """The first decision is of the whole task; the one after approvals stands beside it."""
        return revised(WHOLE_TASK if self.phase is Phase.PROPOSE else str(self.phase), self.revision)


class Permit(Struct, frozen=True, kw_only=True):
    """The payload that policy signs and the executor checks; only ``allow`` permits anything."""

    id: str
    task_id: str
    domain: str
    plan_digest: str
    verdict: Verdict
    steps: tuple[str, ...]
    bundle: str
    approved_by: tuple[str, ...]
    issued_at: datetime
    expires_at: datetime
    obligations: tuple[Obligation, ...] = ()


class Purpose(StrEnum):
    """What a person's word is about: a plan that waits, or an effect in doubt."""

    PLAN = "plan"
    IN_DOUBT = "in_doubt"


class Word(StrEnum):
    """A person's word. ``correct`` replaces a plan; ``happened`` and ``not_happened`` settle an effect in doubt."""

    APPROVE = "approve"
    REJECT = "reject"
    CORRECT = "correct"
    HAPPENED = "happened"
    NOT_HAPPENED = "not_happened"


class Change(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person's change of one step of a plan: other arguments (a JSON object, whole), or that it is left out.

    ``choose`` above 0 takes the plan's candidate of that number in place of all its steps; ``digest`` is the one that
    was shown: a plan's own digest says nothing of its candidates.
    """

    step: str
    args: Json = NULL
    drop: bool = False
    choose: int = 0
    digest: str = ""


class Statement(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The payload that a person signs: bound to one task, one plan digest, one purpose, with a nonce and an end."""

    task_id: str
    plan_digest: str
    purpose: Purpose
    word: Word
    role: str
    person: str
    nonce: str
    at: datetime
    expires_at: datetime
    step: str = ""
    comment: str = ""
    changes: tuple[Change, ...] = ()


class Approval(Record, frozen=True, kw_only=True, tag="approval"):
    """A person's word, as policy accepted it. ``signed`` is the DSSE envelope of that person's own key.

    ``place`` counts the words in one role on one ``revision`` of the plan. ``tools`` and ``policies`` are what it was
    asked for by, ``waited_s`` how long the plan had waited for it: for how often people override, and how fast.
    """

    statement: Statement
    signed: Json
    place: int = 1
    revision: int = 0
    tools: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    waited_s: float = 0.0

    @property
    def token(self) -> str:
        """One place a role and person for a plan; one word for an effect in doubt."""
        said = self.statement
        if said.purpose is Purpose.IN_DOUBT:
            return f"{said.step}~resolve"
        return revised(said.role if self.place == 1 else f"{said.role}~{self.place}", self.revision)


class Effect(Record, frozen=True, kw_only=True, tag="effect"):
    """A call is about to be dispatched; committed before it. ``call_by`` ends the right to dispatch (the fence).

    A ``withdrawn`` effect says that the epoch before it was certainly not sent. A ``closed`` one that no epoch follows:
    the step failed for good, or its task was refused; whoever was about to dispatch it finds its place taken.
    """

    step: str
    tool: str
    key: str
    epoch: int
    executor: str
    call_by: datetime
    permit: str
    withdrawn: bool = False
    closed: bool = False

    @property
    def token(self) -> str:
        """The step, or ``<step>~undo`` for its compensation."""
        return self.step


class ResultStatus(StrEnum):
    """How a call ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    IN_DOUBT = "in_doubt"


class Result(Record, frozen=True, kw_only=True, tag="result"):
    """What the tool answered. ``recovered`` says how a result was found after a crash."""

    step: str
    tool: str
    key: str
    epoch: int
    status: ResultStatus
    output: Json = NULL
    error: str = ""
    code: str = ""
    attempts: int = 1
    duration_ms: float = 0.0
    recovered: str = ""

    @property
    def token(self) -> str:
        """The step, or ``<step>~undo`` for its compensation."""
        return self.step


class OutcomeStatus(StrEnum):
    """How a task ended. ``observed``: policy would have had it done, but the tool may only be observed yet."""

    COMPLETED = "completed"
    REFUSED = "refused"
    DENIED = "denied"
    FAILED = "failed"
    COMPENSATED = "compensated"
    EXPIRED = "expired"
    OBSERVED = "observed"


class StageTime(Struct, frozen=True, kw_only=True):
    """Milliseconds from the event's acceptance until this stage's record."""

    stage: str
    ms: float


class Outcome(Record, frozen=True, kw_only=True, tag="outcome"):
    """How the task ended; there is exactly one. ``amount`` is the money moved, in minor units."""

    status: OutcomeStatus
    reason: str = ""
    playbook: str = ""
    tools: tuple[str, ...] = ()
    amount: int = 0
    currency: str = "USD"
    times: tuple[StageTime, ...] = ()
    experience: Experience = Experience()


class Lesson(Record, frozen=True, kw_only=True, tag="lesson"):
    """What was learned, and from which record (the causation). A ``correction`` is a person's words."""

    name: str
    playbook: str
    status: str
    tools: tuple[str, ...] = ()
    correction: str = ""
    person: str = ""

    @property
    def token(self) -> str:
        """``-`` for the task's own lesson; a name of its own for each correction."""
        return self.name


AnyRecord = Context | Prompt | Completion | Plan | Decision | Approval | Effect | Result | Outcome | Lesson

_decoder = msgspec.json.Decoder(AnyRecord)
_encoder = msgspec.json.Encoder()


def encode(record: Record) -> bytes:
    """The record as JSON bytes."""
    return _encoder.encode(record)


def decode(data: bytes) -> AnyRecord:
    """The record in these bytes.

    Raises ``msgspec.ValidationError`` (or its base ``DecodeError``) when they are not one that this version knows.
    """
    record: AnyRecord = _decoder.decode(data)
    if record.header.v > SCHEMA_VERSION:
        raise msgspec.ValidationError(
            f"schema version {record.header.v} is newer than {SCHEMA_VERSION}: upgrade this process first"
        )
    return record


def revised(token: str, revision: int, kind: str = "r") -> str:
    """The token of a record on a later plan: ``r1``, ``r1~execute``; of the planner's first plan the token itself."""
    later = f"{kind}{revision}"
    return token if not revision else later if token == WHOLE_TASK else f"{later}~{token}"


def text(part: Json) -> str:
    """A JSON part of a record as text, for showing."""
    return bytes(part).decode("utf-8", "replace")
