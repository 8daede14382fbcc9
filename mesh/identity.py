"""Who a process or a person is: one Ed25519 identity that is both the NATS nkey user and the signer of envelopes.

The rule: the seed leaves this module only as the name of its file; no ``repr``, option or error shows it.
"""

import base64
import binascii
import os
import secrets
from functools import lru_cache
from pathlib import Path
from typing import Self

import nacl.exceptions
import nacl.signing
import nkeys

from mesh.errors import SettingsError

_PUBLIC_KEY_BYTES = 35  # prefix byte, 32 bytes of key, CRC-16 (github.com/nats-io/nkeys)
_OTHERS = 0o077


class Identity:
    """A name and its Ed25519 key. The public part of the file lies beside it as ``<path>.pub``: key and name."""

    def __init__(self, name: str, path: Path, seed: bytes) -> None:
        self.name = name
        self.path = path
        self._pair = nkeys.from_seed(bytearray(seed))
        self.public_key: str = self._pair.public_key.decode()

    @classmethod
    def create(cls, path: Path, name: str) -> Self:
        """A new identity, its seed written to ``path`` (mode 0600, a folder it makes is 0700).

        Raises ``SettingsError`` when the file exists: an identity is never overwritten.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        seed: bytes = nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise SettingsError(f"{path} exists already: choose another path, or move that identity away") from None
        with os.fdopen(descriptor, "wb") as file:
            file.write(seed + b"\n")
            file.flush()
            os.fsync(file.fileno())
        identity = cls(name, path, seed)
        _public_file(path).write_text(f"{identity.public_key} {name}\n", encoding="utf-8")
        return identity

    @classmethod
    def replace(cls, path: Path, name: str) -> Self:
        """A new identity in the place of the one in ``path``, whose seed is then nowhere.

        At each moment the file holds one whole seed, and no public part that is of another.
        """
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        identity = cls.create(fresh, name)
        _public_file(path).unlink(missing_ok=True)
        fresh.replace(path)
        _public_file(fresh).replace(_public_file(path))
        identity.path = path
        return identity

    @classmethod
    def load(cls, path: Path) -> Self:
        """The identity whose seed is in ``path``; its name is in ``<path>.pub``, or else is the file's stem.

        Raises ``SettingsError`` when the file is missing, readable by others or no seed of a user.
        """
        try:
            if path.stat().st_mode & _OTHERS:
                raise SettingsError(f"{path} can be read by others: run `chmod 600 {path}`")
            seed = path.read_bytes().strip()
        except OSError as error:
            raise SettingsError(f"cannot read the identity {path}: {error.strerror}") from error
        try:
            identity = cls(path.stem, path, seed)
        except (nkeys.NkeysError, ValueError, TypeError):
            identity = None
        if identity is None or not is_public_key(identity.public_key):
            raise SettingsError(f"{path} does not hold the seed of a user (one line, 'SU...')") from None
        identity.name = _public_name(path, identity.public_key) or path.stem
        return identity

    @property
    def inbox_prefix(self) -> str:
        """The first token of this identity's reply subjects; no other identity may read them."""
        return inbox_prefix(self.public_key)

    def sign(self, data: bytes) -> bytes:
        """The 64 bytes of the Ed25519 signature of ``data``."""
        signature: bytes = self._pair.sign(data)
        return signature

    def nats_options(self) -> dict[str, str]:
        """Keyword arguments for ``nats.connect``: which key file, and which private inbox.

        nats-py reads the seed from the file at each connection, so the options hold no secret.
        """
        return {"nkeys_seed": str(self.path), "inbox_prefix": self.inbox_prefix}

    def __repr__(self) -> str:
        return f"Identity({self.name!r}, {self.public_key})"


def inbox_prefix(public_key: str) -> str:
    """``_INBOX_<first 16 characters of the key>``: 75 random bits, short enough to go with every publish."""
    return f"_INBOX_{public_key[:16]}"


def is_public_key(text: str) -> bool:
    """Whether this is the public nkey of a user: ``U...`` with a right checksum."""
    try:
        _verify_key(text)
    except ValueError:
        return False
    return True


def raw_public_key(public_key: str) -> bytes:
    """The 32 bytes of a public key ('U...'); raises ``ValueError`` when it is none."""
    return bytes(_verify_key(public_key))


def verify_signature(public_key: str, signature: bytes, data: bytes) -> bool:
    """Whether ``signature`` is the Ed25519 signature of ``data`` by ``public_key`` ('U...'); never raises."""
    try:
        _verify_key(public_key).verify(data, signature)
    except (nacl.exceptions.BadSignatureError, ValueError, TypeError):
        return False
    return True


@lru_cache(maxsize=1024)
def _verify_key(public_key: str) -> nacl.signing.VerifyKey:
    try:
        raw = base64.b32decode(public_key)
    except binascii.Error as error:
        raise ValueError("not a public key: no base32") from error
    body, checksum = raw[:-2], raw[-2:]
    if len(raw) != _PUBLIC_KEY_BYTES or body[0] != nkeys.PREFIX_BYTE_USER:
        raise ValueError("not the public key of a user")
    if binascii.crc_hqx(body, 0).to_bytes(2, "little") != checksum:
        raise ValueError("not a public key: wrong checksum")
    return nacl.signing.VerifyKey(body[1:])


def _public_file(path: Path) -> Path:
    return path.with_name(path.name + ".pub")


def _public_name(path: Path, public_key: str) -> str:
    try:
        key, _, name = _public_file(path).read_text(encoding="utf-8").strip().partition(" ")
    except OSError:
        return ""
    if key != public_key:
        raise SettingsError(f"{_public_file(path)} is of another key than {path}: delete it or bring the right one")
    return name
