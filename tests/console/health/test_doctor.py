"""The doctor on a real site: well, and with one thing after the other broken."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from console.health import local, probing
from console.health.commands import _checks
from console.health.state import read_state
from mesh import subjects
from mesh.embedded import EmbeddedNats, find_binary
from mesh.permissions import BusUser
from mesh.ports import free_port
from mesh.settings import Settings
from mesh.site import Site
from tests.ledger_pack.running import until
from tests.ledger_pack.world import World, world_in

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world_in(tmp_path_factory.mktemp("w"), "perception", "planner", "policy", "auditor") as found:
        yield found


def settings_of(world: World) -> Settings:
    return world.site.settings


async def wrong(world: World, settings: Settings | None = None) -> dict[str, str]:
    checks = await _checks(settings or settings_of(world))
    return {check.name: f"{check.verdict}: {check.found} | {check.mend}" for check in checks if check.verdict == "fail"}


async def test_a_running_site_is_well_but_for_the_roles_that_do_not_run(world: World) -> None:
    found = await wrong(world)
    assert set(found) == {"processes"}
    assert "executor" in found["processes"]
    state = await read_state(world.bus, settings_of(world))
    assert {each.role for each in state.processes} == {"perception", "planner", "policy", "auditor"}
    assert abs(state.ahead_s) < 1


async def test_what_waits_is_seen(world: World) -> None:
    task = await world.publish("waits", amount=20_000)
    await world.waits(task)
    allowed = await world.publish("allowed")  # there is no executor
    await world.record("decision", allowed)
    broken = await world.publish_bytes(b"no event")
    await world.quarantined("perception", "", broken)

    async def is_seen() -> bool:
        state = await read_state(world.bus, settings_of(world))
        executor = next(each for each in state.stages if each.stage == "executor")
        people = state.people
        return (
            people is not None
            and people.approvals == 1
            and state.quarantine == 1
            and executor.waiting >= 1
            and executor.oldest_s > 0
        )

    await until(is_seen)


async def test_a_key_that_others_can_read_and_a_missing_site_are_told(world: World, tmp_path: Path) -> None:
    key = world.site.keys / "planner.nk"
    key.chmod(0o644)
    try:
        assert "chmod 600" in (await wrong(world))["keys"]
    finally:
        key.chmod(0o600)
    nowhere = Settings(state_dir=tmp_path / "nowhere")
    assert {"state", "keys", "bus"} <= set(await wrong(world, nowhere))


async def test_a_missing_stream_and_a_loose_consumer_are_told(world: World) -> None:
    async with world.connected("admin") as bus:
        await bus.api(f"STREAM.DELETE.KV_{subjects.WORKING_BUCKET}")
        info = await bus.api("CONSUMER.INFO.JOURNAL.learner")
        config = info["config"] | {"max_deliver": 3}
        await bus.api("CONSUMER.DURABLE.CREATE.JOURNAL.learner", {"stream_name": "JOURNAL", "config": config})
    found = await wrong(world)
    assert "KV_WORKING" in found["streams"]
    assert "learner gives up after 3" in found["durability"]
    await world.bootstrap()
    assert set(await wrong(world)) == {"processes"}


async def test_a_bus_that_lets_a_role_write_decisions_is_told(tmp_path: Path) -> None:
    site = Site(Settings(state_dir=tmp_path / "site"))
    others = {"planner": "policy", "policy": "planner"}
    loose = tuple(BusUser(user.public_key, (others.get(user.name, user.name),), user.name) for user in site.users())
    async with EmbeddedNats(tmp_path / "site" / "nats", loose) as server:
        await site.bootstrap(server.url)
        check = await probing._permissions(server.url, site.settings)
        assert (check.verdict, "planner may write decisions" in check.found) == ("fail", True)


async def test_a_bus_without_users_is_told(tmp_path: Path) -> None:
    port = free_port()
    argv = (str(find_binary()), "-a", "127.0.0.1", "-p", str(port), "-l", str(tmp_path / "log"))
    server = await asyncio.create_subprocess_exec(*argv)
    try:

        async def lets_in() -> bool:
            return (await probing._anonymous(f"nats://127.0.0.1:{port}", Settings())).verdict == "fail"

        await until(lets_in)
    finally:
        server.terminate()
        await server.wait()


async def test_others_who_can_read_the_state_folder_are_told(tmp_path: Path) -> None:
    site = Site(Settings(state_dir=tmp_path / "site"))
    os.chmod(tmp_path / "site", 0o755)
    checks = {check.name: check for check in local.look(msgspec.structs.replace(site.settings))}
    assert checks["state"].verdict == "fail"
    assert "chmod 700" in checks["state"].mend
