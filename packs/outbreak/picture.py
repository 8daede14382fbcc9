"""The picture of a series as inline SVG: bars by week, the judged one marked, and each detector's threshold on it."""

from collections.abc import Sequence
from html import escape

from packs.outbreak.detectors.reading import Reading, State
from packs.outbreak.weeks import week_name, week_number
from packs.outbreak.wire import Claim

WEEKS = 104

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 900, 280, 46, 250, 14
_RIGHT = 130  # room for the names of the thresholds
_LINE = 13  # px between two of them


def draw(claims: Sequence[Claim], readings: Sequence[Reading], week: str) -> str:
    """The last two years up to the week; a gap stays empty."""
    last = week_number(week)
    counts = {week_number(claim.week): claim.count for claim in claims}
    weeks = range(max(last - WEEKS + 1, min(counts, default=last)), last + 1)
    marks = [reading for reading in readings if reading.state is not State.SILENT and reading.alarm_at >= 0]
    most = max([1, *(counts.get(number, 0) for number in weeks), *(mark.alarm_at for mark in marks)])
    step = (_WIDTH - _LEFT - _RIGHT) / len(weeks)
    bars = "".join(_bar(n, counts.get(number), most, step, number == last) for n, number in enumerate(weeks))
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="cases by week" font-family="sans-serif" '
        f'font-size="11"><path d="M{_LEFT} {_TOP}V{_BOTTOM}H{_WIDTH - _RIGHT}" fill="none" stroke="#444"/>'
        f'<text x="{_LEFT - 6}" y="{_TOP + 8}" text-anchor="end">{most}</text>'
        f'<text x="{_LEFT - 6}" y="{_BOTTOM}" text-anchor="end">0</text>'
        f"{bars}{_axis(weeks, step)}{_thresholds(marks, most)}</svg>"
    )


def _bar(n: int, count: int | None, most: int, step: float, judged: bool) -> str:
    if not count:
        return ""
    height = count / most * (_BOTTOM - _TOP)
    colour = "#b00020" if judged else "#7a9cc6"
    return (
        f'<rect x="{_LEFT + n * step:.1f}" y="{_BOTTOM - height:.1f}" width="{max(step - 1, 0.8):.1f}" '
        f'height="{height:.1f}" fill="{colour}"/>'
    )


def _axis(weeks: range, step: float) -> str:
    return "".join(
        f'<text x="{_LEFT + n * step:.1f}" y="{_BOTTOM + 16}">{week_name(number)}</text>'
        for n, number in enumerate(weeks)
        if n % 26 == 0 and n <= len(weeks) - 8
    )


def _thresholds(marks: Sequence[Reading], most: int) -> str:
    """A line from the axis at each detector's least alarm; the names stand apart so that none covers another."""
    drawn, lowest = [], float(_BOTTOM + 4)
    for mark in sorted(marks, key=lambda each: each.alarm_at):
        y = _BOTTOM - mark.alarm_at / most * (_BOTTOM - _TOP)
        label = min(y + 4, lowest)
        lowest = label - _LINE
        right = _WIDTH - _RIGHT
        drawn.append(
            f'<path d="M{_LEFT} {y:.1f}H{right}L{right + 14} {label - 4:.1f}" fill="none" stroke="#888" '
            f'stroke-dasharray="3 3"/><text x="{right + 18}" y="{label:.1f}">{escape(mark.detector)}: '
            f"{mark.alarm_at}</text>"
        )
    return "".join(drawn)
