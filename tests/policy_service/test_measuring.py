"""What waits for people, as metrics: how long the oldest, how many too long, and words that begin at zero."""

from datetime import UTC, datetime, timedelta

from prometheus_client import REGISTRY

from mesh.approvals import Waiting
from mesh.records import Purpose
from policy_service.measuring import show_waiting, times_of

AT = datetime(2026, 1, 2, 12, tzinfo=UTC)


def waiting(since_min: float, escalate_min: float | None = None) -> Waiting:
    """A plan that has waited so long, and is to escalate so long after that."""
    since = AT - timedelta(minutes=since_min)
    at = None if escalate_min is None else since + timedelta(minutes=escalate_min)
    return Waiting(task_id="t", domain="d", purpose=Purpose.PLAN, roles=("r",), since=since, until=None, escalate_at=at)


def shown(*items: Waiting) -> tuple[float | None, float | None]:
    show_waiting((times_of(item) for item in items), AT.timestamp())
    names = ("workmesh_approvals_oldest_seconds", "workmesh_approvals_overdue")
    oldest, overdue = (REGISTRY.get_sample_value(name) for name in names)
    return oldest, overdue


def test_the_oldest_and_those_beyond_their_time_are_told() -> None:
    assert shown() == (0, 0)
    assert shown(waiting(5), waiting(40)) == (2400, 0)
    assert shown(waiting(5, 30), waiting(40, 30), waiting(30, 30)) == (2400, 2)
    assert shown() == (0, 0)
