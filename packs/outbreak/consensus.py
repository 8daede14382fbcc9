"""Whether the detectors agree on a week: a quorum of detectors of different families, each with one voice.

The rule: a function of the series up to the week and of the settings; who disagrees is kept beside who agrees.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from packs.outbreak.detectors import bayes, cusum, ears, farrington
from packs.outbreak.detectors.reading import Reading, State
from packs.outbreak.series import Series
from packs.outbreak.verdict import REPORT, Assessment, Rules, Said
from packs.outbreak.weeks import week_name, week_number

Detector = Callable[[Series], Reading]


def assess(points: Mapping[int, int], week: str, rules: Rules, said: Sequence[Said] = ()) -> Assessment:
    """Ask every detector about one week; points after it are not looked at."""
    series = Series.of(points, week_number(week))
    known = [None if np.isnan(count) else int(count) for count in series.counts]
    readings = (*(_held(detect(series), series, rules) for detect in detectors(rules)), *_heard(said, week))
    states: dict[str, set[State]] = {}
    for reading in readings:
        states.setdefault(reading.family, set()).add(reading.state)
    alarms = tuple(sorted(family for family in states if State.ALARM in states[family]))
    quiet = tuple(sorted(family for family in set(states) - set(alarms) if State.QUIET in states[family]))
    without = tuple(sorted(set(states) - set(alarms) - set(quiet)))
    statistical = len(set(alarms) - {REPORT})
    agree = len(alarms) >= rules.quorum and statistical >= rules.statistical
    return Assessment(
        week=week,
        first_week=week_name(series.first),
        counts=tuple(known),
        readings=readings,
        alarms=alarms,
        quiet=quiet,
        silent=without,
        consensus=agree,
        verdict=_verdict(alarms, quiet, without, agree, rules),
        rules=rules,
        said=tuple(said),
    )


def again(assessment: Assessment) -> Assessment:
    """The same assessment, made anew from what it rests on."""
    first = week_number(assessment.first_week)
    points = {first + n: count for n, count in enumerate(assessment.counts) if count is not None}
    return assess(points, assessment.week, assessment.rules, assessment.said)


def detectors(rules: Rules) -> tuple[Detector, ...]:
    """The statistical detectors as the rules have them."""
    return (
        ears.c1,
        ears.c2,
        ears.c3,
        lambda series: farrington.farrington(series, rules.farrington_alpha),
        cusum.cusum,
        lambda series: bayes.bayes(series, rules.bayes_alpha),
    )


def _held(reading: Reading, series: Series, rules: Rules) -> Reading:
    """No alarm on so few cases, whatever they are measured against."""
    if reading.state is State.SILENT:
        return reading
    at = max(reading.alarm_at, rules.min_cases) if reading.alarm_at >= 0 else -1
    if reading.state is State.ALARM and series.now < rules.min_cases:
        note = f"above the threshold, but fewer than {rules.min_cases} cases"
        return msgspec.structs.replace(reading, state=State.QUIET, alarm_at=at, note=note)
    return msgspec.structs.replace(reading, alarm_at=at)


def _heard(said: Sequence[Said], week: str) -> list[Reading]:
    """One reading for each authority that said something of this week or the one before."""
    number = week_number(week)
    recent = [each for each in said if 0 <= number - week_number(each.week) <= 1]
    return [
        Reading(
            detector=f"bulletin of {each.source}",
            family=REPORT,
            state=State.ALARM if each.signal == "rise" else State.QUIET,
            note=f"document {each.document}",
        )
        for each in recent
    ]


def _verdict(alarms: Sequence[str], quiet: Sequence[str], without: Sequence[str], agree: bool, rules: Rules) -> str:
    said = [f"{len(alarms)} families see an alarm, {rules.quorum} must"]
    said += [f"{word}: {', '.join(names)}" for word, names in (("alarm", alarms), ("quiet", quiet)) if names]
    if without:
        said.append(f"cannot tell: {', '.join(without)}")
    return f"{'consensus' if agree else 'no consensus'} ({'; '.join(said)})"
