"""``workmesh bus make``: a site on servers of its own, made without ``workmesh up``, on a real server."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from console.bus.commands import bus as bus_command
from mesh import durability, streams
from mesh.bus import Bus, connect
from mesh.errors import BusUnavailableError, SettingsError, WorkmeshError
from mesh.identity import Identity
from mesh.settings import load
from mesh.site import CONSOLE, OPERATOR, PROCESSES, TRACER
from mesh.trust import read_directory
from tests.mesh.nats_servers import Server, free_ports, started


def invoke(*args: str) -> Result:
    """What the command says."""
    return CliRunner().invoke(bus_command, args, catch_exceptions=False)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server of the site's own, configured but not started; the settings name it."""
    port, routes = free_ports(2)
    monkeypatch.setenv("WORKMESH_STATE_DIR", str(tmp_path / "site"))
    address = ["--server", f"n1=127.0.0.1:{port}:{routes}", "--listen", "127.0.0.1", "--plain"]
    told = invoke("config", *address, "--out", str(tmp_path), "--store", str(tmp_path / "store"), "--json")
    assert told.exit_code == 0, told.output
    monkeypatch.setenv("WORKMESH_BUS__URL", json.loads(told.stdout)["url"])
    return Server.of(tmp_path / "server", (tmp_path / "n1.conf").read_bytes())


async def made(*args: str) -> dict[str, Any]:
    """What the command has made, by its JSON; run as a person runs it."""
    argv = [sys.executable, "-m", "console.main", "bus", "make", "--json", *args]
    running = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = await running.communicate()
    assert running.returncode == 0, err.decode()
    said: dict[str, Any] = json.loads(out)
    return said


async def state(bus: Bus, names: Sequence[str]) -> dict[str, Any]:
    """How the streams are configured, and how much is in them."""
    found = {name: await bus.api(f"STREAM.INFO.{name}") for name in names}
    return {name: (info["config"], info["state"]["messages"]) for name, info in found.items()}


async def test_it_makes_a_site_once_and_changes_nothing_afterwards(server: Server) -> None:
    settings = load(None)
    admin = Identity.load(settings.state_dir / "keys" / "admin.nk")
    waiting = asyncio.create_task(made("--wait", "15"))  # before there is a server
    async with started(server):
        first = await waiting
        names = [*streams.STREAM_NAMES, *(f"KV_{bucket.name}" for bucket in streams.BUCKETS)]
        assert set(first["created"]) == {*names, *(f"{stage.stream}/{stage.stage}" for stage in streams.STAGES)}
        assert set(first["trusted"]) == {"admin", *PROCESSES, OPERATOR, CONSOLE, TRACER}
        assert (first["root"], first["new_keys"]) == (admin.public_key, [])
        assert "retail" in first["policies"]
        async with connect(settings.bus.url, name="admin/test", options=admin.nats_options()) as bus:
            before = await state(bus, names)
            again = await made()
            assert (again["created"], again["trusted"]) == ([], first["trusted"])
            assert await state(bus, names) == before
            assert before["KV_POLICY"][1] > 0
            trust = await read_directory(bus, admin.public_key)
            for name in PROCESSES:
                assert trust.require(Identity.load(settings.identity_path(name)).public_key, name).name == name
        planner = Identity.load(settings.identity_path("planner"))
        async with connect(settings.bus.url, name="planner/test", options=planner.nats_options()) as bus:
            ack_wait_s = settings.bus.ack_wait_s
            assert await durability.check(bus, ["JOURNAL"], streams.STAGES[1], replicas=1, ack_wait_s=ack_wait_s) == []


async def test_a_stream_that_was_lost_is_made_again_and_told(server: Server) -> None:
    settings = load(None)
    admin = Identity.load(settings.state_dir / "keys" / "admin.nk")
    async with started(server):
        await made("--wait", "15")
        async with connect(settings.bus.url, name="admin/test", options=admin.nats_options()) as bus:
            assert (await bus.api("STREAM.DELETE.AUDIT")).get("success")
        assert (await made())["created"] == ["AUDIT"]


def test_without_a_bus_or_its_root_key_it_says_what_is_missing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BusUnavailableError):
        invoke("make")
    monkeypatch.setenv("WORKMESH_STATE_DIR", str(tmp_path / "elsewhere"))
    with pytest.raises(WorkmeshError, match=r"admin\.nk is not there"):
        invoke("make")
    assert not (tmp_path / "elsewhere").exists()
    monkeypatch.delenv("WORKMESH_BUS__URL")
    with pytest.raises(SettingsError, match=r"bus\.url is not set"):
        invoke("make")
