"""TLS of the bus: certificates of a private authority, and who is refused, on a real nats-server."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from mesh.bus import connect
from mesh.certificates import Authority, listed, read
from mesh.clock import now
from mesh.errors import BusUnavailableError, SettingsError
from mesh.identity import Identity
from mesh.natsconf import Tls, render
from mesh.ports import free_port
from mesh.settings import BusSettings
from mesh.tls import TlsFiles
from tests.mesh.nats_servers import Server, identities, started, users

pytestmark = pytest.mark.timeout(60)

HOST = "127.0.0.1"
CUT = "(?i)certificate|unknown ca|expired|reset|closed|broken pipe|empty response|unexpected"
"""How a client learns that its certificate was not taken: by TLS's alert, or only by the end of the connection."""


def files(folder: Path, client: str = "") -> TlsFiles:
    """The files of a client with a certificate of this folder, or with none."""
    own = [str(folder / f"{client}{suffix}") for suffix in (".pem", ".key")] if client else ["", ""]
    return TlsFiles(str(folder / "ca.pem"), *own)


def server(folder: Path, certificates: Path, keys: dict[str, Identity], *, clients: bool = True) -> Server:
    """A server that shows ``n1`` of these certificates."""
    certificate, key, authority = (str(certificates / name) for name in ("n1.pem", "n1.key", "ca.pem"))
    tls = Tls(certificate, key, authority, clients)
    config = render(port=free_port(), store=folder / "store", users=users(keys), name="n1", tls=tls)
    return Server.of(folder, config)


@asynccontextmanager
async def bus(
    running: Server, keys: dict[str, Identity], tls: TlsFiles | None, scheme: str = "tls"
) -> AsyncIterator[None]:
    """Connected, and answered."""
    url, options = f"{scheme}://{HOST}:{running.port}", keys["admin"].nats_options()
    async with connect(url, name="test", options=options, tls=tls, connect_timeout_s=3) as found:
        assert "error" not in await found.api("INFO")
        yield


async def refused(
    running: Server, keys: dict[str, Identity], tls: TlsFiles | None, why: str, scheme: str = "tls"
) -> None:
    """No connection comes about, and the error says why."""
    with pytest.raises(BusUnavailableError, match=why):
        async with bus(running, keys, tls, scheme):
            pass


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """An authority with a server's certificate for this host, and a client's."""
    authority = Authority.opened(tmp_path / "tls")
    authority.issue("n1", [HOST, "localhost"], server=True, days=30)
    authority.issue("agents", [], server=False, days=30)
    return authority.folder


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, Identity]:
    """The root's key."""
    return identities(tmp_path / "keys", ("admin",))


async def test_who_shows_and_trusts_the_right_certificates_is_let_in(
    tmp_path: Path, certificates: Path, keys: dict[str, Identity]
) -> None:
    running = server(tmp_path / "n1", certificates, keys)
    async with started(running), bus(running, keys, files(certificates, "agents")):
        pass


async def test_a_client_that_trusts_another_authority_does_not_talk_to_the_server(
    tmp_path: Path, certificates: Path, keys: dict[str, Identity]
) -> None:
    other = Authority.opened(tmp_path / "other").folder
    running = server(tmp_path / "n1", certificates, keys, clients=False)
    async with started(running):
        await refused(running, keys, files(other), "certificate verify failed")
        await refused(running, keys, TlsFiles(), "certificate verify failed")  # the system's authorities
        async with bus(running, keys, files(certificates)):
            pass


async def test_a_client_of_another_authority_or_of_none_is_refused(
    tmp_path: Path, certificates: Path, keys: dict[str, Identity]
) -> None:
    other = Authority.opened(tmp_path / "other")
    other.issue("agents", [], server=False, days=30)
    stranger = TlsFiles(
        str(certificates / "ca.pem"), str(other.folder / "agents.pem"), str(other.folder / "agents.key")
    )
    running = server(tmp_path / "n1", certificates, keys)
    async with started(running):
        await refused(running, keys, stranger, CUT)
        await refused(running, keys, files(certificates), CUT)
        async with bus(running, keys, files(certificates, "agents")):
            pass


async def test_a_client_in_plain_text_is_refused(tmp_path: Path, certificates: Path, keys: dict[str, Identity]) -> None:
    """One that believes what the first line says, and one that talks on regardless."""
    running = server(tmp_path / "n1", certificates, keys)
    async with started(running):
        await refused(running, keys, None, "(?i)no ssl context|certificate", scheme="nats")
        reader, writer = await asyncio.open_connection(HOST, running.port)
        await reader.readline()
        writer.write(b'CONNECT {"verbose":true}\r\nPING\r\n')
        told = await reader.read()
        writer.close()
        assert b"PONG" not in told and b"+OK" not in told


async def test_a_server_in_plain_text_is_not_talked_to(
    tmp_path: Path, certificates: Path, keys: dict[str, Identity]
) -> None:
    plain = Server.of(tmp_path, render(port=free_port(), store=tmp_path / "s", users=users(keys), name="n1"))
    async with started(plain):
        for scheme in ("tls", "nats"):
            await refused(plain, keys, files(certificates, "agents"), "the server speaks plain text", scheme)
        await refused(plain, keys, None, "the server speaks plain text")


async def test_what_has_expired_is_refused_on_either_side(
    tmp_path: Path, certificates: Path, keys: dict[str, Identity]
) -> None:
    authority = Authority.opened(certificates)
    assert authority.issue("late", [], server=False, days=-1).expires < now()
    running = server(tmp_path / "n1", certificates, keys)
    async with started(running):
        await refused(running, keys, files(certificates, "late"), CUT)
    authority.issue("n1", [HOST], server=True, days=-1, renew=True)
    running = server(tmp_path / "n2", certificates, keys)
    async with started(running):
        await refused(running, keys, files(certificates, "agents"), "certificate has expired")
    authority.issue("n1", [HOST], server=True, days=1, renew=True)
    async with started(running), bus(running, keys, files(certificates, "agents")):
        pass


async def test_a_certificate_stands_for_its_hosts_alone(tmp_path: Path, keys: dict[str, Identity]) -> None:
    authority = Authority.opened(tmp_path / "tls")
    authority.issue("n1", ["nats-1.example", "10.0.0.1"], server=True, days=30)
    running = server(tmp_path / "n1", authority.folder, keys, clients=False)
    async with started(running):
        await refused(running, keys, files(authority.folder), "(?i)mismatch|not valid for")


async def test_renewed_files_are_read_at_the_next_connection(
    tmp_path: Path, certificates: Path, keys: dict[str, Identity]
) -> None:
    """All of it is renewed, the authority too, and the process goes on without a restart."""
    renewed = Authority.opened(tmp_path / "renewed")
    renewed.issue("n1", [HOST], server=True, days=30)
    renewed.issue("agents", [], server=False, days=30)
    running = server(tmp_path / "n1", certificates, keys)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(started(running))
        url, options = f"tls://{HOST}:{running.port}", keys["admin"].nats_options()
        tls = files(certificates, "agents")
        found = await stack.enter_async_context(connect(url, name="test", options=options, tls=tls))
        before = found.connection
        await running.stop()
        for path in renewed.folder.iterdir():
            shutil.copy(path, certificates / path.name)
        await running.start()
        await found.wait_connected(10)
        assert found.connection > before
        assert "error" not in await found.api("INFO")


async def test_files_that_are_none_are_refused_by_name(
    tmp_path: Path, certificates: Path, keys: dict[str, Identity]
) -> None:
    running = server(tmp_path / "n1", certificates, keys)
    (tmp_path / "empty.pem").touch()
    for tls, why in (
        (TlsFiles(str(tmp_path / "missing.pem")), "missing.pem"),
        (TlsFiles(str(tmp_path / "empty.pem")), "empty.pem"),
        (TlsFiles(str(certificates / "ca.pem"), str(certificates / "agents.pem")), "go together"),
        (
            TlsFiles(str(certificates / "ca.pem"), str(certificates / "n1.pem"), str(certificates / "agents.key")),
            "n1.pem",
        ),
    ):
        with pytest.raises(SettingsError, match=why):
            async with bus(running, keys, tls):
                pass


def test_private_keys_are_their_owners_alone_and_nothing_is_overwritten(tmp_path: Path) -> None:
    authority = Authority.opened(tmp_path / "tls")
    made = authority.issue("n1", ["10.0.0.1", "n1.example"], server=True, days=30)
    assert (made.name, made.kind, made.names, made.days_left) == ("n1", "server", ("10.0.0.1", "n1.example"), 29)
    modes = {path.name: path.stat().st_mode & 0o777 for path in authority.folder.iterdir()}
    assert modes == {"ca.key": 0o600, "ca.pem": 0o644, "n1.key": 0o600, "n1.pem": 0o644}
    key, certificate = ((authority.folder / name).read_bytes() for name in ("n1.key", "n1.pem"))
    with pytest.raises(SettingsError, match="--renew"):
        authority.issue("n1", ["10.0.0.1"], server=True, days=30)
    with pytest.raises(SettingsError, match="nothing to renew"):
        authority.issue("n2", ["10.0.0.2"], server=True, days=30, renew=True)
    assert (authority.folder / "n1.key").read_bytes() == key
    Authority.opened(authority.folder).issue("n1", ["10.0.0.1"], server=True, days=60, renew=True)
    assert (authority.folder / "n1.key").read_bytes() != key
    assert (authority.folder / "n1.pem").read_bytes() != certificate
    assert [(each.name, each.kind) for each in listed(authority.folder)] == [("n1", "server"), ("ca", "authority")]


def test_a_certificate_does_not_outlive_its_authority(tmp_path: Path) -> None:
    authority = Authority.opened(tmp_path)
    made = authority.issue("n1", ["h"], server=True, days=3650 * 2)
    assert made.expires == read(tmp_path / "ca.pem").expires


@pytest.mark.parametrize("name", ["ca", "../n1", "a/b", "", ".n1"])
def test_names_that_are_no_files_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="no name"):
        Authority.opened(tmp_path).issue(name, ["h"], server=True, days=1)


def test_an_authority_that_lost_its_key_or_shows_it_is_refused(tmp_path: Path) -> None:
    Authority.opened(tmp_path)
    (tmp_path / "ca.key").chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        Authority.opened(tmp_path)
    (tmp_path / "ca.key").unlink()
    with pytest.raises(SettingsError, match="lost its key"):
        Authority.opened(tmp_path)


def test_the_embedded_bus_needs_no_tls() -> None:
    assert BusSettings(tls_ca="ca.pem").tls is None
    assert BusSettings(url="nats://h", tls_ca="ca.pem").tls == TlsFiles("ca.pem")
    assert BusSettings(url="tls://h").tls is None  # by the address: the system's authorities
