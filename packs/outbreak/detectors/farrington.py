"""The improved Farrington algorithm: a regression on five years, with trend and season, past outbreaks weighed down.

Noufaily, Enki, Farrington, Garthwaite, Andrews, Charlett: An improved algorithm for outbreak detection in multiple
surveillance systems. Statistics in Medicine 32 (2013), 1206-1222: quasi-Poisson, a seasonal factor of ten levels, the
last 26 weeks left out, weights from Anscombe residuals above 2.58, the limit a quantile of a negative binomial. Alarms
need five cases in four weeks (Farrington et al., JRSS A 159 (1996), 547-563).
"""

import warnings

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import nbinom, poisson
from statsmodels.genmod.families import Poisson
from statsmodels.genmod.generalized_linear_model import GLM

from packs.outbreak.detectors.reading import Reading, State, silent
from packs.outbreak.series import Counts, Series
from packs.outbreak.weeks import YEAR

FAMILY = "regression"
NAME = "farrington"

_YEARS, _LEAST_YEARS = 5, 3
_HALF_WIDTH = 3
_LEVELS = 10
_LEFT_OUT = 26
_RESIDUAL = 2.58
_SIGNIFICANT = 0.05
_CASES, _WEEKS = 5, 4


def farrington(series: Series, alpha: float = 0.005) -> Reading:
    """An alarm when a count this high has a probability below ``alpha``."""
    if why := series.gap():
        return silent(NAME, FAMILY, why)
    back = np.arange(len(series.counts) - 1, -1, -1)
    counts = series.counts
    wanted = (back > _LEFT_OUT) & (back <= round(_YEARS * YEAR) + _HALF_WIDTH) & np.isfinite(counts)
    if not wanted.any() or back[wanted].max() < _LEAST_YEARS * YEAR - _HALF_WIDTH:
        return silent(NAME, FAMILY, f"fewer than {_LEAST_YEARS} years before are known")
    few = _CASES - int(counts[-_WEEKS:-1].sum())
    if series.now < few:
        note = f"fewer than {_CASES} cases in {_WEEKS} weeks: nothing was fitted"
        least = Reading(detector=NAME, family=FAMILY, state=State.QUIET, value=series.now, note=note)
        return msgspec.structs.replace(least, threshold=float(few - 1))
    fitted = _expected(counts[wanted], back[wanted].astype(np.float64))
    if fitted is None:
        return silent(NAME, FAMILY, "the regression has no solution on these weeks")
    expected, dispersion = fitted
    limit = _limit(expected, dispersion, alpha)
    return Reading(
        detector=NAME,
        family=FAMILY,
        state=State.ALARM if series.now > limit else State.QUIET,
        value=series.now,
        threshold=float(limit),
        expected=round(expected, 3),
        alarm_at=max(limit + 1, few),
    )


def _limit(expected: float, dispersion: float, alpha: float) -> int:
    if dispersion <= 1.0 + 1e-6:
        return int(poisson.ppf(1 - alpha, expected))
    return int(nbinom.ppf(1 - alpha, expected / (dispersion - 1), 1 / dispersion))


def _expected(counts: Counts, back: Counts) -> tuple[float, float] | None:
    """What is expected now (``back`` 0), and the dispersion; the trend counts where it is significant and no leap."""
    levels = _season(back)
    totals = np.bincount(levels, weights=counts, minlength=_LEVELS)
    # A level without a case has no finite coefficient: its weeks tell nothing of the others. Without one in the level
    # of this week there is no season to go by.
    if totals[0] > 0:
        kept = totals[levels] > 0
        counts, back, levels = counts[kept], back[kept], levels[kept]
    else:
        levels = np.zeros_like(levels)
    if counts.sum() == 0:
        return 0.5 / len(counts), 1.0
    season = np.column_stack([np.ones(len(counts)), *(levels == level for level in np.unique(levels) if level)])
    with_trend = _fit(counts, np.column_stack([season, -back / YEAR]))
    if with_trend is not None:
        expected, dispersion, p_value = with_trend
        if p_value < _SIGNIFICANT and expected <= counts.max():
            return max(expected, 0.5 / len(counts)), dispersion
    without = _fit(counts, season.astype(np.float64))
    return None if without is None else (max(without[0], 0.5 / len(counts)), without[1])


def _fit(counts: Counts, design: NDArray[np.float64]) -> tuple[float, float, float] | None:
    """Expected now, dispersion, and the p-value of the last column: fitted, weighed, fitted again."""
    weights = np.ones(len(counts))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what does not converge is not significant, or bounded by the caller
            fitted = GLM(counts, design, family=Poisson(), var_weights=weights).fit(scale="X2")
            dispersion = max(1.0, float(fitted.scale))
            weights = _weights(counts, np.asarray(fitted.mu), np.asarray(fitted.get_hat_matrix_diag()), dispersion)
            fitted = GLM(counts, design, family=Poisson(), var_weights=weights).fit(scale="X2")
            p_value = float(fitted.pvalues[-1])
    except (ValueError, np.linalg.LinAlgError):
        return None
    # At the week that is judged all but the intercept are 0: it is in level 0, and its time is 0.
    expected = float(np.exp(min(20.0, fitted.params[0])))
    return (expected, max(1.0, float(fitted.scale)), p_value) if np.isfinite(expected) else None


def _weights(counts: Counts, mu: Counts, hat: Counts, dispersion: float) -> Counts:
    """Less weight for weeks far above what was fitted, which may be outbreaks; the weights sum to their number."""
    mu = np.maximum(mu, 1e-10)
    spread = mu ** (1 / 6) * np.sqrt(dispersion * np.maximum(1 - hat, 1e-6))
    residuals = 1.5 * (counts ** (2 / 3) - mu ** (2 / 3)) / spread
    high = residuals > _RESIDUAL
    weights = np.where(high, 1.0 / np.where(high, residuals, 1.0) ** 2, 1.0)
    result: Counts = weights * len(weights) / weights.sum()
    return result


def _season(back: Counts) -> NDArray[np.int64]:
    """Level 0 is this week and three on either side, in every year; nine levels share the rest."""
    after = (-back) % YEAR
    level = 1 + np.floor((after - _HALF_WIDTH - 0.5) / ((YEAR - 2 * _HALF_WIDTH - 1) / (_LEVELS - 1)))
    near = (after <= _HALF_WIDTH + 0.5) | (after >= YEAR - _HALF_WIDTH - 0.5)
    return np.where(near, 0, np.clip(level, 1, _LEVELS - 1)).astype(np.int64)
