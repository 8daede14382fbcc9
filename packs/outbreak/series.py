"""Weekly case counts of one place and disease: ISO weeks, gaps kept as gaps, cut at the week that is judged.

The rule: a series ends with the week that is judged; nothing after it can be asked for, so no detector looks ahead.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

YEAR = 52.1775  # weeks; 365.2425 / 7
WINDOW = 313  # weeks, six years: five for the reference values, and what they leave out

Counts = NDArray[np.float64]

_EPOCH = date(1969, 12, 29)  # the Monday of 1970-W01
_WEEK = re.compile(r"(\d{4})-W(\d{2})")


def week_number(week: str) -> int:
    """The number of an ISO 8601 week (``2015-W31``), counted from 1970-W01; raises ``ValueError`` for none such."""
    found = _WEEK.fullmatch(week)
    if found is None:
        raise ValueError(f"expected an ISO week such as 2015-W31, not {week!r}")
    return (date.fromisocalendar(int(found[1]), int(found[2]), 1) - _EPOCH).days // 7


def week_name(number: int) -> str:
    """The ISO 8601 name of a numbered week."""
    year, week, _ = (_EPOCH + timedelta(weeks=number)).isocalendar()
    return f"{year}-W{week:02}"


def is_over(week: str, day: date) -> bool:
    """Whether the week, which ends on a Sunday, has ended before this day."""
    return day >= _EPOCH + timedelta(weeks=week_number(week) + 1)


@dataclass(frozen=True)
class Series:
    """Counts of successive weeks up to the one that is judged; NaN where there is none. ``last`` is its number."""

    last: int
    counts: Counts

    @classmethod
    def of(cls, points: Mapping[int, int], last: int, window: int = WINDOW) -> "Series":
        """The last weeks of what is known, from the first known one on; later points are left out."""
        known = [number for number in points if last - window < number <= last]
        first = min(known, default=last)
        values = [points.get(number, np.nan) for number in range(first, last + 1)]
        return cls(last, np.array(values, dtype=np.float64))

    @property
    def first(self) -> int:
        """The number of the first week."""
        return self.last - len(self.counts) + 1

    @property
    def now(self) -> float:
        """The count of the week that is judged."""
        return float(self.counts[-1])

    def until(self, back: int) -> "Series":
        """The same series as it was so many weeks ago."""
        return self if back == 0 else Series(self.last - back, self.counts[:-back])

    def gaps(self, weeks: int) -> int:
        """How many of the last so many weeks have no count."""
        return weeks - int(np.isfinite(self.counts[-weeks:]).sum())

    def same_season(self, years: int, half_width: int) -> list[Counts]:
        """The weeks around this one in each of the years before, the latest year first; gaps left out."""
        found = []
        for year in range(1, years + 1):
            middle = len(self.counts) - 1 - round(year * YEAR)
            if middle - half_width < 0:
                break
            around = self.counts[middle - half_width : middle + half_width + 1]
            found.append(around[np.isfinite(around)])
        return [each for each in found if len(each)]
