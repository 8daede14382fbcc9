"""A Bayesian predictive limit: what the weeks of reference lead one to expect, their own uncertainty included.

Riebler: Empirischer Vergleich von statistischen Methoden zur Ausbruchserkennung bei Surveillance Daten (Munich, 2004),
as ``algo.bayes`` in Höhle: surveillance, an R package, Computational Statistics 22 (2007), 571-582. Counts are Poisson
with a Gamma(1/2, 0) rate (Jeffreys), so the next count is negative binomial. Reference: six weeks before this one, and
13 around it in each of two years.
"""

import numpy as np
from scipy.stats import nbinom

from packs.outbreak.detectors.reading import Reading, State, silent
from packs.outbreak.series import Series

FAMILY = "bayes"
NAME = "bayes"

_WEEKS = 6
_YEARS = 2


def bayes(series: Series, alpha: float = 0.001) -> Reading:
    """An alarm when a count this high has a probability below ``alpha``."""
    if why := series.gap():
        return silent(NAME, FAMILY, why)
    seasons = series.same_season(_YEARS, _WEEKS)
    if len(seasons) < _YEARS:
        return silent(NAME, FAMILY, f"{len(seasons)} of {_YEARS} years before are known")
    reference = np.concatenate([series.counts[-1 - _WEEKS : -1], *seasons])
    size, share = float(reference.sum()) + 0.5, len(reference) / (len(reference) + 1)
    limit = int(nbinom.ppf(1 - alpha, size, share))
    return Reading(
        detector=NAME,
        family=FAMILY,
        state=State.ALARM if series.now > limit else State.QUIET,
        value=series.now,
        threshold=float(limit),
        expected=round(size * (1 - share) / share, 3),
        alarm_at=limit + 1,
    )
