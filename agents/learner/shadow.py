"""Shadow: past tasks planned again under a change that is only proposed, with effects off.

The rule: from the journal alone and by the planner's own replay; what cannot be told from it is counted apart.
"""

import asyncio
from collections.abc import Iterable, Sequence

from agents.learner.book import Ending
from agents.learner.chance import SIGN_TEST, sign_test
from mesh.experience import LearnedUse
from mesh.journal import Journal, Stored
from mesh.learned import LearnedChange, ShadowReport, TaskDifference
from mesh.plans import plans_of
from mesh.records import OutcomeStatus, Plan
from mesh.replay import Recorded, Replay, load_replays

MEASURE = "tasks planned in vain (denied, expired, failed or compensated)"
BAD = (OutcomeStatus.DENIED, OutcomeStatus.EXPIRED, OutcomeStatus.FAILED, OutcomeStatus.COMPENSATED)
_GOOD = (OutcomeStatus.COMPLETED, OutcomeStatus.OBSERVED)
_SHOWN = 20
_ASSUMED = "proposed"
SAME, BETTER, WORSE, UNKNOWN = "same", "better", "worse", "unknown"


def judge(status: OutcomeStatus, plan: Plan, again: Plan) -> tuple[str, str]:
    """What a plan that is made again would have meant for its task: one of the four, and why.

    The same plan is decided as it was. One that is not made costs a completed task, and saves what came to nothing.
    """
    if (again.digest, again.refusal) == (plan.digest, plan.refusal):
        return SAME, ""
    if again.steps:
        return UNKNOWN, "other steps: the facts of policy for them are not on record"
    if not plan.steps:
        return SAME, ""  # refused as before, in other words
    if status in BAD:
        return BETTER, f"refused: {again.refusal}"
    if status in _GOOD:
        return WORSE, f"refused: {again.refusal}"
    return UNKNOWN, f"it ended as {status}"


class Shadow:
    """Plans past tasks again."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._planner: Replay | None = None

    async def report(
        self, change: LearnedChange, endings: Sequence[Ending], in_force: Iterable[LearnedUse]
    ) -> ShadowReport:
        """What the change would have meant for these tasks, beside the other changes in force."""
        if self._planner is None:  # imports a second's worth: others come in between
            self._planner = (await asyncio.to_thread(load_replays))["planner"]
        assumed = assume(change, in_force)
        found: list[tuple[Ending, str, str]] = []
        for ending in endings:
            items = await self._journal.task(ending.task_id, ending.domain)
            found.append((ending, *_again(self._planner, ending, items, assumed)))
            await asyncio.sleep(0)  # planning is pure and takes a millisecond: others come in between
        return report_of(found)


def _again(planner: Replay, ending: Ending, items: Sequence[Stored], assumed: Sequence[LearnedUse]) -> tuple[str, str]:
    plan = next(iter(plans_of(items)), None)
    if plan is None:
        return UNKNOWN, "the journal has no plan of it"
    replayed = planner(Recorded(items, learned=assumed))
    if replayed.plan is None:
        return UNKNOWN, replayed.unknown or "it cannot be planned again"
    return judge(ending.status, plan, replayed.plan)


def assume(change: LearnedChange, in_force: Iterable[LearnedUse]) -> tuple[LearnedUse, ...]:
    """What is in force, with this change in place of what it changes."""
    others = [use for use in in_force if (use.target, use.parameter) != (change.target, change.parameter)]
    if change.value is not None:
        target, parameter = change.target, change.parameter
        others.append(LearnedUse(target=target, parameter=parameter, value=change.value, proposal=_ASSUMED))
    return tuple(others)


def report_of(found: Sequence[tuple[Ending, str, str]]) -> ShadowReport:
    """The report over tasks, each with what the change would have meant for it and why."""
    counts = {name: sum(judged == name for _, judged, _ in found) for name in (SAME, BETTER, WORSE, UNKNOWN)}
    known = len(found) - counts[UNKNOWN]
    bad = sum(ending.status in BAD for ending, judged, _ in found if judged != UNKNOWN)
    return ShadowReport(
        measure=MEASURE,
        tasks=len(found),
        **counts,
        before=bad / known if known else 0.0,
        after=(bad - counts[BETTER]) / known if known else 0.0,
        p=sign_test(counts[BETTER], counts[WORSE]),
        test=SIGN_TEST,
        differences=tuple(
            TaskDifference(task_id=ending.task_id, recorded=ending.status, replayed=why)
            for ending, judged, why in found
            if judged in (BETTER, WORSE)
        )[:_SHOWN],
        unknowns=tuple(dict.fromkeys(why for _, judged, why in found if judged == UNKNOWN))[:_SHOWN],
    )
