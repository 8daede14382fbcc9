"""The central topology: one cluster of three with TLS, from the files that the commands write, and a site on it."""

import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from click.testing import CliRunner

from benchmarks.chaos.site import Ground, SiteSpec, ground_in, until
from benchmarks.chaos.trial import Load, Trial
from console.bus.commands import bus as bus_command
from console.keys import keys as keys_command
from console.up import with_state_dir
from mesh import durability, streams
from mesh.bus import Bus, connect
from mesh.errors import BusUnavailableError
from mesh.permissions import BUCKETS, STREAMS, kv_stream
from mesh.settings import load
from mesh.site import Site
from tests.mesh.nats_servers import Server, free_ports, started

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(150), pytest.mark.slow]

NAMES = ("n1", "n2", "n3")


@dataclass
class Central:
    """The cluster's servers, and the site on it."""

    servers: dict[str, Server]
    ground: Ground
    env: dict[str, str]


def configured(folder: Path) -> tuple[dict[str, Server], dict[str, str], Site]:
    """Certificates and configurations as a person makes them; the servers, and the settings of the processes."""
    ports = free_ports(6)
    addresses = [f"{name}=127.0.0.1:{ports[n]}:{ports[n + 3]}" for n, name in enumerate(NAMES)]
    tls = ["tls", "--dir", str(folder / "tls"), "--client", "agents"]
    for name in NAMES:
        tls += ["--server", f"{name}=127.0.0.1"]
    assert CliRunner().invoke(keys_command, tls, catch_exceptions=False).exit_code == 0
    env = {"WORKMESH_STATE_DIR": str(folder / "site")}
    args = ["config", "--out", str(folder / "conf"), "--tls", str(folder / "tls"), "--listen", "127.0.0.1", "--json"]
    args += ["--store", str(folder / "store")]
    for address in addresses:
        args += ["--server", address]
    told = CliRunner().invoke(bus_command, args, env=env, catch_exceptions=False)
    assert told.exit_code == 0, told.output
    said = json.loads(told.stdout)
    env = {
        "WORKMESH_BUS__URL": said["url"],
        "WORKMESH_BUS__REPLICAS": str(said["replicas"]),
        "WORKMESH_BUS__CONNECT_TIMEOUT_S": "10",
        "WORKMESH_BUS__TLS_CA": str(folder / "tls" / "ca.pem"),
        "WORKMESH_BUS__TLS_CERT": str(folder / "tls" / "agents.pem"),
        "WORKMESH_BUS__TLS_KEY": str(folder / "tls" / "agents.key"),
    }
    servers = {}
    for name in NAMES:
        config = json.loads((folder / "conf" / f"{name}.conf").read_bytes())
        config["jetstream"]["store_dir"] = str(folder / name / "store")  # three hosts have one path, one host has not
        servers[name] = Server.of(folder / name, json.dumps(config).encode())
    return servers, env, Site(with_state_dir(load(None, env), folder / "site"))


async def is_led(site: Site) -> bool:
    """Whether JetStream of the cluster answers."""
    settings, options = site.settings.bus, site.admin.nats_options()
    try:
        async with connect(settings.url, name="admin/test", options=options, tls=settings.tls) as bus:
            return "error" not in await bus.api("INFO")
    except (BusUnavailableError, json.JSONDecodeError):
        return False


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def central(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Central]:
    """Three servers and a whole site: the shop, and a process of each role."""
    folder = tmp_path_factory.mktemp("c")
    servers, env, site = configured(folder)
    async with started(*servers.values()):
        await until(lambda: is_led(site), 30, "the cluster has a leader")
        async with ground_in(folder, SiteSpec(), env=env) as ground:
            await ground.ready()
            yield Central(servers, ground, env)


async def work(ground: Ground, name: str, events: int) -> None:
    """Events go in, and every one is done once, by what the shop's own log says."""
    trial = await Trial.begin(ground, name, random.Random(name), Load())
    await trial.publish(events)
    verdict = await trial.settle()
    assert (verdict.tasks, verdict.lost, verdict.duplicates, verdict.problems) == (events, 0, 0, ())


async def leader(bus: Bus, stream: str) -> str:
    """The name of the server that leads a stream."""
    info = await bus.api(f"STREAM.INFO.{stream}")
    return str(info.get("cluster", {}).get("leader", ""))


async def test_the_loop_runs_on_a_cluster_with_tls(central: Central) -> None:
    await work(central.ground, "central", 6)
    for stream in (*STREAMS, *map(kv_stream, BUCKETS)):
        cluster = (await central.ground.bus.api(f"STREAM.INFO.{stream}"))["cluster"]
        replicas = cluster["replicas"]
        assert {cluster["leader"], *(each["name"] for each in replicas)} == set(NAMES), stream
        assert all(each["current"] for each in replicas), stream


async def test_the_durability_check_hears_every_server(central: Central) -> None:
    """One that syncs now and then is found, whoever of the three it is."""
    ground, slow = central.ground, central.servers["n3"]

    async def check() -> list[str]:
        return await durability.check(
            ground.bus, ["JOURNAL"], streams.STAGES[1], replicas=3, ack_wait_s=ground.ack_wait_s
        )

    assert await check() == []
    whole = slow.config.read_bytes()
    config = json.loads(whole)
    config["jetstream"]["sync_interval"] = "30s"
    try:
        await _again(central, "n3", json.dumps(config).encode())
        faults = await check()
        assert faults == ["server n3 syncs to disk every 30 s: set sync_interval: always"]
    finally:
        await _again(central, "n3", whole)


async def test_work_goes_on_without_the_server_that_leads_the_journal(central: Central) -> None:
    ground = central.ground
    name = await leader(ground.bus, "JOURNAL")
    await central.servers[name].stop(9)
    try:
        await until(lambda: _led_by_others(ground.bus, name), 30, "others lead what it led")
        await ground.ready()
        await work(ground, "without-one", 6)
    finally:
        await central.servers[name].start()


async def _led_by_others(bus: Bus, name: str) -> bool:
    try:
        return all([await leader(bus, stream) not in ("", name) for stream in (*STREAMS, *map(kv_stream, BUCKETS))])
    except BusUnavailableError:
        return False


async def _again(central: Central, name: str, config: bytes) -> None:
    """Start a server anew on another configuration; return when it has caught up."""
    server = central.servers[name]
    await server.stop()
    server.config.write_bytes(config)
    await server.start()
    await until(lambda: _is_current(central.ground.bus, name), 30, f"{name} has caught up")
    await central.ground.ready()


async def _is_current(bus: Bus, name: str) -> bool:
    try:
        cluster = (await bus.api("STREAM.INFO.JOURNAL")).get("cluster", {})
    except BusUnavailableError:
        return False
    members = {each["name"]: each for each in cluster.get("replicas", ())}
    return cluster.get("leader") == name or bool(members.get(name, {}).get("current"))
