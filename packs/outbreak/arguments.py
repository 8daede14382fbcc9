"""The arguments of the registry's tools, as a plan holds them: bounded, and without unknown fields."""

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Literal

import msgspec

from packs.outbreak.detectors.reading import Reading
from packs.outbreak.weeks import week_number

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9\-]{0,39}\Z")]
Week = Annotated[str, msgspec.Meta(pattern=r"^\d{4}-W(0[1-9]|[1-4]\d|5[0-3])\Z")]
Day = Annotated[str, msgspec.Meta(pattern=r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])\Z")]
Digest = Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
Row = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
Revision = Annotated[int, msgspec.Meta(ge=1, le=1000)]
Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
AlertId = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9\-]{0,39}\.[a-z][a-z0-9\-]{0,39}\.\d{4}-W\d{2}\Z")]
Readings = Annotated[tuple[Reading, ...], msgspec.Meta(min_length=1, max_length=30)]
Names = Annotated[tuple[Name, ...], msgspec.Meta(max_length=10)]
Signal = Literal["rise", "usual"]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=10_000)]


class SeriesArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What most tools name: a week of a series."""

    place: Name
    disease: Name
    week: Week

    def __post_init__(self) -> None:
        week_number(self.week)  # not every year has a week 53


class RecordArgs(SeriesArgs, frozen=True, kw_only=True):
    """A number with all that it comes from: who says so, in which document, in which row, received when."""

    count: Count
    source: Name
    document: Digest
    row: Row
    received: Day

    def __post_init__(self) -> None:
        super().__post_init__()
        date.fromisoformat(self.received)


class CorrectArgs(RecordArgs, frozen=True, kw_only=True):
    """Another number of the same source, in place of its revision ``replaces``, which is kept."""

    replaces: Revision
    reason: Reason


class SettleArgs(SeriesArgs, frozen=True, kw_only=True):
    """Which of the contested numbers of a week stands: a source's revision. A person may choose another one."""

    source: Name
    revision: Revision
    reason: Reason


class JudgedArgs(SeriesArgs, frozen=True, kw_only=True):
    """A verdict and what it rests on: the digest of the series up to the week, and every detector's word."""

    alert: AlertId
    series: Digest
    families: Names
    quorum: Annotated[int, msgspec.Meta(ge=2, le=5)]
    readings: Readings


class PublishArgs(JudgedArgs, frozen=True, kw_only=True):
    """Publish an alert: on the page, with its evidence, and to those who want to be told."""

    count: Count
    verdict: Reason


class UpholdArgs(JudgedArgs, frozen=True, kw_only=True):
    """Numbers under an alert were corrected; it was judged again and stands."""


class WithdrawArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Mark an alert as withdrawn; it stays where it is."""

    alert: AlertId
    reason: Reason


class FileArgs(SeriesArgs, frozen=True, kw_only=True):
    """File what a health authority says of a series in a bulletin; one voice among the detectors."""

    bulletin: Row
    source: Name
    document: Digest
    signal: Signal
    quote: Annotated[str, msgspec.Meta(min_length=1, max_length=300)]


class HandOverArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A bulletin that a person must read: why, and what was made of it so far."""

    bulletin: Row
    source: Name
    document: Digest
    text: Text
    reason: Annotated[str, msgspec.Meta(max_length=2_000)]
    options: Annotated[tuple[str, ...], msgspec.Meta(max_length=10)] = ()


Change = RecordArgs | CorrectArgs | SettleArgs | PublishArgs | UpholdArgs | WithdrawArgs | FileArgs | HandOverArgs

CHANGES: Mapping[str, type[Change]] = {
    "record": RecordArgs,
    "correct": CorrectArgs,
    "settle": SettleArgs,
    "publish": PublishArgs,
    "uphold": UpholdArgs,
    "withdraw": WithdrawArgs,
    "file": FileArgs,
    "hand-over": HandOverArgs,
}


def alert_id(place: str, disease: str, week: str) -> str:
    """The one alert that a series can have in a week."""
    return f"{place}.{disease}.{week}"
