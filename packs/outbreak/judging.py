"""A series is judged: its numbers as the registry holds them, and the detectors, which are loaded when first asked.

The rule: planner and policy judge by the same function, each on what the registry tells it at that moment.
"""

import asyncio
import importlib
from collections.abc import Mapping

import msgspec

from packs.outbreak.detectors.reading import Reading
from packs.outbreak.verdict import Assessment, Rules
from packs.outbreak.weeks import week_name, week_number
from packs.outbreak.wire import AlertLine, AlertState, Claim, SeriesView

# All processes of a site load all packs, and few of them ever judge: statsmodels takes a second and 100 MB.
_CONSENSUS = "packs.outbreak.consensus"


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A week of a series, judged; what a plan keeps of it. ``complete`` says that every number has its provenance.

    ``alert`` is the id that the alert of this week has or would have; ``alert_state`` is "" where there is none.
    ``covered_by`` names an alert of the weeks before that still stands. ``to_settle`` is the contested number with the
    best claim: the latest received of the first contested week.
    """

    found: bool
    alert: str
    alert_state: str
    count: int
    covered_by: str
    contested: int
    contested_text: str
    to_settle: Claim | None
    complete: bool
    series: str
    consensus: bool
    families: tuple[str, ...]
    readings: tuple[Reading, ...]
    verdict: str
    quorum: int
    assessment: Assessment | None


async def judge(view: SeriesView, place: str, disease: str, week: str, rules: Rules, covers_weeks: int) -> Judged:
    """Judge a week by what the registry holds; in a thread of its own, since the regression takes its time."""
    assessment = None
    if view.found:
        assessment = await asyncio.to_thread(_assess, view, week, rules)
    alert = f"{place}.{disease}.{week}"
    own = next((line for line in view.alerts if line.alert == alert), None)
    count = points_of(view).get(week_number(week), -1)
    disputed = [claim for claim in view.contested if claim.week == view.contested[0].week]
    return Judged(
        found=view.found,
        alert=alert,
        alert_state=own.state if own else "",
        count=count,
        covered_by=_covering(view.alerts, week, covers_weeks),
        contested=len({claim.week for claim in view.contested}),
        contested_text="; ".join(f"{claim.source} says {claim.count} ({claim.row})" for claim in disputed),
        to_settle=max(disputed, key=lambda claim: (claim.received, claim.source), default=None),
        complete=bool(view.standing) and all(claim.document and claim.row for claim in view.standing),
        series=view.digest,
        consensus=bool(assessment and assessment.consensus and not view.contested and count >= 0),
        families=assessment.alarms if assessment else (),
        readings=assessment.readings if assessment else (),
        verdict=assessment.verdict if assessment else "there is no such series",
        quorum=rules.quorum,
        assessment=assessment,
    )


def points_of(view: SeriesView) -> Mapping[int, int]:
    """The counts that stand, by number of the week."""
    disputed = {claim.week for claim in view.contested}
    return {week_number(claim.week): claim.count for claim in view.standing if claim.week not in disputed}


def _assess(view: SeriesView, week: str, rules: Rules) -> Assessment:
    made: Assessment = importlib.import_module(_CONSENSUS).assess(points_of(view), week, rules, view.said)
    return made


def _covering(alerts: tuple[AlertLine, ...], week: str, weeks: int) -> str:
    """A standing alert of the weeks before: the same outbreak is not announced every week."""
    earlier = {week_name(week_number(week) - back) for back in range(1, weeks + 1)}
    found = [line.alert for line in alerts if line.week in earlier and line.state is not AlertState.WITHDRAWN]
    return found[-1] if found else ""
