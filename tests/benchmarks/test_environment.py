"""The cells of the environment: two of them on real sites, and the pure parts of the others."""

import asyncio
import os
import random
import time
from pathlib import Path

import msgspec
import pytest

from benchmarks.chaos.cell import Result
from benchmarks.chaos.cluster import clustered
from benchmarks.chaos.deliveries import turned_about
from benchmarks.chaos.environment import ENVIRONMENT, environment
from benchmarks.chaos.events import Orders
from benchmarks.chaos.matrix import cells
from benchmarks.chaos.overload import memory_mb
from benchmarks.chaos.runner import run_cells
from benchmarks.chaos.site import until
from benchmarks.chaos.slowsync import SlowSync
from mesh.bus import Bus, connect
from mesh.natsconf import Cluster, render
from mesh.settings import Settings
from mesh.site import Site
from packs.retail.demo import RetailDemo

pytestmark = [pytest.mark.crash, pytest.mark.slow]

SYNCS = """
import os, sys
with open(sys.argv[1], "wb") as file:
    for _ in range(3):
        file.write(b"x")
        file.flush()
        os.fsync(file.fileno())
"""


async def run(folder: Path, *names: str) -> list[Result]:
    wanted = [each for each in environment() if each.name in names]
    assert len(wanted) == len(names)
    return await run_cells(wanted, 1, folder, lambda result: None)


@pytest.mark.timeout(120)
async def test_a_reset_connection_and_repeated_events_lose_and_repeat_nothing(tmp_path: Path) -> None:
    names = ("connection reset / executor", "events thrice, in another order / all stages")
    for result in await run(tmp_path, *names):
        assert (result.problems, result.lost, result.duplicates) == ((), 0, 0)
        assert result.tasks >= 12
        assert result.recovery_s is not None


@pytest.mark.timeout(120)
async def test_poison_is_set_aside_and_the_good_tasks_complete(tmp_path: Path) -> None:
    (result,) = await run(tmp_path, "poison / all stages")
    assert (result.problems, result.lost, result.duplicates) == ((), 0, 0)
    assert "3 malformed by perception" in result.notes[0]


def test_the_environment_is_part_of_the_matrix() -> None:
    own = [cell.name for cell in cells() if cell.group == ENVIRONMENT]
    assert own == [cell.name for cell in environment()]
    assert len(own) == len(set(own)) >= 20


async def test_every_fsync_of_a_program_is_held_and_made(tmp_path: Path) -> None:
    file = tmp_path / "file"
    async with SlowSync(tmp_path, Path("/usr/bin/env")) as sync:

        async def timed() -> float:
            started = time.monotonic()
            program = await asyncio.create_subprocess_exec(str(sync.launcher), "python3", "-c", SYNCS, str(file))
            assert await program.wait() == 0
            return time.monotonic() - started

        await timed()
        assert (sync.calls, sync.delayed) == (3, 0)
        sync.delay_s = 0.4
        assert await timed() > 1.2
        assert (sync.calls, sync.delayed) == (6, 3)
    assert file.read_bytes() == b"xxx"


def test_a_server_of_a_cluster_knows_the_others_and_one_alone_opens_no_port_for_them(tmp_path: Path) -> None:
    about = {"port": 4222, "store": tmp_path, "log_file": tmp_path / "log", "users": (), "name": "n1"}
    alone = msgspec.json.decode(render(**about))  # type: ignore[arg-type]
    member = msgspec.json.decode(render(**about, cluster=Cluster("c", 6222, ("nats://127.0.0.1:6223",))))  # type: ignore[arg-type]
    assert "cluster" not in alone
    cluster = {"name": "c", "listen": "127.0.0.1:6222", "routes": ["nats://127.0.0.1:6223"], "no_advertise": True}
    assert member.pop("cluster") == cluster
    assert member == alone
    assert alone["jetstream"]["sync_interval"] == "always"


@pytest.mark.timeout(60)
async def test_a_bus_of_several_addresses_goes_on_with_another_server(tmp_path: Path) -> None:
    site = Site(Settings(state_dir=tmp_path / "site"))
    async with clustered(tmp_path / "cluster", site.users(), site.admin) as cluster:
        async with connect(cluster.url, name="admin/test", options=site.admin.nats_options()) as bus:
            served = {member.port: member for member in cluster.members}
            first = bus.client.connected_url
            assert first is not None and first.port in served
            await served[first.port].kill()
            await until(lambda: _port(bus) in served.keys() - {first.port}, 10.0, "it is connected to another")
            await bus.settle()
    assert not any(member.is_up for member in cluster.members)


def _port(bus: Bus) -> int | None:
    url = bus.client.connected_url
    return url.port if url is not None and bus.is_connected else None


def test_orders_are_turned_about_and_each_keeps_its_own_order() -> None:

    made = list(Orders(RetailDemo.sample).make("t", random.Random(3), 12))
    turned = turned_about(made)
    assert sorted(turned, key=made.index) == made and turned != made
    for entity in {event.entity for event in made}:
        own = [event for event in made if event.entity == entity]
        assert [event for event in turned if event.entity == entity] == own


def test_memory_is_what_the_kernel_says() -> None:
    pids = {"own": os.getpid()}
    assert 0 < memory_mb(pids)["own"] <= memory_mb(pids, peak=True)["own"]
