"""How the studio works, computed from the journal: velocity, revision rate, rework. Pure.

The rule: only what tasks came to counts, by their contexts and outcomes; nothing is kept beside them.
"""

import statistics
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec

from mesh.records import Context, Outcome, OutcomeStatus

_WRITTEN = {"content.draft", "content.edit", "content.merge"}
_REWORK = {"content.merge": "merges", "content.correct": "corrections", "content.withdraw": "takedowns"}


class Measures(msgspec.Struct, frozen=True, kw_only=True):
    """``velocity_*_s``: from the acceptance of a brief until its article was first public. ``revision_rate``: edits and
    drafts after the first one, an article that was published. ``rework_rate``: the part of all completed work that was
    done again: changes asked for in review, merges of conflicts, corrections, takedowns.
    """

    briefs: int = 0
    published: int = 0
    velocity_p50_s: float = 0.0
    velocity_max_s: float = 0.0
    revisions: int = 0
    revision_rate: float = 0.0
    changes_asked: int = 0
    merges: int = 0
    corrections: int = 0
    takedowns: int = 0
    rework_rate: float = 0.0
    refused_publications: int = 0


class _Data(msgspec.Struct):
    slug: str = ""
    verdict: str = ""


def measure(tasks: Iterable[tuple[Context, Outcome]]) -> Measures:
    """The measures of these tasks, in any order."""
    begun: dict[str, datetime] = {}
    public: dict[str, datetime] = {}
    revised: Counter[str] = Counter()
    counted: Counter[str] = Counter()
    done = 0
    for context, outcome in tasks:
        kind, data = context.event.type, msgspec.json.decode(context.data, type=_Data)
        slug, tools = data.slug or context.event.subject.rpartition("/")[2], set(outcome.tools)
        if outcome.status is not OutcomeStatus.COMPLETED:
            counted["refused"] += kind == "content.publish.requested"
            continue
        done += 1
        if "content.brief" in tools:
            begun[slug] = context.event.accepted_at
        elif tools & _WRITTEN:
            revised[slug] += 1
        if "content.release" in tools:
            public[slug] = min(outcome.header.at, public.get(slug, outcome.header.at))
        counted["changes"] += kind == "content.review.given" and data.verdict == "changes"
        counted.update(_REWORK[tool] for tool in tools & _REWORK.keys())
    times = [(at - begun[slug]) / timedelta(seconds=1) for slug, at in public.items() if slug in begun]
    again = sum(counted[name] for name in ("changes", "merges", "corrections", "takedowns"))
    revisions = sum(count for slug, count in revised.items() if slug in public)
    return Measures(
        briefs=len(begun),
        published=len(public),
        velocity_p50_s=round(statistics.median(times), 2) if times else 0.0,
        velocity_max_s=round(max(times), 2) if times else 0.0,
        revisions=revisions,
        revision_rate=round(revisions / len(public), 2) if public else 0.0,
        changes_asked=counted["changes"],
        merges=counted["merges"],
        corrections=counted["corrections"],
        takedowns=counted["takedowns"],
        rework_rate=round(again / done, 3) if done else 0.0,
        refused_publications=counted["refused"],
    )
