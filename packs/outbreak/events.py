"""What happens to a public health office: numbers come in, weeks close, bulletins are read, alerts are withdrawn.

The rule: a number without source, document, row and day of receipt is none. Fields are flat, so that a row of a CSV
file or the head of a mail fills them. Subjects of events about a series are ``<place>/<disease>``.
"""

from datetime import date

import msgspec

from mesh.pack import EventType
from packs.outbreak.arguments import Count, Day, Digest, Name, Reason, Revision, Row, Signal, Text, Week
from packs.outbreak.weeks import week_number

REPORTED = "outbreak.counts.reported"
CORRECTED = "outbreak.counts.corrected"
CLOSED = "outbreak.week.closed"
WITHDRAWAL = "outbreak.withdrawal.requested"
BULLETIN = "outbreak.bulletin.received"
READ = "outbreak.bulletin.read"


class OfSeries(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of one week of a series."""

    place: Name
    disease: Name
    week: Week

    def __post_init__(self) -> None:
        week_number(self.week)  # not every year has a week 53


class CountsReported(OfSeries, frozen=True, kw_only=True):
    """A source tells the number of cases of a week. ``document`` is the digest of what it was read from."""

    count: Count
    source: Name
    document: Digest
    row: Row
    received: Day

    def __post_init__(self) -> None:
        super().__post_init__()
        date.fromisoformat(self.received)


class CountsCorrected(CountsReported, frozen=True, kw_only=True):
    """The same source tells another number in place of its revision ``replaces``, from another document."""

    replaces: Revision
    reason: Reason


class WeekClosed(OfSeries, frozen=True, kw_only=True):
    """No more numbers are waited for: the week is to be judged; or to be judged again, as often as this comes."""


class WithdrawalRequested(OfSeries, frozen=True, kw_only=True):
    """Somebody asks for the alert of a week to be withdrawn, and says why."""

    reason: Reason


class BulletinReceived(msgspec.Struct, frozen=True, kw_only=True):
    """What a health authority writes in a week, in its own words."""

    source: Name
    bulletin: Row
    week: Week
    document: Digest
    text: Text

    def __post_init__(self) -> None:
        week_number(self.week)


class BulletinRead(BulletinReceived, frozen=True, kw_only=True):
    """What was read in a bulletin: of which series it speaks, and whether cases rise; ``quote`` are its own words."""

    place: Name
    disease: Name
    signal: Signal
    quote: Row


EVENTS = (
    # A source's next file tells its numbers again, in other rows.
    EventType(REPORTED, CountsReported, taint=("/row",), entity="series", provenance=("document", "row", "received")),
    EventType(CORRECTED, CountsCorrected, taint=("/row", "/reason"), entity="series"),
    EventType(CLOSED, WeekClosed, entity="series"),
    EventType(WITHDRAWAL, WithdrawalRequested, taint=("/reason",), entity="series", urgency="high"),
    EventType(BULLETIN, BulletinReceived, taint=("/text",), entity="bulletin"),
    EventType(READ, BulletinRead, taint=("/text", "/quote"), entity="bulletin"),
)
