"""Watching a change that is in force: its measures since then against those before. Pure.

The rule: what has risen by more than chance explains takes the change back; why it rose is not asked, since going back
to what people knew is always safe.
"""

from collections.abc import Sequence

from agents.learner.book import Ending
from agents.learner.chance import rise
from agents.learner.shadow import BAD
from mesh.learned import Watched
from mesh.records import OutcomeStatus

_MEASURES = {
    "not completed": lambda end: end.status not in (OutcomeStatus.COMPLETED, OutcomeStatus.OBSERVED),
    "planned in vain": lambda end: end.status in BAD,
    "failed or compensated": lambda end: end.status in (OutcomeStatus.FAILED, OutcomeStatus.COMPENSATED),
    "overridden by people": lambda end: end.overridden,
}


def watched(before: Sequence[Ending], since: Sequence[Ending]) -> tuple[Watched, ...]:
    """Each measure of the tasks before and since."""
    found = []
    for name, hits in _MEASURES.items():
        was, is_now = (sum(map(hits, before)), len(before)), (sum(map(hits, since)), len(since))
        found.append(Watched(measure=name, before=was, since=is_now, p=rise(was, is_now)))
    return tuple(found)


def worsened(found: Sequence[Watched], below: float) -> str:
    """What has worsened, with the numbers; empty when nothing has."""
    worse = [item for item in found if item.p < below]
    return "; ".join(
        f"{item.measure}: {item.before[0]} of {item.before[1]} before, {item.since[0]} of {item.since[1]} since "
        f"(p = {item.p:.2g})"
        for item in worse
    )
