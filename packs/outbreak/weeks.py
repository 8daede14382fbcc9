"""ISO weeks as numbers, so that they can be counted."""

import re
from datetime import date, timedelta

YEAR = 52.1775  # weeks; 365.2425 / 7
WINDOW = 313  # weeks that are judged by, six years: five for the reference values, and what they leave out

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
