"""What the metrics are fed with: recovery, queues, quarantine, series that begin at zero, the registry's addresses."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import REGISTRY

from console.targets import keep_targets, targets
from mesh import quarantine, subjects
from mesh.backlog import Backlog
from mesh.breaker import Breaker
from mesh.clock import unix
from mesh.disk import show_disk
from mesh.errors import RetryableError
from mesh.journal import Message, committing
from mesh.lifetime import background
from mesh.middleware.recovery import recovery
from mesh.pump import Delivery
from mesh.queues import look
from mesh.registry import entries, registered
from mesh.runtime import NotYetError, Outputs, Work
from mesh.series import begin_stage
from mesh.streams import STAGES
from tests.mesh.live_mesh import LiveMesh, eventually
from tests.mesh.test_quarantine import refused

PLANNER = next(stage for stage in STAGES if stage.stage == "planner")


def sample(name: str, **labels: str) -> float | None:
    """The value of a series, or ``None`` where there is none."""
    return REGISTRY.get_sample_value(name, labels)


def work(stage: str, *, attempt: int, seq: int = 7, age_s: float = 2.0) -> Work:
    """An input that was stored so long ago."""
    nobody: Any = None
    at = unix() - age_s
    delivery = Delivery(nobody, "JOURNAL", stage, "task.x", b"", {}, seq, attempt, 0, at, "")
    return Work(delivery, "JOURNAL", "task.x", seq, b"", {}, at, stage, "w")


async def done(_: Work) -> Outputs:
    return ()


async def test_an_input_that_came_again_counts_from_when_it_was_stored() -> None:
    handle = recovery(done)
    await handle(work("s1", attempt=1))
    assert sample("workmesh_recovery_seconds_count", stage="s1") is None
    await handle(work("s1", attempt=2))
    assert sample("workmesh_recovery_seconds_count", stage="s1") == 1
    assert sample("workmesh_recovery_seconds_sum", stage="s1") == pytest.approx(2, abs=0.5)


async def test_an_input_that_waited_on_purpose_is_left_out_and_one_that_failed_is_not() -> None:
    raised: list[Exception] = [NotYetError("wait"), NotYetError("wait"), RetryableError("the target is away")]

    async def at_last(_: Work) -> Outputs:
        if raised:
            raise raised.pop(0)
        return ()

    handle = recovery(at_last)
    for attempt in (1, 2):
        with pytest.raises(NotYetError):
            await handle(work("s2", attempt=attempt, seq=1))
    with pytest.raises(RetryableError):
        await handle(work("s2", attempt=1, seq=2))
    await handle(work("s2", attempt=3, seq=1))
    assert sample("workmesh_recovery_seconds_count", stage="s2") is None
    await handle(work("s2", attempt=2, seq=2))
    assert sample("workmesh_recovery_seconds_count", stage="s2") == 1
    await handle(work("s2", attempt=2, seq=1))  # the same sequence, later, and this time for a process that died
    assert sample("workmesh_recovery_seconds_count", stage="s2") == 2


async def test_a_queue_has_a_depth_and_the_age_of_its_oldest(live: LiveMesh) -> None:
    async with live.bus() as bus:
        await look(bus, PLANNER)
        assert sample("workmesh_queue_depth", stage="planner") == 0
        assert sample("workmesh_queue_oldest_seconds", stage="planner") == 0
        for task in ("t1", "t2"):
            await bus.store(subjects.record("context", "retail", task, "-"), b"{}")
        await bus.store(subjects.record("outcome", "retail", "t1", "-"), b"{}")  # of no interest to the planner
        await asyncio.sleep(0.3)  # what has an age was stored a while ago
        await look(bus, PLANNER)
        assert sample("workmesh_queue_depth", stage="planner") == 2
        assert 0.2 < (sample("workmesh_queue_oldest_seconds", stage="planner") or 0) < 15


async def test_quarantine_counts_what_nobody_has_released(live: LiveMesh) -> None:
    async with live.bus() as bus, committing(bus) as committer:
        backlog = Backlog(bus)
        for message in (refused(), refused(seq=2), refused(seq=2, detail="still no"), refused("policy")):
            await committer.commit([message])
        await committer.commit([Message(subjects.quarantine("policy", "x"), b"no item at all", None)])
        await backlog.catch_up()
        assert backlog.counts() == {("planner", "malformed"): 2, ("policy", "malformed"): 1}
        first, *_ = await readable(bus)
        await quarantine.release(committer, first, person="ann")
        await backlog.catch_up()
        assert sum(backlog.counts().values()) == 2
        async with background(backlog.run(), "backlog"):
            await eventually(lambda: told(2.0))


async def readable(bus: Any) -> list[quarantine.Quarantined]:
    """Items that can be read, oldest first."""
    page = await bus.read(subjects.QUARANTINE, 1, 256)
    found = []
    for message in page:
        try:
            found.append(quarantine.decode(message))
        except msgspec.DecodeError:
            continue
    return found


async def told(least: float) -> bool:
    series = [
        sample("workmesh_quarantine_waiting", stage=stage, reason="malformed") or 0 for stage in ("planner", "policy")
    ]
    return sum(series) == least and (sample("workmesh_quarantine_oldest_seconds") or 0) > 0


def test_what_has_not_happened_yet_is_zero() -> None:
    begin_stage("perception", ["zoo"])
    assert sample("workmesh_outcomes_total", domain="zoo", status="failed") == 0
    begin_stage("zookeeper", ())  # a stage that no other test of this process has run
    assert sample("workmesh_dead_letters_total", stage="zookeeper") == 0
    assert sample("workmesh_recovery_seconds_count", stage="zookeeper") == 0


def test_a_disk_that_is_gone_is_no_number_and_no_error(tmp_path: Path) -> None:
    show_disk(tmp_path)
    free, size = (sample(f"workmesh_disk_{name}_bytes") for name in ("free", "size"))
    assert free is not None and size is not None and 0 < free <= size
    show_disk(tmp_path / "nowhere")
    assert str(sample("workmesh_disk_free_bytes")) == "nan"


async def test_the_list_of_targets_follows_the_registry_and_is_empty_in_the_end(live: LiveMesh, tmp_path: Path) -> None:
    path = tmp_path / "run" / "prometheus.json"

    async def listed(count: int) -> list[Any] | None:
        found = msgspec.json.decode(path.read_bytes()) if path.exists() else []
        return found if len(found) == count else None

    async with live.bus("operator") as operator, background(keep_targets(operator, path, 0.05), "targets"):
        async with live.bus("planner") as bus, registered(bus, "planner", "planner-1", "http://127.0.0.1:4711"):
            (one,) = await eventually(lambda: listed(1))
            assert one == {
                "targets": ["127.0.0.1:4711"],
                "labels": {"role": "planner", "instance": "planner-1"},
            }
            async with live.bus("policy") as other, registered(other, "policy", "policy-1"):
                await eventually(lambda: known(operator, 2))
                assert await listed(1), "a process without metrics is no target"
    assert msgspec.json.decode(path.read_bytes()) == []
    assert targets(()) == path.read_bytes()


async def known(bus: Any, count: int) -> bool:
    return len(await entries(bus)) == count


def test_a_breaker_says_from_the_start_that_it_is_closed() -> None:
    Breaker("the zoo")
    assert sample("workmesh_breaker_state", target="the zoo", state="closed") == 1
    assert sample("workmesh_breaker_state", target="the zoo", state="open") == 0
