"""The verdict of the detectors on a week, and all that it rests on; ``packs.outbreak.consensus`` makes it."""

from typing import Annotated, Literal

import msgspec

from packs.outbreak.detectors.reading import Reading

REPORT = "report"  # the family of what health authorities say in words: one voice, never counted as statistical


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When there is consensus: ``quorum`` families with an alarm, ``statistical`` of them by numbers.

    No week with fewer than ``min_cases`` is an alarm of any statistical detector. The alphas are the chance of a false
    alarm in one week that each of the two detectors is built for.
    """

    quorum: Annotated[int, msgspec.Meta(ge=2, le=5)] = 3
    statistical: Annotated[int, msgspec.Meta(ge=2, le=4)] = 2
    min_cases: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 3
    farrington_alpha: Annotated[float, msgspec.Meta(gt=0, le=0.1)] = 0.005
    bayes_alpha: Annotated[float, msgspec.Meta(gt=0, le=0.1)] = 0.001

    def __post_init__(self) -> None:
        if self.statistical > self.quorum:
            raise ValueError(f"statistical is {self.statistical}, which is more than the quorum of {self.quorum}")


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What a health authority said in words about the place and disease in a week."""

    week: str
    signal: Literal["rise", "usual"]
    source: str
    document: str


class Assessment(msgspec.Struct, frozen=True, kw_only=True):
    """The word of every detector on the last week of ``counts`` (``None`` is a gap), and whether they agree.

    It holds all that it rests on: with ``counts``, ``said`` and ``rules`` it can be made again anywhere.
    """

    week: str
    first_week: str
    counts: tuple[int | None, ...]
    readings: tuple[Reading, ...]
    alarms: tuple[str, ...]
    quiet: tuple[str, ...]
    silent: tuple[str, ...]
    consensus: bool
    verdict: str
    rules: Rules
    said: tuple[Said, ...] = ()
