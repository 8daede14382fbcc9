"""Limits over time, ``limits.yaml`` of a bundle: what a customer, an agent or a whole domain may move in a window.

Pure: which limits a plan takes of and how much, and what policy says when one is exceeded. Counting is
``policy_service.ledger``'s. The rule: a limit only ever adds to what policies demand; it permits nothing.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Literal

import msgspec

from mesh import subjects
from mesh.canonical import token
from mesh.money import money
from mesh.pack import Sheet
from mesh.records import LimitUse, Plan, Struct
from policy_service.quorum import QuorumError, read_roles
from policy_service.windows import Window

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")
_PARTY = re.compile(r"[a-z][a-z0-9_]{0,39}")
_LONGEST = timedelta(days=366)
TASKS = "tasks"


class LimitError(ValueError):
    """A limit says something that cannot be meant; the message names it."""


class Limit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One limit. ``per`` is ``domain``, ``agent``, or a kind of party that the information point names.

    ``amount`` caps money (minor units of ``currency``), ``tasks`` the number of tasks, in any ``window``. ``over`` says
    what happens beyond it: ``deny``, or ``approve`` by the ``roles``. ``tools`` are those that count; empty is all.
    """

    id: str
    per: str
    window: timedelta
    amount: int | None = None
    tasks: int | None = None
    currency: str = "USD"
    tools: tuple[str, ...] = ()
    over: Literal["deny", "approve"] = "deny"
    roles: str = ""
    reason: str = ""

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id) or not _PARTY.fullmatch(self.per):
            raise LimitError(f"limit {self.id!r}: ids are a-z, 0-9 and -; `per` is domain, agent or a kind of party")
        if self.amount is None and self.tasks is None:
            raise LimitError(f"limit {self.id}: caps nothing: give `amount` or `tasks`")
        if min(self.amount or 0, self.tasks or 0) < 0 or not timedelta() < self.window <= _LONGEST:
            raise LimitError(f"limit {self.id}: `amount` and `tasks` are not negative, the window is at most a year")
        if (self.over == "approve") != bool(self.roles):
            raise LimitError(f"limit {self.id}: `over: approve` needs `roles`, and `over: deny` has none")
        try:
            _ = self.approvers
        except QuorumError as error:
            raise LimitError(f"limit {self.id}: roles {error}") from error

    @property
    def approvers(self) -> tuple[str, ...]:
        """The roles that may let a plan go beyond it."""
        return read_roles(self.roles) if self.roles else ()

    @property
    def policy(self) -> str:
        """How it stands among a verdict's policies."""
        return f"limit:{self.id}"

    @property
    def length_s(self) -> int:
        """The window in seconds."""
        return max(1, int(self.window.total_seconds()))

    def counts(self, tool: str) -> bool:
        """Whether steps with this tool take of it."""
        return not self.tools or tool in self.tools


class Take(Struct, frozen=True, kw_only=True):
    """What a plan takes of one limit for one key; ``key`` is as people read it, such as ``customer ann``."""

    limit: Limit
    domain: str
    key: str
    amount: int
    tasks: int = 1

    @property
    def subject(self) -> str:
        """Where the window stands in the journal."""
        return subjects.limit(self.domain, self.limit.id, token("limit", self.key, bits=80))

    def use(self, window: Window, at_s: float) -> tuple[LimitUse, ...]:
        """What it comes to in this window, by money and by tasks as the limit has them."""
        held = window.at(at_s)
        found = []
        if self.limit.amount is not None:
            found.append(self._use(self.limit.currency, held.amount, self.amount, self.limit.amount))
        if self.limit.tasks is not None:
            found.append(self._use(TASKS, held.tasks, self.tasks, self.limit.tasks))
        return tuple(found)

    def _use(self, unit: str, used: int, adds: int, cap: int) -> LimitUse:
        over = adds > 0 and used + adds > cap
        return LimitUse(limit=self.limit.id, key=self.key, unit=unit, used=used, adds=adds, cap=cap, over=over)


def read_limits(table: object) -> tuple[Limit, ...]:
    """The limits of ``limits.yaml``; raises ``LimitError`` or ``msgspec.ValidationError``."""
    limits = msgspec.convert(table or [], type=tuple[Limit, ...], strict=False)
    seen: set[str] = set()
    for limit in limits:
        if limit.id in seen:
            raise LimitError(f"limit {limit.id} occurs twice: give it an id of its own")
        seen.add(limit.id)
    return limits


def takes(limits: Iterable[Limit], plan: Plan, sheets: Mapping[str, Sheet], agent: str) -> tuple[Take, ...]:
    """What a plan takes of each limit: the sum over its steps, by key. A step that names no such party takes nothing.

    Raises ``LimitError`` when a step moves money in another currency than a limit counts: it cannot be counted.
    """
    found: dict[tuple[str, str], Take] = {}
    for limit in limits:
        for step in plan.steps:
            sheet = sheets.get(step.id)
            if sheet is None or not limit.counts(step.call.tool):
                continue
            if limit.amount is not None and sheet.amount and sheet.currency != limit.currency:
                raise LimitError(f"limit {limit.id} counts {limit.currency}, but step {step.id} moves {sheet.currency}")
            for key in _keys(limit, plan, sheet, agent):
                held = found.get((limit.id, key))
                amount = abs(sheet.amount) + (held.amount if held else 0)
                found[limit.id, key] = Take(limit=limit, domain=plan.header.domain, key=key, amount=amount)
    return tuple(found.values())


def sentence(use: LimitUse) -> str:
    """What is exceeded, in words: ``refunds-a-week of customer ann: 1,900.00 + 200.00 USD of 2,000.00 USD``."""
    if use.unit == TASKS:
        return f"{use.limit} of {use.key}: {use.used} + {use.adds} tasks of {use.cap}"
    parts = (money(use.used, use.unit), money(use.adds, use.unit), money(use.cap, use.unit))
    return f"{use.limit} of {use.key}: {parts[0]} + {parts[1]} of {parts[2]}"


def _keys(limit: Limit, plan: Plan, sheet: Sheet, agent: str) -> tuple[str, ...]:
    match limit.per:
        case "domain":
            return (f"domain {plan.header.domain}",)
        case "agent":
            return (f"agent {agent}",)
        case kind:
            return tuple(f"{kind} {party.id}" for party in sheet.parties if party.kind == kind)
