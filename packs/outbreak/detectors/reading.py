"""What a detector says of a week, and how it is made."""

from enum import StrEnum

import msgspec


class State(StrEnum):
    """An alarm, none, or no word: too little is known of the past, or there is a gap."""

    ALARM = "alarm"
    QUIET = "quiet"
    SILENT = "silent"


class Reading(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One detector's word. ``value`` above ``threshold`` is an alarm; ``alarm_at`` is the count from which it is one.

    ``alarm_at`` is -1 where nobody knows: the detector is silent, or too few cases were not worth a regression.
    """

    detector: str
    family: str
    state: State
    value: float = 0.0
    threshold: float = 0.0
    expected: float = 0.0
    alarm_at: int = -1
    note: str = ""


def silent(detector: str, family: str, why: str) -> Reading:
    """The word of a detector that cannot tell."""
    return Reading(detector=detector, family=family, state=State.SILENT, note=why)
