"""The hybrid topology: a whole site with a bus of its own, and a hub that keeps its records; cut off, and joined."""

import asyncio
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from benchmarks.chaos.site import Ground, SiteSpec, ground_in, until
from benchmarks.chaos.trial import Load, Trial
from mesh import subjects
from mesh.bus import Bus, connect
from mesh.errors import BusUnavailableError
from mesh.identity import Identity
from mesh.ports import free_port
from mesh.uplink import SEQUENCE
from tests.mesh.live_mesh import stored
from tests.mesh.nats_servers import Server, started

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(150), pytest.mark.slow]

CATCH_UP_S = 5.0


@dataclass
class Hybrid:
    """The site, its hub, and the uplink's key."""

    ground: Ground
    folder: Path
    hub: Server
    key: Identity
    env: dict[str, str]

    @property
    def hub_url(self) -> str:
        """The hub's address."""
        return f"nats://127.0.0.1:{self.hub.port}"

    @asynccontextmanager
    async def at_hub(self) -> AsyncIterator[Bus]:
        """The hub's bus, as its operator sees it."""
        root = Identity.load(self.folder / "hub-site" / "keys" / "admin.nk")
        async with connect(self.hub_url, name="admin", options=root.nats_options()) as bus:
            yield bus

    def copy(self, stream: str) -> str:
        """The hub's copy of a stream."""
        return subjects.site_stream(subjects.site_name(self.key.public_key), stream)

    async def is_whole(self) -> bool:
        """Whether the hub has what the site has."""
        try:
            async with self.at_hub() as hub:
                for stream in subjects.UPLINKED:
                    ours = (await self.ground.bus.api(f"STREAM.INFO.{stream}"))["state"]["messages"]
                    if (await hub.api(f"STREAM.INFO.{self.copy(stream)}"))["state"]["messages"] < ours:
                        return False
        except (BusUnavailableError, KeyError):
            return False
        return True

    async def check(self) -> None:
        """Every record of the site is at the hub once, with its bytes."""
        async with self.at_hub() as hub:
            for stream in subjects.UPLINKED:
                copied, originals = await stored(hub, self.copy(stream)), await stored(self.ground.bus, stream)
                assert len({message.headers[SEQUENCE] for message in copied}) == len(copied)
                known = {int(message.headers[SEQUENCE]): message.data for message in copied}
                assert {message.seq: message.data for message in originals if message.seq in known} == known
                assert max(known, default=0) + 8 >= max((message.seq for message in originals), default=0)

    @asynccontextmanager
    async def uplink(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """The uplink as a process of its own."""
        args = ("bus", "uplink", "--hub", self.hub_url, "--key", str(self.key.path))
        with (self.folder / "uplink.log").open("ab") as said:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "console.main", *args, env=os.environ | self.env, stdout=said, stderr=said
            )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
                await asyncio.wait_for(process.wait(), 10)


def workmesh(env: Mapping[str, str], *args: str) -> None:
    """A command as a person types it."""
    command = (sys.executable, "-m", "console.main", *args)
    done = subprocess.run(command, env=os.environ | env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hybrid(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hybrid]:
    """A whole site on an embedded bus, and a hub made by the commands."""
    folder, port = tmp_path_factory.mktemp("y"), free_port()
    key = Identity.create(folder / "uplink.nk", "uplink")
    env = {"WORKMESH_STATE_DIR": str(folder / "hub-site"), "WORKMESH_BUS__URL": f"nats://127.0.0.1:{port}"}
    server = ["--server", f"hub=127.0.0.1:{port}", "--listen", "127.0.0.1", "--plain", "--store", str(folder / "store")]
    workmesh(env, "bus", "config", *server, "--out", str(folder / "conf"), "--uplink", f"{key.path}.pub")
    hub = Server(folder / "conf" / "hub.conf", port)
    async with started(hub), ground_in(folder, SiteSpec()) as ground:
        await asyncio.to_thread(workmesh, env, "bus", "site", f"{key.path}.pub")
        await ground.ready()
        yield Hybrid(ground, folder, hub, key, {"WORKMESH_STATE_DIR": str(ground.settings.state_dir)})


async def work(ground: Ground, name: str, events: int) -> None:
    """Events go in, and every one is done once, by what the shop's own log says."""
    trial = await Trial.begin(ground, name, random.Random(name), Load())
    await trial.publish(events)
    verdict = await trial.settle()
    assert (verdict.tasks, verdict.lost, verdict.duplicates, verdict.problems) == (events, 0, 0, ())


async def test_the_records_of_a_site_are_at_its_hub(hybrid: Hybrid) -> None:
    async with hybrid.uplink():
        await work(hybrid.ground, "linked", 6)
        await until(hybrid.is_whole, 20, "the hub has it all")
        await hybrid.check()


async def test_a_site_cut_off_works_on_and_its_hub_catches_up_within_five_seconds(hybrid: Hybrid) -> None:
    async with hybrid.uplink():
        await hybrid.hub.stop(9)
        await work(hybrid.ground, "cut-off", 12)
        await hybrid.hub.start()
        back = time.monotonic()
        await until(hybrid.is_whole, 20, "the hub has it all")
        assert time.monotonic() - back < CATCH_UP_S
        await hybrid.check()


async def test_an_uplink_that_is_killed_copies_nothing_twice(hybrid: Hybrid) -> None:
    for _ in range(2):
        async with hybrid.uplink() as process:
            await work(hybrid.ground, "killed", 4)
            process.kill()
            await process.wait()
    async with hybrid.uplink():
        await until(hybrid.is_whole, 20, "the hub has it all")
        await hybrid.check()
