"""How the studio works, computed from the journal: velocity, revision rate, rework. Pure.

The rule: only what tasks came to counts, by their contexts and outcomes; nothing is kept beside them.
"""

import statistics
from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec

from mesh.records import Context, Outcome, OutcomeStatus

_WORDS = {
    "content.draft.requested": "drafts",
    "content.edit.submitted": "edits",
    "content.localisation.requested": "localisations",
}


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
    revised: dict[str, int] = {}
    counted: dict[str, int] = {}
    done = 0
    for context, outcome in tasks:
        kind, data = context.event.type, msgspec.json.decode(context.data, type=_Data)
        if outcome.status is not OutcomeStatus.COMPLETED:
            counted["refused"] = counted.get("refused", 0) + (kind == "content.publish.requested")
            continue
        done += 1
        if kind == "content.brief.submitted":
            begun[data.slug] = context.event.accepted_at
        elif "content.release" in outcome.tools:
            at = outcome.header.at
            public[data.slug] = min(at, public.get(data.slug, at))
        elif kind in _WORDS:
            revised[data.slug] = revised.get(data.slug, 0) + (kind != "content.localisation.requested")
        for name in _rework(kind, data.verdict, outcome.tools):
            counted[name] = counted.get(name, 0) + 1
    times = [(at - begun[slug]) / timedelta(seconds=1) for slug, at in public.items() if slug in begun]
    again = sum(counted.get(name, 0) for name in ("changes", "merges", "corrections", "takedowns"))
    revisions = sum(count for slug, count in revised.items() if slug in public)
    return Measures(
        briefs=len(begun),
        published=len(public),
        velocity_p50_s=round(statistics.median(times), 2) if times else 0.0,
        velocity_max_s=round(max(times), 2) if times else 0.0,
        revisions=revisions,
        revision_rate=round(revisions / len(public), 2) if public else 0.0,
        changes_asked=counted.get("changes", 0),
        merges=counted.get("merges", 0),
        corrections=counted.get("corrections", 0),
        takedowns=counted.get("takedowns", 0),
        rework_rate=round(again / done, 3) if done else 0.0,
        refused_publications=counted.get("refused", 0),
    )


def _rework(kind: str, verdict: str, tools: tuple[str, ...]) -> Iterable[str]:
    if kind == "content.review.given" and verdict == "changes":
        yield "changes"
    if "content.merge" in tools:
        yield "merges"
    if kind == "content.correction.requested":
        yield "corrections"
    if kind == "content.takedown.requested":
        yield "takedowns"
