"""The picture of a task: a dot for each record, in the lane of whoever wrote it, from left to right in time."""

from collections.abc import Sequence
from datetime import datetime

from console.audit.page import Markup, tag
from mesh.journal import Stored
from mesh.records import (
    AnyRecord,
    Approval,
    Decision,
    Effect,
    Outcome,
    OutcomeStatus,
    Plan,
    Result,
    ResultStatus,
    Verdict,
    Word,
)

_LEFT, _TOP, _LANE, _STEP_MIN, _WIDTH = 96, 22, 34, 74, 940
_PERSON = "a person"
_ORDER = ("perception", "planner", "policy", _PERSON, "executor", "learner")


def timeline(items: Sequence[Stored], start: datetime) -> Markup:
    """The picture; ``start`` is when the event was accepted."""
    lanes = [name for name in _ORDER if any(_lane(item.record) == name for item in items)]
    lanes += sorted({_lane(item.record) for item in items} - set(lanes))
    step = max(_STEP_MIN, (_WIDTH - _LEFT - 40) // max(len(items), 1))
    width, height = _LEFT + step * len(items) + 10, _TOP + _LANE * len(lanes) + 26
    places = [(_LEFT + step * n + step // 2, _y(lanes, item.record)) for n, item in enumerate(items)]
    parts: list[Markup] = []
    for number, name in enumerate(lanes):
        y = _TOP + _LANE * number
        parts.append(tag("line", x1=_LEFT, x2=width, y1=y, y2=y, class_="lane"))
        parts.append(tag("text", name, x=0, y=y + 4, class_="name"))
    parts.append(tag("polyline", points=" ".join(f"{x},{y}" for x, y in places), class_="path"))
    before = start
    for (x, y), item in zip(places, items, strict=True):
        parts.append(tag("circle", cx=x, cy=y, r=6, class_=f"dot {_colour(item.record)}"))
        parts.append(tag("text", _label(item.record), x=x, y=y - 10, text_anchor="middle"))
        parts.append(tag("text", _since(before, item.time), x=x, y=height - 8, text_anchor="middle"))
        before = item.time
    return tag(
        "figure",
        tag("svg", *parts, viewBox=f"0 0 {width} {height}", role="img", aria_label="records of the task in time"),
        tag("figcaption", "From left to right in the order of storing; below, the time since the record before."),
    )


def _lane(record: AnyRecord) -> str:
    return _PERSON if isinstance(record, Approval) else record.header.writer.partition("/")[0]


def _y(lanes: Sequence[str], record: AnyRecord) -> int:
    return _TOP + _LANE * lanes.index(_lane(record))


def _label(record: AnyRecord) -> str:
    match record:
        case Plan(refusal=refusal) if refusal:
            return "refused"
        case Decision(verdict=verdict):
            return verdict.replace("_", " ").replace("needs approval", "must ask")
        case Approval(statement=said):
            return said.word.replace("_", " ")
        case Effect(withdrawn=withdrawn, closed=closed) if withdrawn or closed:
            return "closed" if closed else "withdrawn"
        case Result(status=status):
            return status.replace("_", " ")
        case Outcome(status=status):
            return str(status)
    return record.kind


def _colour(record: AnyRecord) -> str:
    match record:
        case Plan(refusal=refusal) if refusal:
            return "bad"
        case Decision(verdict=Verdict.DENY):
            return "bad"
        case Approval(statement=said):
            return "bad" if said.word is Word.REJECT else "good"
        case Decision(verdict=Verdict.NEEDS_APPROVAL) | Result(status=ResultStatus.IN_DOUBT):
            return "wait"
        case Outcome(status=OutcomeStatus.COMPLETED) | Result(status=ResultStatus.SUCCEEDED):
            return "good"
        case Outcome(status=OutcomeStatus.COMPENSATED | OutcomeStatus.OBSERVED):
            return "wait"
        case Outcome() | Result():
            return "bad"
    return ""


def _since(before: datetime, now: datetime) -> str:
    seconds = (now - before).total_seconds()
    if seconds < 10:
        return f"+{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"+{seconds:.0f} s"
    if seconds < 7200:
        return f"+{seconds / 60:.0f} min"
    return f"+{seconds / 3600:.1f} h"
