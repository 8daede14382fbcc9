"""What the mesh stands on is made once, stays as it was, and is refused where it would lose records."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mesh import durability, streams, subjects
from mesh.bus import Bus, connect
from mesh.embedded import EmbeddedNats, find_binary
from mesh.errors import BusUnavailableError, NotDurableError
from mesh.natsconf import JSZ
from tests.mesh.live_mesh import ACK_WAIT_S, LiveMesh, consumer, eventually, put, stored
from tests.mesh.samples import context

PLANNER = next(stage for stage in streams.STAGES if stage.stage == "planner")


async def everything(bus: Bus) -> dict[str, Any]:
    """The configuration of every stream and consumer."""
    names = [*streams.STREAM_NAMES, *(f"KV_{bucket.name}" for bucket in streams.BUCKETS)]
    found = {name: (await bus.api(f"STREAM.INFO.{name}"))["config"] for name in names}
    for stage in streams.STAGES:
        found[stage.stage] = (await consumer(bus, stage.stage, stage.stream))["config"]
    return found


async def test_made_again_it_is_as_it_was_and_keeps_what_it_holds(live: LiveMesh) -> None:
    async with live.bus() as bus:
        before = await everything(bus)
        await put(bus, context())
        for _ in range(2):
            await live.ensure(bus)
        assert await everything(bus) == before
        assert len(await stored(bus)) == 1


async def test_a_change_of_the_settings_is_applied(live: LiveMesh) -> None:
    async with live.bus() as bus:
        specs = streams.stream_specs({"JOURNAL": 3600.0}, {"EVENTS": 1_000_000})
        await streams.ensure(bus, specs, replicas=1, ack_wait_s=7.0, max_ack_pending=55)
        found = await everything(bus)
        assert found["JOURNAL"]["max_age"] == 3600 * 10**9 and found["EVENTS"]["max_bytes"] == 1_000_000
        assert (found["planner"]["ack_wait"], found["planner"]["max_ack_pending"]) == (7 * 10**9, 55)


async def test_streams_refuse_new_messages_rather_than_forget_old_ones(live: LiveMesh) -> None:
    async with live.bus() as bus:
        for name, config in (await everything(bus)).items():
            if name in streams.STREAM_NAMES:
                assert (config["discard"], config["retention"], config["storage"]) == ("new", "limits", "file")
                assert config["allow_atomic"] and config["allow_direct"]
                # Privacy law asks that memory, and what people sent, can be forgotten; nothing else can.
                forgets = name in (subjects.MEMORY, subjects.ORIGINALS)
                assert config["deny_delete"] is not forgets and config["deny_purge"]


async def test_nobody_purges_or_thins_out_what_is_audited(live: LiveMesh) -> None:
    async with live.bus() as bus:
        await put(bus, context())
        for stream in (subjects.JOURNAL, subjects.AUDIT):
            purged = await bus.api(f"STREAM.PURGE.{stream}")
            assert "not permitted" in purged["error"]["description"]
            config = (await bus.api(f"STREAM.INFO.{stream}"))["config"]
            for lock in ("deny_purge", "deny_delete"):
                assert "error" in await bus.api(f"STREAM.UPDATE.{stream}", config | {lock: False})
        assert "error" in await bus.api("STREAM.MSG.DELETE.JOURNAL", {"seq": 1})
        assert len(await stored(bus)) == 1


async def test_what_the_server_does_not_take_is_told_with_its_reason(live: LiveMesh) -> None:
    async with live.bus() as bus:
        with pytest.raises(NotDurableError, match=r"the bus did not take stream EVENTS: .*replicas"):
            await streams.ensure(
                bus, streams.stream_specs({}, {}), replicas=3, ack_wait_s=ACK_WAIT_S, max_ack_pending=10
            )


async def check(bus: Bus, *, replicas: int = 1, ack_wait_s: float = ACK_WAIT_S) -> list[str]:
    """What the planner's bus lacks."""
    names = (subjects.JOURNAL, subjects.QUARANTINE)
    return await durability.check(bus, names, PLANNER, replicas=replicas, ack_wait_s=ack_wait_s)


async def test_the_embedded_bus_is_durable_enough(live: LiveMesh) -> None:
    async with live.bus("planner") as bus:
        assert await check(bus) == []
        found = await durability.require(
            bus, (subjects.JOURNAL,), PLANNER, replicas=1, ack_wait_s=ACK_WAIT_S, relaxed=False
        )
        assert found == []


async def test_strict_refuses_with_every_fault_and_relaxed_lists_them(live: LiveMesh) -> None:
    async with live.bus("planner") as bus:
        faults = await check(bus, replicas=3, ack_wait_s=30.0)
        assert faults == [
            "stream JOURNAL has 1 replicas, not 3",
            "stream QUARANTINE has 1 replicas, not 3",
            "consumer planner has ack_wait 1 s, not 30 s",
        ]
        names = (subjects.JOURNAL, subjects.QUARANTINE)
        with pytest.raises(NotDurableError, match=r"1 replicas, not 3; .*ack_wait 1 s, not 30 s.*durability") as caught:
            await durability.require(bus, names, PLANNER, replicas=3, ack_wait_s=30.0, relaxed=False)
        assert all(fault in str(caught.value) for fault in faults)
        assert await durability.require(bus, names, PLANNER, replicas=3, ack_wait_s=30.0, relaxed=True) == faults


Change = Callable[[dict[str, Any]], None]


def set_to(**changes: Any) -> Change:
    """Change a configuration so."""
    return lambda config: config.update(changes)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (set_to(retention="workqueue", deny_delete=False), "stream JOURNAL has workqueue retention, not limits"),
        (set_to(retention="interest"), "stream JOURNAL has interest retention, not limits"),
        (set_to(discard="old"), "stream JOURNAL discards old messages when full"),
        (set_to(storage="memory"), "stream JOURNAL is kept in memory, not on file"),
        (set_to(allow_atomic=False), "stream JOURNAL does not allow atomic batches and direct gets"),
        (set_to(allow_direct=False), "stream JOURNAL does not allow atomic batches and direct gets"),
        (set_to(persist_mode="async", allow_atomic=False), "stream JOURNAL persists asynchronously"),
    ],
)
async def test_a_stream_that_would_lose_records_is_refused(live: LiveMesh, change: Change, fault: str) -> None:
    async with live.bus() as bus:
        (spec,) = [spec for spec in streams.stream_specs({}, {}) if spec.name == subjects.JOURNAL]
        config = spec.config(1)
        change(config)
        await bus.api("STREAM.DELETE.JOURNAL")
        answer = await bus.api("STREAM.CREATE.JOURNAL", config)
        assert "error" not in answer, answer
        faults = await durability.check(bus, ("JOURNAL",), None, replicas=1, ack_wait_s=ACK_WAIT_S)
        assert any(found.startswith(fault) for found in faults), faults


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (set_to(max_deliver=5), "consumer planner gives up after 5 deliveries: set max_deliver -1"),
        (set_to(ack_policy="all"), "consumer planner has ack policy all, not explicit"),
        (set_to(ack_wait=30 * 10**9), "consumer planner has ack_wait 30 s, not 1 s"),
        (
            set_to(backoff=[10**9, 2 * 10**9], max_deliver=3),
            "consumer planner has a backoff, which overrides its ack_wait",
        ),
    ],
)
async def test_a_consumer_that_would_lose_records_is_refused(live: LiveMesh, change: Change, fault: str) -> None:
    async with live.bus() as bus:
        config = PLANNER.config(ack_wait_s=ACK_WAIT_S, max_ack_pending=10, replicas=1)
        change(config)
        await bus.api("CONSUMER.DELETE.JOURNAL.planner")
        request = {"stream_name": "JOURNAL", "config": config}
        answer = await bus.api("CONSUMER.DURABLE.CREATE.JOURNAL.planner", request)
        assert "error" not in answer, answer
        assert fault in await check(bus)


async def test_what_is_missing_is_named_with_the_way_out(live: LiveMesh) -> None:
    async with live.bus() as bus:
        await bus.api("STREAM.DELETE.JOURNAL")
        assert await check(bus) == [
            "stream JOURNAL: stream not found: run `workmesh up` or ask your admin",
            "consumer planner of JOURNAL: stream not found",
        ]


@asynccontextmanager
async def external(folder: Path, *, tells: bool, **jetstream: Any) -> AsyncIterator[Bus]:
    """A server that somebody else set up, with these settings of JetStream."""
    embedded = EmbeddedNats(folder / "embedded", [])
    async with embedded:  # for a free port and its configuration
        pass
    config = json.loads((folder / "embedded" / "nats-server.conf").read_text())
    config["jetstream"] = {"store_dir": str(folder / "store"), **jetstream}
    config["accounts"]["MESH"]["users"] = [{"user": "u", "password": "p"}]
    if tells:
        question = "$SYS.REQ.SERVER.PING.JSZ"
        (told,) = config["accounts"]["SYS"]["exports"]
        told["accounts"].append("MESH")
        asks = {"service": {"account": "SYS", "subject": question}, "to": JSZ}
        config["accounts"]["MESH"].setdefault("imports", []).append(asks)
    path = folder / "nats.conf"
    path.write_text(json.dumps(config))
    process = await asyncio.create_subprocess_exec(str(find_binary()), "-c", str(path))
    url = "nats://u:p@" + config["listen"]
    try:
        await eventually(lambda: _answers(url))
        async with connect(url, name="test") as bus:
            await streams.ensure(
                bus, streams.stream_specs({}, {}), replicas=1, ack_wait_s=ACK_WAIT_S, max_ack_pending=10
            )
            yield bus
    finally:
        process.terminate()
        await process.wait()


async def _answers(url: str) -> bool:
    try:
        async with connect(url, name="probe"):
            return True
    except BusUnavailableError:
        return False


async def test_a_server_that_does_not_sync_each_message_is_refused(tmp_path: Path) -> None:
    async with external(tmp_path, tells=True, sync_interval="30s") as bus:
        said = "server workmesh-embedded syncs to disk every 30 s: set sync_interval: always"
        assert await check(bus) == [said]
        with pytest.raises(NotDurableError, match="syncs to disk every 30 s"):
            await durability.require(bus, (), None, replicas=1, ack_wait_s=ACK_WAIT_S, relaxed=False)


async def test_a_server_with_the_default_sync_is_refused(tmp_path: Path) -> None:
    async with external(tmp_path, tells=True) as bus:
        (fault,) = await check(bus)
        assert "syncs to disk every 120 s" in fault


async def test_a_server_that_does_not_tell_how_it_syncs_is_refused(tmp_path: Path) -> None:
    async with external(tmp_path, tells=False, sync_interval="always") as bus:
        (fault,) = await check(bus)
        assert fault.startswith("the bus does not tell its sync_interval: import") and JSZ in fault
