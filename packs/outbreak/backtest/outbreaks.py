"""What counts as an outbreak: found in the whole series afterwards for the real ones, put in for the made ones.

The real ones, by rule, since the source labels none: weeks with ten local cases in four weeks belong together unless
more than eight weeks are between them; one hundred cases make an outbreak. Those of Kaohsiung in 2006, 2009 to 2011 and
2014 and of Tainan in 2007 and 2012 are reviewed in Wang et al., American Journal of Tropical Medicine and Hygiene 94
(2016), 193-197, and for Kaohsiung until 2009 in Lin et al., Emerging Infectious Diseases 18 (2012), 1603-1611.

The made ones follow Noufaily et al. (Statistics in Medicine 32 (2013), 1206-1222): as many cases as Poisson with ``k``
standard deviations of the series as its mean, spread over the weeks by a lognormal (0, 0.5) distribution.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

ACTIVE, ACTIVE_WEEKS = 10, 4
APART = 8
LARGE = 100


@dataclass(frozen=True)
class Outbreak:
    """Its weeks, first and last included, by number, and its cases. Small ones are clusters: neither hit nor miss."""

    first: int
    last: int
    cases: int

    @property
    def is_large(self) -> bool:
        """Whether it counts as an outbreak."""
        return self.cases >= LARGE


def found_in(points: Mapping[int, int]) -> list[Outbreak]:
    """The outbreaks and clusters of a series, by the rule."""
    active = [
        week for week in sorted(points) if sum(points.get(week - back, 0) for back in range(ACTIVE_WEEKS)) >= ACTIVE
    ]
    runs: list[list[int]] = []
    for week in active:
        if runs and week - runs[-1][-1] <= APART:
            runs[-1].append(week)
        else:
            runs.append([week])
    return [_outbreak(points, run[0], run[-1]) for run in runs]


def _outbreak(points: Mapping[int, int], first: int, last: int) -> Outbreak:
    """Begun with the first case of the four weeks that made it active."""
    begun = next(week for week in range(first - ACTIVE_WEEKS + 1, first + 1) if points.get(week, 0) > 0)
    return Outbreak(begun, last, sum(points.get(week, 0) for week in range(begun, last + 1)))


def made(points: Mapping[int, int], first: int, last: int, k: float, seed: int) -> tuple[dict[int, int], Outbreak]:
    """The series with one outbreak put in somewhere between two weeks; the seed decides all that chance would."""
    rng = np.random.default_rng(seed)
    start = random.Random(seed).randrange(first, last)
    usual = [count for week, count in points.items() if start - 52 <= week < start]
    size = max(1, int(rng.poisson(k * max(1.0, float(np.std(usual))))))
    weeks = np.floor(rng.lognormal(0.0, 0.5, size)).astype(int)
    more = dict(points)
    for week in weeks:
        more[start + int(week)] = more.get(start + int(week), 0) + 1
    return more, Outbreak(start + int(weeks.min()), start + int(weeks.max()), size)
