"""What people and the policy service say to each other about approvals: the request and answer structs."""

from datetime import datetime

import msgspec

from mesh.records import Call, Json, LimitUse, Obligation, Purpose


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request without content."""


class TaskRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Names a task."""

    task_id: str


class WordRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person's word: the DSSE envelope over a ``Statement``."""

    signed: Json


class WordAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it: ``verdict`` of the decision that followed, or "" while more is needed."""

    task_id: str
    verdict: str
    reason: str = ""


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that waits for a person, as in the list; from ``escalate_at`` on the ``stand_ins`` may act too."""

    task_id: str
    domain: str
    purpose: Purpose
    roles: tuple[str, ...]
    since: datetime
    until: datetime | None
    amount: int = 0
    currency: str = "USD"
    step: str = ""
    reason: str = ""
    stand_ins: tuple[str, ...] = ()
    escalate_at: datetime | None = None


class ShownStep(msgspec.Struct, frozen=True, kw_only=True):
    """A step exactly as it would be executed, with the facts that policy read and what policy said."""

    id: str
    call: Call
    effect_key: str
    verdict: str
    policies: tuple[str, ...]
    roles: tuple[str, ...]
    facts: Json
    amount: int
    currency: str
    optional: bool = False
    compensation: Call | None = None
    obligations: tuple[Obligation, ...] = ()
    source: str = ""
    tainted: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    target: str = ""
    stage: str = ""
    needs: tuple[str, ...] = ()


class ShownCandidate(msgspec.Struct, frozen=True, kw_only=True):
    """A plan that may be chosen instead, by its ``number``; ``digest`` is of all of it."""

    number: int
    digest: str
    label: str
    rationale: str
    calls: tuple[Call, ...]


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a person must see before a word: bound to ``plan_digest``.

    It holds all that the digest is of (``anew`` is the revision of a plan made anew): who is shown it can compute it.
    """

    waiting: Waiting
    plan_digest: str
    bundle: str
    playbook: str
    rationale: str
    event_type: str
    event_id: str
    source: str
    entity: str
    data: Json
    taint: tuple[str, ...]
    steps: tuple[ShownStep, ...]
    limits: tuple[LimitUse, ...] = ()
    voices: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    candidates: tuple[ShownCandidate, ...] = ()
    revision: int = 0
    anew: int = 0
