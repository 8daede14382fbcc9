"""Weekly case counts of one place and disease: gaps kept as gaps, cut at the week that is judged.

The rule: a series ends with the week that is judged; nothing after it can be asked for, so no detector looks ahead.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from packs.outbreak.weeks import WINDOW, YEAR

RECENT = 9  # weeks that must be without a gap: the shortest memory of any detector here (EARS: 7 and a lag of 2)

Counts = NDArray[np.float64]


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

    def gap(self, weeks: int = RECENT) -> str:
        """Why no detector may speak of this week, or ""."""
        if len(self.counts) < weeks:
            return f"fewer than {weeks} weeks are known"
        missing = weeks - int(np.isfinite(self.counts[-weeks:]).sum())
        return f"{missing} of the last {weeks} weeks have no count" if missing else ""

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
