"""A cumulative sum: small excesses that go on, week after week, over what the season leads one to expect.

Rossi, Lampugnani, Marchi: An approximate CUSUM procedure for surveillance of health events. Statistics in Medicine 18
(1999), 2111-2122: counts are brought near to a standard normal by (x - 3m + 2 sqrt(x m)) / (2 sqrt(m)). Reference value
and limit (k 1.04, h 2.26) are the defaults of ``algo.cusum`` in the R package surveillance.
"""

import math
import statistics

from packs.outbreak.detectors.reading import Reading, State, silent
from packs.outbreak.series import Series

FAMILY = "cumulative"
NAME = "cusum"

_K, _H = 1.04, 2.26
_YEARS, _HALF_WIDTH = 5, 3
_MEMORY = 26  # weeks; the sum begins at 0 that long ago, so that it is a function of a bounded series
_LEAST = 0.5  # cases; below it the transformation is far from normal


def cusum(series: Series) -> Reading:
    """The sum up to this week; it is held at twice the limit, or it would sound for months after an epidemic."""
    if why := series.gap():
        return silent(NAME, FAMILY, why)
    if len(series.same_season(_YEARS, _HALF_WIDTH)) < 2:
        return silent(NAME, FAMILY, "fewer than 2 years before are known")
    total = before = 0.0
    for back in range(min(_MEMORY, len(series.counts)) - 1, -1, -1):
        then = series.until(back)
        expected = _expected(then)
        if expected is None or math.isnan(then.now):
            continue
        before = total
        total = min(2 * _H, max(0.0, total + _standardised(then.now, expected) - _K))
    now = _expected(series) or _LEAST
    limit = _limit(before, now)
    return Reading(
        detector=NAME,
        family=FAMILY,
        state=State.ALARM if series.now > limit else State.QUIET,
        value=round(total, 3),
        threshold=_H,
        expected=round(now, 3),
        alarm_at=math.floor(limit) + 1,
    )


def _expected(series: Series) -> float | None:
    """The median of the same season over the years: one epidemic year does not make the next one look usual."""
    seasons = series.same_season(_YEARS, _HALF_WIDTH)
    if len(seasons) < 2:
        return None
    return max(_LEAST, statistics.median(float(season.sum()) / len(season) for season in seasons))


def _standardised(count: float, mean: float) -> float:
    return (count - 3 * mean + 2 * math.sqrt(count * mean)) / (2 * math.sqrt(mean))


def _limit(before: float, mean: float) -> float:
    """The threshold as a count: the transformation solved for the root of the count; -1 where any count is above."""
    wanted = _H + _K - before
    root = -math.sqrt(mean) + math.sqrt(max(0.0, 4 * mean + 2 * math.sqrt(mean) * wanted))
    return root * root if root >= 0 else -1.0
