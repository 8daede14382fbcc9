"""EARS C1, C2 and C3: this week against the few weeks before it. They need no history, and know of no season.

Hutwagner, Thompson, Seeman, Treadwell: The bioterrorism preparedness and response Early Aberration Reporting System
(EARS). Journal of Urban Health 80 (2003), i89-i96. Thresholds as there: 3 standard deviations for C1 and C2, 2 for C3.
"""

import math

from packs.outbreak.detectors.reading import Reading, State, silent
from packs.outbreak.series import Series

FAMILY = "window"

_BASELINE = 7
_LAG = 2
# The paper leaves a baseline of equal counts open: the deviation is then 0. Half a case is ours.
_LEAST_DEVIATION = 0.5


def c1(series: Series) -> Reading:
    """The seven weeks before this one."""
    return _shewhart(series, "ears-c1", 0)


def c2(series: Series) -> Reading:
    """Seven weeks that end two before the last one, so that a slow rise does not hide in its own baseline."""
    return _shewhart(series, "ears-c2", _LAG)


def c3(series: Series) -> Reading:
    """What C2 exceeded 1 by, over three weeks."""
    if why := series.gap(_BASELINE + _LAG + 3):
        return silent("ears-c3", FAMILY, why)
    past = sum(max(0.0, _standardised(series.until(back), _LAG)[0] - 1) for back in (1, 2))
    value, mean, deviation = _standardised(series, _LAG)
    total = max(0.0, value - 1) + past
    needed = -1.0 if past > 2.0 else mean + deviation * (3.0 - past)
    return _reading("ears-c3", series, total, 2.0, mean, needed)


def _shewhart(series: Series, name: str, lag: int) -> Reading:
    if why := series.gap(_BASELINE + lag + 1):
        return silent(name, FAMILY, why)
    value, mean, deviation = _standardised(series, lag)
    return _reading(name, series, value, 3.0, mean, mean + 3 * deviation)


def _standardised(series: Series, lag: int) -> tuple[float, float, float]:
    baseline = series.counts[-1 - lag - _BASELINE : -1 - lag]
    mean, deviation = float(baseline.mean()), max(float(baseline.std(ddof=1)), _LEAST_DEVIATION)
    return (series.now - mean) / deviation, mean, deviation


def _reading(name: str, series: Series, value: float, threshold: float, mean: float, limit: float) -> Reading:
    """``limit`` is the threshold as a count: whatever lies above it is an alarm."""
    return Reading(
        detector=name,
        family=FAMILY,
        state=State.ALARM if series.now > limit else State.QUIET,
        value=round(value, 3),
        threshold=threshold,
        expected=round(mean, 3),
        alarm_at=math.floor(limit) + 1,
    )
