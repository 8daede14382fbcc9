"""Identities: one key for the bus and for signatures, kept in a file that nobody else may read."""

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import SettingsError
from mesh.identity import Identity, is_public_key, verify_signature


def test_an_identity_comes_back_from_its_file_with_its_name(tmp_path: Path) -> None:
    made = Identity.create(tmp_path / "keys" / "a.nk", "alice")
    found = Identity.load(tmp_path / "keys" / "a.nk")
    assert (found.public_key, found.name) == (made.public_key, "alice")
    assert made.public_key.startswith("U") and is_public_key(made.public_key)


def test_the_file_and_its_folder_are_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "a.nk"
    Identity.create(path, "alice")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_an_identity_is_never_overwritten(tmp_path: Path) -> None:
    first = Identity.create(tmp_path / "a.nk", "alice")
    with pytest.raises(SettingsError, match="exists already"):
        Identity.create(tmp_path / "a.nk", "alice")
    assert Identity.load(tmp_path / "a.nk").public_key == first.public_key


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_file_that_others_can_read_is_refused_with_the_way_out(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.nk"
    Identity.create(path, "alice")
    path.chmod(mode)
    with pytest.raises(SettingsError, match=f"chmod 600 {path}"):
        Identity.load(path)


@pytest.mark.parametrize("content", [b"", b"SU", b"not a seed", b"\xff" * 58, b"SA" + b"A" * 56])
def test_a_file_without_a_seed_is_refused_and_its_content_not_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.nk"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SettingsError, match="does not hold the seed"):
        Identity.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.nk"):
        Identity.load(tmp_path / "none.nk")


def test_a_public_file_of_another_key_is_refused(tmp_path: Path) -> None:
    Identity.create(tmp_path / "a.nk", "alice")
    Identity.create(tmp_path / "b.nk", "bob")
    (tmp_path / "b.nk.pub").replace(tmp_path / "a.nk.pub")
    with pytest.raises(SettingsError, match="another key"):
        Identity.load(tmp_path / "a.nk")


def test_the_seed_is_in_no_repr_and_in_no_option(tmp_path: Path) -> None:
    identity = Identity.create(tmp_path / "a.nk", "alice")
    seed = (tmp_path / "a.nk").read_text().strip()
    assert seed.startswith("SU")
    shown = f"{identity!r} {identity} {identity.nats_options()}"
    assert seed not in shown and "alice" in shown


def test_a_signature_verifies_for_its_key_and_data_only(tmp_path: Path) -> None:
    alice = Identity.create(tmp_path / "a.nk", "alice")
    bob = Identity.create(tmp_path / "b.nk", "bob")
    signature = alice.sign(b"pay 10")
    assert verify_signature(alice.public_key, signature, b"pay 10")
    assert not verify_signature(alice.public_key, signature, b"pay 99")
    assert not verify_signature(bob.public_key, signature, b"pay 10")
    assert not verify_signature("U" * 56, signature, b"pay 10")


@given(st.text(), st.binary(max_size=80))
def test_verifying_rubbish_is_false_and_never_raises(key: str, signature: bytes) -> None:
    assert not verify_signature(key, signature, b"data")
