"""The mesh topology: an executor beside the systems, on a leaf node that has no streams of its own."""

import asyncio
import dataclasses
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from click.testing import CliRunner, Result

from benchmarks.chaos.site import READY_S, Ground, SiteSpec, ground_in, until
from benchmarks.chaos.trial import Load, Trial
from console.bus.commands import bus
from console.up import with_state_dir
from mesh import subjects
from mesh.bus import Bus, connect
from mesh.certificates import Authority
from mesh.errors import BusUnavailableError
from mesh.settings import load
from mesh.site import Site
from mesh.supervisor import ChildState
from tests.mesh.nats_servers import Server, free_ports, started

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(150), pytest.mark.slow]


@dataclass
class Edge:
    """The site, and the leaf node that its executor is on."""

    ground: Ground
    site: Site
    leaf: Server
    url: str
    env: dict[str, str]


def servers(folder: Path, ports: list[int]) -> tuple[Server, Server]:
    """The hub, and the leaf node that only the executor's key may use, as the commands configure them."""
    authority = Authority.opened(folder / "tls")
    for name in ("hub", "edge"):
        authority.issue(name, ["127.0.0.1"], server=True, days=1)
    authority.issue("agents", [], server=False, days=1)
    client, leaf, own = ports
    address = ["--server", f"hub=127.0.0.1:{client}", "--listen", "127.0.0.1", "--leaf-port", str(leaf)]
    tls = ["--tls", str(authority.folder), "--out", str(folder)]
    invoke("config", *address, "--store", str(folder / "hub" / "store"), *tls)
    remote = ["--hub", f"tls://127.0.0.1:{leaf}", "--role", "executor", "--port", str(own)]
    invoke("leaf", "edge", *remote, *tls)
    assert (folder / "edge.conf").stat().st_mode & 0o077 == 0
    hub, edge = (Server.of(folder / name, (folder / f"{name}.conf").read_bytes()) for name in ("hub", "edge"))
    return hub, edge


def invoke(*args: str) -> Result:
    """`workmesh bus ARGS`."""
    done = CliRunner().invoke(bus, args, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def edge(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    """A whole site on the hub, its executor on the leaf node."""
    folder = tmp_path_factory.mktemp("m")
    ports = free_ports(3)
    env = {
        "WORKMESH_BUS__URL": f"tls://127.0.0.1:{ports[0]}",
        **{
            f"WORKMESH_BUS__TLS_{name}": str(folder / "tls" / file)
            for name, file in (("CA", "ca.pem"), ("CERT", "agents.pem"), ("KEY", "agents.key"))
        },
    }
    settings = with_state_dir(load(None, env), folder / "site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKMESH_STATE_DIR", str(settings.state_dir))
        hub, leaf = servers(folder, ports)
    site = Site(settings)
    async with started(hub, leaf), ground_in(folder, SiteSpec(), env=env) as ground:
        await ground.ready()
        found = Edge(ground, site, leaf, f"tls://127.0.0.1:{ports[2]}", env)
        child = ground.children["executor"]
        child.spec = dataclasses.replace(child.spec, env={**child.spec.env, "WORKMESH_BUS__URL": found.url})
        await ground.renew(["executor"])
        yield found


async def test_the_loop_runs_with_an_executor_on_a_leaf_node(edge: Edge) -> None:
    trial = await Trial.begin(edge.ground, "edge", random.Random(1), Load())
    await trial.publish(6)
    verdict = await trial.settle()
    assert (verdict.tasks, verdict.lost, verdict.duplicates, verdict.problems) == (6, 0, 0, ())


async def test_what_is_permitted_while_the_leaf_node_is_away_is_done_once_when_it_is_back(edge: Edge) -> None:
    ground = edge.ground
    trial = await Trial.begin(ground, "away", random.Random(2), Load())
    await edge.leaf.stop(9)
    await trial.publish(6)
    await until(lambda: _count(trial, "decision", 1), 30, "what waits for no other task is decided")
    assert not await trial.has_effect()
    await edge.leaf.start()
    verdict = await trial.settle()
    assert (verdict.tasks, verdict.lost, verdict.duplicates, verdict.problems) == (6, 0, 0, ())
    assert ground.children["executor"].state is ChildState.READY


async def test_a_leaf_node_lets_nobody_in_but_who_is_there(edge: Edge) -> None:
    settings = edge.site.settings.bus
    for role in ("planner", "admin"):
        options = edge.site.identity(role).nats_options() if role != "admin" else edge.site.admin.nats_options()
        with pytest.raises(BusUnavailableError):
            async with connect(edge.url, name=role, options=options, tls=settings.tls, connect_timeout_s=3):
                pass


async def test_over_a_leaf_node_a_key_has_the_rights_of_its_role_and_no_more(edge: Edge) -> None:
    """The hub holds the leaf node's connection against the executor's permissions, whatever the leaf node allows."""
    ground, settings = edge.ground, edge.site.settings.bus
    options = edge.site.identity("executor").nats_options()
    last = (await ground.bus.api("STREAM.INFO.JOURNAL"))["state"]["last_seq"]
    async with connect(edge.url, name="executor/thief", options=options, tls=settings.tls) as bus:
        # The leaf node of a thief allows what it likes: here its own table refuses first, so only the sum is seen.
        for subject in ("task.decision.retail.forged.-", "$JS.API.STREAM.DELETE.AUDIT", "limit.retail.x.y"):
            await bus.publish(subject, b"{}")
        await bus.publish("$JS.API.DIRECT.GET.JOURNAL.task.none", b"", reply="$JS.API.STREAM.DELETE.AUDIT")
        await bus.settle()
        assert await bus.last(subjects.JOURNAL, "task.decision.retail.forged.-") is None
    await asyncio.sleep(0.2)
    assert "error" not in await ground.bus.api("STREAM.INFO.AUDIT")
    assert (await ground.bus.api("STREAM.INFO.JOURNAL"))["state"]["last_seq"] == last


async def test_a_leaf_node_that_allows_everything_gives_no_more_rights(edge: Edge, tmp_path: Path) -> None:
    """Whoever holds the executor's seed may run a leaf node of their own, with whatever table of permissions."""
    config = json.loads(edge.leaf.config.read_bytes())
    port = free_ports(1)[0]
    config["listen"], config["server_name"] = f"127.0.0.1:{port}", "thief"
    del config["accounts"]["EXECUTOR"]["users"][0]["permissions"]
    thief = Server.of(tmp_path / "thief", json.dumps(config).encode())
    ground, settings = edge.ground, edge.site.settings.bus
    options = edge.site.identity("executor").nats_options()
    last = (await ground.bus.api("STREAM.INFO.JOURNAL"))["state"]["last_seq"]
    async with started(thief):
        url = f"tls://127.0.0.1:{port}"
        async with connect(url, name="executor/thief", options=options, tls=settings.tls) as bus:
            await until(lambda: _reads(bus), READY_S, "the leaf node is linked")
            for subject in ("task.decision.retail.forged.-", "$JS.API.STREAM.DELETE.AUDIT", "limit.retail.x.y"):
                await bus.publish(subject, b"{}")
            reply = "$JS.API.STREAM.DELETE.AUDIT"
            await bus.publish("$JS.API.DIRECT.GET.JOURNAL.task.none", b"", reply=reply)
            await bus.settle()
            assert await bus.last(subjects.JOURNAL, "task.decision.retail.forged.-") is None
    assert "error" not in await ground.bus.api("STREAM.INFO.AUDIT")
    assert (await ground.bus.api("STREAM.INFO.JOURNAL"))["state"]["last_seq"] == last


async def _reads(bus: Bus) -> bool:
    try:
        await bus.last(subjects.JOURNAL, "task.none")
    except BusUnavailableError:
        return False
    return True


async def _count(trial: Trial, kind: str, wanted: int) -> bool:
    return sum(message.subject.startswith(f"task.{kind}.") for message in await trial.journal()) >= wanted
