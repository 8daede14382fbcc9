"""Trust: only what the root signed counts, and a revocation is seen, also after the server was killed."""

import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from mesh.errors import SignatureError, TerminalError
from mesh.identity import Identity
from mesh.signing import TRUST_TYPE, sign
from mesh.trust import TrustDirectory, TrustEntry, TrustWatcher, enroll, revoke
from tests.mesh.running_mesh import Mesh, until

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Keys:
    """A root, two people, and their entries."""

    def __init__(self, folder: Path) -> None:
        self.root, self.alice, self.bob = (Identity.create(folder / f"{n}.nk", n) for n in ("root", "alice", "bob"))
        self.directory = TrustDirectory(self.root.public_key)

    def entry(self, who: Identity, *roles: str, at: datetime = NOW) -> TrustEntry:
        """An entry of this identity."""
        return TrustEntry(name=who.name, public_key=who.public_key, kind="person", roles=roles, enrolled_at=at)

    def signed(self, entry: TrustEntry, by: Identity | None = None) -> msgspec.Raw:
        """The entry in an envelope."""
        return sign(entry, TRUST_TYPE, by or self.root)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """A root, two people, and an empty directory."""
    return Keys(tmp_path / "people")


def revoked(directory: TrustDirectory, name: str) -> bool:
    """Whether the directory holds this name as revoked."""
    entry = directory.find(name)
    return entry is not None and entry.revoked_at is not None


def test_an_enrolled_key_may_sign_for_its_roles_only(keys: Keys) -> None:
    keys.directory.apply(keys.signed(keys.entry(keys.alice, "manager")))
    assert keys.directory.require(keys.alice.public_key, "manager").name == "alice"
    with pytest.raises(SignatureError, match=r"alice has not the role finance, only manager: enroll"):
        keys.directory.require(keys.alice.public_key, "finance")
    with pytest.raises(SignatureError, match=r"not enrolled: `workmesh keys enroll`"):
        keys.directory.require(keys.bob.public_key, "manager")


def test_an_entry_that_the_root_did_not_sign_is_refused(keys: Keys) -> None:
    with pytest.raises(SignatureError, match="not by the root"):
        keys.directory.apply(keys.signed(keys.entry(keys.bob, "manager"), by=keys.bob))
    assert keys.directory.find("bob") is None


def test_a_later_entry_of_a_name_replaces_the_earlier_one(keys: Keys) -> None:
    keys.directory.apply(keys.signed(keys.entry(keys.alice, "manager")))
    other = TrustEntry(name="alice", public_key=keys.bob.public_key, kind="person", roles=("finance",), enrolled_at=NOW)
    keys.directory.apply(keys.signed(other))
    assert keys.directory.require(keys.bob.public_key, "finance").name == "alice"
    with pytest.raises(SignatureError, match="not enrolled"):
        keys.directory.require(keys.alice.public_key, "manager")


def test_an_old_entry_brought_back_does_not_undo_a_revocation(keys: Keys) -> None:
    entry = keys.entry(keys.alice, "manager")
    gone = msgspec.structs.replace(entry, revoked_at=NOW + timedelta(days=1))
    keys.directory.apply(keys.signed(gone))
    keys.directory.apply(keys.signed(entry))
    with pytest.raises(SignatureError, match="was revoked at 2026-01-03"):
        keys.directory.require(keys.alice.public_key, "manager")


def test_a_revoked_key_is_refused_under_another_name_too(keys: Keys) -> None:
    entry = keys.entry(keys.alice, "manager")
    keys.directory.apply(keys.signed(msgspec.structs.replace(entry, revoked_at=NOW)))
    keys.directory.apply(keys.signed(msgspec.structs.replace(entry, name="carol")))
    with pytest.raises(SignatureError, match="revoked"):
        keys.directory.require(keys.alice.public_key, "manager")


def test_an_entry_that_stands_under_another_name_is_refused(keys: Keys) -> None:
    with pytest.raises(SignatureError, match="of alice stands under bob"):
        keys.directory.apply(keys.signed(keys.entry(keys.alice, "manager")), name="bob")


def test_a_removed_entry_is_gone(keys: Keys) -> None:
    keys.directory.apply(keys.signed(keys.entry(keys.alice, "manager")))
    keys.directory.remove("alice")
    assert keys.directory.entries() == ()
    with pytest.raises(SignatureError, match="not enrolled"):
        keys.directory.require(keys.alice.public_key, "manager")


async def test_a_watcher_begins_with_all_entries_and_sees_new_ones(mesh: Mesh, keys: Keys) -> None:
    written = await (await mesh.connect("admin")).jetstream().key_value("TRUST")
    await enroll(written, keys.root, keys.entry(keys.alice, "manager"))
    read = await (await mesh.connect("executor")).jetstream().key_value("TRUST")
    async with TrustWatcher(read, keys.root.public_key, reread_s=60) as trust:
        assert trust.directory.require(keys.alice.public_key, "manager").kind == "person"
        await enroll(written, keys.root, keys.entry(keys.bob, "finance"))
        await until(lambda: trust.directory.find("bob") is not None)
        await revoke(written, keys.root, "alice")
        await until(lambda: revoked(trust.directory, "alice"))
        await written.delete("bob")
        await until(lambda: trust.directory.find("bob") is None)
    assert mesh.errors["executor"] == []


async def test_refresh_returns_with_what_was_written_before_it(mesh: Mesh, keys: Keys) -> None:
    written = await (await mesh.connect("admin")).jetstream().key_value("TRUST")
    read = await (await mesh.connect("policy")).jetstream().key_value("TRUST")
    async with TrustWatcher(read, keys.root.public_key, reread_s=60) as trust:
        for at in range(3):
            await enroll(written, keys.root, keys.entry(keys.alice, f"role{at}", at=NOW + timedelta(seconds=at)))
            await trust.refresh()
            assert trust.directory.require(keys.alice.public_key, f"role{at}")


async def test_an_entry_that_the_root_did_not_sign_takes_the_trust_away(mesh: Mesh, keys: Keys) -> None:
    written = await (await mesh.connect("admin")).jetstream().key_value("TRUST")
    await enroll(written, keys.root, keys.entry(keys.alice, "manager"))
    read = await (await mesh.connect("policy")).jetstream().key_value("TRUST")
    async with TrustWatcher(read, keys.root.public_key, reread_s=60) as trust:
        await written.put("alice", bytes(keys.signed(keys.entry(keys.alice, "ceo"), by=keys.alice)))
        await until(lambda: trust.directory.find("alice") is None)


async def test_a_revocation_is_seen_after_the_server_was_killed(mesh: Mesh, keys: Keys) -> None:
    admin = await mesh.connect("admin")
    written = await admin.jetstream().key_value("TRUST")
    await enroll(written, keys.root, keys.entry(keys.alice, "manager"))
    executor = await mesh.connect("executor")
    read = await executor.jetstream().key_value("TRUST")
    async with TrustWatcher(read, keys.root.public_key, reread_s=1) as trust:
        os.kill(mesh.server.pid, signal.SIGKILL)
        await until(lambda: admin.stats["reconnects"] >= 1 and admin.is_connected)
        assert trust.directory.require(keys.alice.public_key, "manager")
        await revoke(written, keys.root, "alice")
        await until(lambda: revoked(trust.directory, "alice"))


async def test_revoking_a_name_that_is_not_enrolled_says_so(mesh: Mesh, keys: Keys) -> None:
    written = await (await mesh.connect("admin")).jetstream().key_value("TRUST")
    with pytest.raises(TerminalError, match="nobody named alice"):
        await revoke(written, keys.root, "alice")


async def test_only_a_right_public_key_is_enrolled(mesh: Mesh, keys: Keys) -> None:
    written = await (await mesh.connect("admin")).jetstream().key_value("TRUST")
    entry = msgspec.structs.replace(keys.entry(keys.alice, "manager"), public_key="UABC")
    with pytest.raises(TerminalError, match="not a public key"):
        await enroll(written, keys.root, entry)
