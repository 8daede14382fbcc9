"""What is measured: outbreaks found, weeks until then, false alarms a year; of each detector and of consensus."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from packs.outbreak.backtest.data import IMPORTED, LOCAL, Points, load
from packs.outbreak.backtest.outbreaks import Outbreak, found_in, made
from packs.outbreak.consensus import assess
from packs.outbreak.detectors.reading import State
from packs.outbreak.verdict import Assessment, Rules
from packs.outbreak.weeks import YEAR, week_name, week_number

FROM = "2004-W01"  # six years after the first count: the longest memory of a detector is full
UNTIL = "2019-W52"  # for what was made: with the borders closed in 2020 imported cases ceased
SEEDS = range(60)
STRENGTHS = (3.0, 5.0, 8.0)
CONSENSUS = "consensus"


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a table. ``delay_weeks`` is the median of those found, from 0; ``by_week_2`` counts those by then."""

    who: str
    family: str
    outbreaks: int
    found: int
    by_week_2: int
    delay_weeks: float
    clean_years: float
    false_alarms: int

    @property
    def a_year(self) -> float:
        """False alarms a year and series."""
        return self.false_alarms / self.clean_years


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """The two tables, the labels, and the rules they were made under."""

    real: tuple[Line, ...]
    made: tuple[Line, ...]
    labels: dict[str, tuple[str, ...]]
    rules: Rules
    quorums: dict[str, tuple[Line, Line]]


@dataclass
class _Tally:
    """What one voice has come to."""

    family: str
    delays: list[int] = field(default_factory=list)
    outbreaks: int = 0
    false_alarms: int = 0

    def line(self, who: str, clean_weeks: int) -> Line:
        return Line(
            who=who,
            family=self.family,
            outbreaks=self.outbreaks,
            found=len(self.delays),
            by_week_2=sum(delay <= 2 for delay in self.delays),
            delay_weeks=float(statistics.median(self.delays)) if self.delays else -1.0,
            clean_years=round(clean_weeks / YEAR, 2),
            false_alarms=self.false_alarms,
        )


class _Table:
    """Counts what every voice says of many weeks."""

    def __init__(self) -> None:
        self._tallies: dict[str, _Tally] = {}
        self._clean_weeks = 0

    def clean(self, assessment: Assessment) -> None:
        """A week in which nothing was going on."""
        self._clean_weeks += 1
        for who, (family, alarm) in voices(assessment).items():
            self._of(who, family).false_alarms += alarm

    def outbreak(self, weeks: Sequence[Assessment]) -> None:
        """The weeks of an outbreak, from its first."""
        for who, (family, _) in voices(weeks[0]).items():
            tally = self._of(who, family)
            tally.outbreaks += 1
            delay = next((n for n, week in enumerate(weeks) if voices(week)[who][1]), None)
            if delay is not None:
                tally.delays.append(delay)

    def lines(self) -> tuple[Line, ...]:
        return tuple(tally.line(who, self._clean_weeks) for who, tally in self._tallies.items())

    def _of(self, who: str, family: str) -> _Tally:
        return self._tallies.setdefault(who, _Tally(family))


def voices(assessment: Assessment) -> dict[str, tuple[str, bool]]:
    """Who says what: each detector, and so many families at once; the quorum's own line is the consensus."""
    said = {reading.detector: (reading.family, reading.state is State.ALARM) for reading in assessment.readings}
    for quorum in (1, 2, 3, 4):
        name = CONSENSUS if quorum == assessment.rules.quorum else f"{quorum} of 4 families"
        said[name] = ("", len(assessment.alarms) >= quorum)
    return said


def backtest(rules: Rules) -> Results:
    """Run it all: about half a minute on one core."""
    series = load()
    real, labels = _real(series, rules)
    synthetic = _made(series[IMPORTED], rules)
    plain = {line.who for line in real if line.family} | {CONSENSUS}
    second = {line.who: line for line in synthetic}
    return Results(
        real=tuple(line for line in real if line.who in plain),
        made=tuple(line for line in synthetic if line.who in plain),
        labels=labels,
        rules=rules,
        quorums={line.who: (line, second[line.who]) for line in real if not line.family},
    )


def _real(series: Mapping[str, Points], rules: Rules) -> tuple[tuple[Line, ...], dict[str, tuple[str, ...]]]:
    table, labels = _Table(), {}
    for place in LOCAL:
        points = series[place]
        weeks = range(week_number(FROM), max(points) + 1)
        said = {week: assess(points, week_name(week), rules) for week in weeks}
        events = [event for event in found_in(points) if event.first in said]
        for event in events:
            if event.is_large:
                table.outbreak([said[week] for week in range(event.first, event.last + 1)])
        busy = {week for event in found_in(points) for week in range(event.first, event.last + 1)}
        for week in weeks:
            if week not in busy:
                table.clean(said[week])
        labels[place] = tuple(_label(event) for event in events if event.is_large)
    return table.lines(), labels


def _made(points: Points, rules: Rules) -> tuple[Line, ...]:
    table = _Table()
    first, last = week_number(FROM), week_number(UNTIL)
    for week in range(first, last + 1):
        table.clean(assess(points, week_name(week), rules))
    for k in STRENGTHS:
        for seed in SEEDS:
            more, event = made(points, first, last - 10, k, int(seed + 1000 * k))
            weeks = [assess(more, week_name(week), rules) for week in range(event.first, event.last + 1)]
            table.outbreak(weeks)
    return table.lines()


def _label(event: Outbreak) -> str:
    return f"{week_name(event.first)} to {week_name(event.last)}, {event.cases} cases"
