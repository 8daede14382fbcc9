"""Two exact tests of chance, for counts as small as a day's: no approximation that needs many tasks.

Fisher's exact test for two proportions: R. A. Fisher, Statistical Methods for Research Workers, 5th ed. 1934, 21.02.
The sign test for pairs, exact McNemar: Q. McNemar, Psychometrika 12 (1947) 153; A. L. Edwards 13 (1948) 185.
"""

from math import comb, exp, lgamma

SIGN_TEST = "sign test (exact McNemar), one-sided"
FISHER_TEST = "Fisher's exact test, one-sided"


def rise(before: tuple[int, int], since: tuple[int, int]) -> float:
    """The probability that hits rise at least so by chance, from (hits, of) to (hits, of): 1 when there is nothing.

    Given all hits of both, those of the second follow the hypergeometric distribution.
    """
    hits, total = before[0] + since[0], before[1] + since[1]
    if not before[1] or not since[1]:
        return 1.0
    most = min(hits, since[1])
    logs = (_log_comb(since[1], k) + _log_comb(before[1], hits - k) for k in range(since[0], most + 1))
    whole = _log_comb(total, hits)
    return min(1.0, sum(exp(each - whole) for each in logs))


def change(before: tuple[int, int], since: tuple[int, int]) -> float:
    """The same for a change either way: twice the smaller of the two, at most 1."""
    fall = rise((before[1] - before[0], before[1]), (since[1] - since[0], since[1]))
    return min(1.0, 2 * min(rise(before, since), fall))


def sign_test(better: int, worse: int) -> float:
    """The probability of at least so many better ones among those that differ, were each as likely to be worse."""
    total = better + worse
    return sum(comb(total, k) for k in range(better, total + 1)) / 2**total if total else 1.0


def _log_comb(n: int, k: int) -> float:
    if k < 0 or k > n:
        return float("-inf")
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
