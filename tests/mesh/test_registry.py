"""The registry: a live process says so, in a bucket whose values expire."""

import msgspec

from mesh.bus import Bus
from mesh.registry import registered
from tests.mesh.live_mesh import LiveMesh, eventually

SUBJECT = "$KV.REGISTRY.planner.host-one-7"


async def entry(bus: Bus) -> dict[str, str] | None:
    """What the registry has of this process."""
    message = await bus.last("KV_REGISTRY", SUBJECT)
    return msgspec.json.decode(message.data) if message else None


async def test_a_process_is_in_the_registry_from_its_start(live: LiveMesh) -> None:
    async with live.bus("planner") as bus, registered(bus, "planner", "host.one-7"), live.bus() as admin:
        found = await eventually(lambda: entry(admin))
        assert (found["role"], found["instance"]) == ("planner", "host.one-7")
        assert found["since"].endswith("Z")


async def test_entries_expire(live: LiveMesh) -> None:
    async with live.bus() as bus:
        info = await bus.api("STREAM.INFO.KV_REGISTRY")
        assert info["config"]["max_age"] == 30 * 10**9


async def test_a_bus_that_is_away_does_not_end_the_process(live: LiveMesh) -> None:
    async with live.bus() as bus:
        await bus.client.close()
        async with registered(bus, "planner", "host.one-7"):
            pass
