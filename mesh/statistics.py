"""What the learner answers of past tasks: statistics over a window of time, and what has drifted."""

from datetime import datetime

import msgspec


class WindowRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A window of time in whole hours: from that of ``since`` on, until before that of ``until``; null is open."""

    since: datetime | None = None
    until: datetime | None = None


class StatLine(msgspec.Struct, frozen=True, kw_only=True):
    """How the tasks of a playbook, of a tool or about a kind of entity went in a window.

    ``overridden`` are tasks that people rejected, changed or corrected, ``retries`` further attempts, ``doubts`` calls
    of which it was not known at first whether they took effect, ``errors`` calls that failed. ``cost_micro_usd`` is
    what models cost.
    """

    kind: str
    name: str
    tasks: int
    statuses: dict[str, int]
    success_rate: float
    overridden: int
    override_rate: float
    retries: int
    doubts: int
    errors: int
    cost_micro_usd: int
    mean_ms: float
    max_ms: float


class DriftLine(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is held against its past: hits of all in the ``baseline`` and in the last ``window``.

    ``raised`` are the drifts found, in words; empty when there is none.
    """

    what: str
    name: str
    baseline: tuple[int, int]
    window: tuple[int, int]
    p: float
    raised: tuple[str, ...] = ()
    since: datetime | None = None
