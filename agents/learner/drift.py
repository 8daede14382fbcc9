"""Drift: what comes in and how it goes, held against its own past; a pure fold over items and their features.

The rule: what was never seen in a full baseline is raised at once, a change of frequency when chance explains it badly.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec

from agents.learner.chance import change
from mesh.records import Struct
from mesh.statistics import DriftLine

WINDOW = 100
"""Items of one window; a baseline has as many at least, and counts for at most some windows."""

LOOK_EVERY = 25  # items: what is plain is seen before a window is full
ALPHA = 0.001  # for all features of one look together (Bonferroni)
FEATURES_MAX = 300
HIT = "hit"
_BASELINE_MAX = 4 * WINDOW
_DEPTH = 4
_NAMES: Mapping[type, str] = {bool: "boolean", int: "number", float: "number", str: "string", type(None): "null"}


class Pane(Struct, frozen=True, kw_only=True):
    """How many items, and how many of them had each feature."""

    items: int = 0
    features: dict[str, int] = msgspec.field(default_factory=dict)

    def with_item(self, features: Iterable[str]) -> "Pane":
        """One item more; features beyond the most are passed over."""
        found = dict(self.features)
        for name in features:
            if name in found or len(found) < FEATURES_MAX:
                found[name] = found.get(name, 0) + 1
        return Pane(items=self.items + 1, features=found)

    def then(self, pane: "Pane") -> "Pane":
        """This baseline with one window more: what is older than some windows counts for half again and again."""
        share = 2 if self.items > _BASELINE_MAX else 1
        kept = {name: number // share for name, number in self.features.items() if number // share}
        names = list(dict.fromkeys((*pane.features, *kept)))[:FEATURES_MAX]
        return Pane(
            items=self.items // share + pane.items,
            features={name: kept.get(name, 0) + pane.features.get(name, 0) for name in names},
        )


class Series(Struct, frozen=True, kw_only=True):
    """One thing that is followed: its baseline, the window that fills, and the drifts that were raised last."""

    baseline: Pane = Pane()
    pane: Pane = Pane()
    last: Pane = Pane()
    raised: tuple[str, ...] = ()
    p: float = 1.0
    since: datetime | None = None

    def take(self, features: Iterable[str], at: datetime) -> "Series":
        """One item more, at this time."""
        pane = self.pane.with_item(features)
        if pane.items % LOOK_EVERY:
            return msgspec.structs.replace(self, pane=pane)
        raised, p = self.raised, self.p
        if self.baseline.items >= WINDOW:
            raised, p = compare(self.baseline, pane)
        since = (self.since or at) if raised else None
        if pane.items < WINDOW:
            return msgspec.structs.replace(self, pane=pane, last=pane, raised=raised, p=p, since=since)
        return Series(baseline=self.baseline.then(pane), last=pane, raised=raised, p=p, since=since)

    def line(self, what: str, name: str) -> DriftLine:
        """As people and programs read it."""
        return DriftLine(
            what=what,
            name=name,
            baseline=(self.baseline.features.get(HIT, 0), self.baseline.items),
            window=(self.last.features.get(HIT, 0), self.last.items),
            p=self.p,
            raised=self.raised,
            since=self.since,
        )


def compare(baseline: Pane, pane: Pane) -> tuple[tuple[str, ...], float]:
    """What differs, in words, and the smallest probability of a change of frequency among all features."""
    names = sorted({*baseline.features, *pane.features})
    found: list[str] = []
    least = 1.0
    for name in names:
        before, now = baseline.features.get(name, 0), pane.features.get(name, 0)
        if not before and name != HIT:
            found.append(_new(name, baseline))
            continue
        p = change((before, baseline.items), (now, pane.items))
        least = min(least, p)
        if p < ALPHA / len(names):
            shares = f"{before / baseline.items:.1%} before, {now / pane.items:.1%} now"
            found.append(shares if name == HIT else f"{name}: {shares}")
    return tuple(found), least


def _new(name: str, baseline: Pane) -> str:
    field, _, kind = name.rpartition(" ")
    known = [other.rpartition(" ")[2] for other in baseline.features if other.rpartition(" ")[0] == field]
    return (
        f"{field} is {kind}, was {' or '.join(sorted(known))}" if known else f"{field} was never seen before ({kind})"
    )


def shape_of(value: Any) -> frozenset[str]:
    """The fields of an event's data as features: a JSON pointer and a type; items of arrays stand as ``[]``."""
    return frozenset(_features(value, "", 0))


def _features(value: Any, path: str, depth: int) -> Iterator[str]:
    if isinstance(value, dict):
        if path:
            yield f"{path} object"
        if depth < _DEPTH:
            for name, part in value.items():
                yield from _features(part, f"{path}/{name[:64].replace(' ', '_')}", depth + 1)
    elif isinstance(value, list):
        yield f"{path} array"
        for part in value[:20]:
            yield from _features(part, f"{path}/[]", depth + 1)
    else:
        yield f"{path} {_NAMES.get(type(value), 'unknown')}"
