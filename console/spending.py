"""What models have cost, from the journal alone: completions, and the windows that must agree with them.

The rule: every figure is a sum over completions; a window is only held against them.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from mesh import records, subjects
from mesh.bus import Bus
from mesh.errors import TerminalError, WorkmeshError
from mesh.inference import Completion, Prompt, Usage
from mesh.records import AnyRecord, Outcome, OutcomeStatus
from mesh.spending import Window

_PAGE = 256
_WINDOWS = "spend.*.*"
KEYS = ("task", "domain", "model", "role", "day", "outcome")

_window = msgspec.json.Decoder(Window).decode


class Line(msgspec.Struct, kw_only=True):
    """A sum over calls. ``completions`` are those with any of these calls, or that needed none (``reused``)."""

    key: str
    calls: int = 0
    completions: int = 0
    reused: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    tokens_written: int = 0
    cost_micro_usd: int = 0
    uncertain_micro_usd: int = 0

    def add(self, usage: Iterable[Usage]) -> None:
        """Count these calls."""
        for call in usage:
            self.calls += 1
            self.tokens_in += call.tokens_in
            self.tokens_out += call.tokens_out
            self.tokens_cached += call.tokens_cached
            self.tokens_written += call.tokens_written
            self.cost_micro_usd += call.cost_micro_usd
            self.uncertain_micro_usd += 0 if call.certain else call.cost_micro_usd


class DayWindow(msgspec.Struct, frozen=True, kw_only=True):
    """A window against the completions of its domain and day, in micro-dollars; ``open`` may still be owed."""

    domain: str
    day: str
    spent: int
    completions: int
    open: int
    agrees: bool


class LedgerView(msgspec.Struct, frozen=True, kw_only=True):
    """The ledger: sums by one key, their total, whether all windows agree, and what a completed task cost."""

    by: str
    lines: list[Line]
    total: Line
    windows: list[DayWindow]
    agrees: bool
    completed: int
    per_completed_micro_usd: int


@dataclass(slots=True)
class _Seen:
    completions: list[Completion] = field(default_factory=list)
    roles: dict[tuple[str, str], str] = field(default_factory=dict)
    outcomes: dict[str, OutcomeStatus] = field(default_factory=dict)


async def read_ledger(bus: Bus, by: str, since: datetime | None = None) -> LedgerView:
    """The ledger of all completions that were written since then (aware UTC)."""
    # Windows first: completions that come while they are read may only make them seem behind, and are read again.
    for _ in range(3):
        before = await _windows(bus)
        seen = await _read(bus, since, roles=by == "role")
        windows = await _windows(bus)
        if before == windows:
            break
    return _view(seen, by, windows, since)


def _view(seen: _Seen, by: str, windows: dict[tuple[str, str], Window], since: datetime | None) -> LedgerView:
    lines: dict[str, Line] = {}
    total = Line(key="total")
    for record in seen.completions:
        total.add(record.usage)
        total.completions += 1
        total.reused += bool(record.reused)
        for key, usage in _split(seen, by, record).items():
            line = lines.setdefault(key, Line(key=key))
            line.add(usage)
            line.completions += 1
            line.reused += bool(record.reused)
    completed = sum(status is OutcomeStatus.COMPLETED for status in seen.outcomes.values())
    compared = _compared(seen, windows, since)
    return LedgerView(
        by=by,
        lines=sorted(lines.values(), key=lambda line: (-line.cost_micro_usd, line.key)),
        total=total,
        windows=compared,
        agrees=all(window.agrees for window in compared),
        completed=completed,
        per_completed_micro_usd=-(-total.cost_micro_usd // completed) if completed else 0,
    )


def _split(seen: _Seen, by: str, record: Completion) -> dict[str, tuple[Usage, ...]]:
    """The calls of a completion by the key: most keys are of the whole."""
    head = record.header
    whole: dict[str, Callable[[], str]] = {
        "task": lambda: head.task_id,
        "domain": lambda: head.domain,
        "role": lambda: seen.roles.get((head.task_id, record.name), "?"),
        "outcome": lambda: seen.outcomes.get(head.task_id, "open"),
    }
    if by in whole:
        return {whole[by](): record.usage}
    found: dict[str, tuple[Usage, ...]] = {}
    for call in record.usage:
        key = call.model if by == "model" else call.day
        found[key] = (*found.get(key, ()), call)
    return found or {record.model if by == "model" else f"{head.at:%Y-%m-%d}": ()}


def _compared(seen: _Seen, windows: dict[tuple[str, str], Window], since: datetime | None) -> list[DayWindow]:
    sums: dict[tuple[str, str], int] = {}
    for record in seen.completions:
        for call in record.usage:
            key = (record.header.domain, call.day)
            sums[key] = sums.get(key, 0) + call.cost_micro_usd
    first = f"{since:%Y-%m-%d}" if since else ""
    found = []
    for domain, day in sorted(windows.keys() | sums.keys()):
        # Of the day that ``since`` falls on only a part was read, and a call counts to the day it was made.
        if day <= first:
            continue
        window = windows.get((domain, day), Window())
        known = sums.get((domain, day), 0)
        found.append(
            DayWindow(
                domain=domain,
                day=day,
                spent=window.spent,
                completions=known,
                open=window.taken - window.spent,
                agrees=window.spent == known,
            )
        )
    return found


async def _read(bus: Bus, since: datetime | None, *, roles: bool) -> _Seen:
    seen = _Seen()
    async for record in _records(bus, subjects.kind("completion"), since):
        if isinstance(record, Completion):
            seen.completions.append(record)
    tasks = {record.header.task_id for record in seen.completions}
    async for record in _records(bus, subjects.kind("outcome"), since):
        if isinstance(record, Outcome) and record.header.task_id in tasks:
            seen.outcomes[record.header.task_id] = record.status
    if roles:
        async for record in _records(bus, subjects.kind("prompt"), None):
            if isinstance(record, Prompt):
                seen.roles[record.header.task_id, record.name] = record.role
    return seen


async def _records(bus: Bus, flt: str, since: datetime | None) -> AsyncIterator[AnyRecord]:
    seq = 1
    if since is not None:
        first = await bus.first_since(subjects.JOURNAL, since, flt)
        if first is None:
            return
        seq = first.seq
    while page := await bus.read(subjects.JOURNAL, seq, _PAGE, flt):
        for message in page:
            try:
                message.require_published()
                yield records.decode(message.data)
            except (ValueError, TerminalError):
                continue
        seq = page[-1].seq + 1


async def _windows(bus: Bus) -> dict[tuple[str, str], Window]:
    """All windows, by domain and day."""
    info = await bus.api(f"STREAM.INFO.{subjects.JOURNAL}", {"subjects_filter": _WINDOWS})
    if "error" in info:
        raise WorkmeshError(f"the bus does not say what windows there are: {info['error'].get('description')}")
    found: dict[tuple[str, str], Window] = {}
    for name in info["state"].get("subjects") or {}:
        message = await bus.last(subjects.JOURNAL, name)
        if message is not None:
            message.require_published()
            _, domain, day = name.split(".")
            found[domain, day] = _window(message.data)
    return found


async def windows_of(bus: Bus, day: str) -> dict[str, Window]:
    """The windows of a day, by domain."""
    return {domain: window for (domain, at), window in (await _windows(bus)).items() if at == day}
