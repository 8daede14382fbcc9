"""What the doctor makes of a state: each thing that can be wrong is told, with what to do, and nothing else is."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from console.health.judging import judge
from console.health.state import AuditLine, HubLine, People, StageLine, State, StreamLine
from mesh.registry import Entry
from mesh.settings import Settings
from mesh.site import ROLES

AT = datetime(2026, 11, 1, 3, tzinfo=UTC)
GOOD = State(
    at=AT,
    server="2.15.1",
    ahead_s=0.01,
    storage=10,
    storage_max=1000,
    processes=tuple(Entry(role=role, instance=f"{role}-1", since=AT) for role in ROLES),
    stages=(StageLine(stage="planner", waiting=2, in_hand=1, oldest_s=0.4),),
    streams=(StreamLine(name="JOURNAL", messages=5, bytes=10, max_bytes=-1, replicas=1, down=()),),
    missing=(),
    people=People(approvals=2, overdue=0, in_doubt=0, oldest_s=5.0),
    quarantine=0,
    halts=(),
    restored="",
    audit=AuditLine(behind=3, signed_at=AT.isoformat(), problems=0),
)
OFF = {"models": {"use": "no"}}


def verdicts(**changes: Any) -> dict[str, tuple[str, str]]:
    """What is not well, by name."""
    settings = msgspec.convert(OFF, Settings)
    found = judge(msgspec.structs.replace(GOOD, **changes), settings)
    return {check.name: (check.verdict, f"{check.found} | {check.mend}") for check in found if check.verdict != "ok"}


def test_a_site_that_is_well_has_nothing_to_mend() -> None:
    assert verdicts() == {}
    assert verdicts(hub=HubLine(silent_s=3, up=0, down=0, problem="")) == {}


@pytest.mark.parametrize(
    ("changes", "name", "verdict", "says"),
    [
        ({"server": "2.11.9"}, "server", "fail", "2.12 or later"),
        ({"ahead_s": -3.0}, "clock", "warn", "3.00 s behind"),
        ({"ahead_s": 90.0}, "clock", "fail", "90.00 s ahead"),
        ({"missing": ("AUDIT",)}, "streams", "fail", "AUDIT"),
        (
            {"streams": (msgspec.structs.replace(GOOD.streams[0], down=("nats-2",)),)},
            "streams",
            "warn",
            "JOURNAL on nats-2",
        ),
        ({"storage": 850}, "space", "warn", "85% full"),
        ({"storage": 960}, "space", "fail", "96% full"),
        (
            {"streams": (msgspec.structs.replace(GOOD.streams[0], bytes=97, max_bytes=100),)},
            "space",
            "fail",
            "stream JOURNAL",
        ),
        ({"processes": GOOD.processes[1:]}, "processes", "fail", f"workmesh run {ROLES[0]}"),
        (
            {"stages": (msgspec.structs.replace(GOOD.stages[0], oldest_s=61.0),)},
            "lag",
            "warn",
            "planner: 2 wait, 1 in hand",
        ),
        ({"people": None}, "approvals", "fail", "workmesh run policy"),
        ({"people": People(approvals=1, overdue=0, in_doubt=1, oldest_s=1.0)}, "approvals", "warn", "tasks settle"),
        ({"people": People(approvals=1, overdue=1, in_doubt=0, oldest_s=1.0)}, "approvals", "warn", "too long"),
        ({"quarantine": 4}, "quarantine", "warn", "4 items"),
        ({"halts": ("everything is halted by olga",)}, "paused", "warn", "workmesh resume"),
        ({"restored": "2026-10-31 23:00:00 UTC"}, "restored", "warn", "restore --over"),
        ({"audit": AuditLine(behind=0, signed_at="", problems=0)}, "audit", "warn", "auditor"),
        ({"hub": HubLine(silent_s=61, up=4, down=2, problem="")}, "hub", "warn", "heard 61 s ago, 4 records"),
        ({"hub": HubLine(silent_s=1_000_000_000, up=0, down=0, problem="")}, "hub", "warn", "never heard"),
        ({"hub": HubLine(silent_s=1, up=0, down=0, problem="an old envelope")}, "hub", "warn", "an old envelope"),
        ({"audit": AuditLine(behind=0, signed_at=AT.isoformat(), problems=2)}, "audit", "fail", "audit verify"),
        (
            {"audit": AuditLine(behind=9, signed_at=(AT - timedelta(minutes=1)).isoformat(), problems=0)},
            "audit",
            "warn",
            "60 s ago",
        ),
    ],
)
def test_what_is_wrong_is_told_with_what_to_do(changes: dict[str, Any], name: str, verdict: str, says: str) -> None:
    found = verdicts(**changes)
    assert set(found) == {name}
    assert found[name][0] == verdict
    assert says in found[name][1]


def test_lag_that_a_halt_explains_is_not_told_twice() -> None:
    late = (msgspec.structs.replace(GOOD.stages[0], oldest_s=500.0),)
    assert set(verdicts(stages=late, halts=("domain retail is halted",))) == {"paused"}
