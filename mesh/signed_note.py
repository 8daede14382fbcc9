"""Signed notes and log checkpoints in the text forms of C2SP (c2sp.org/signed-note, c2sp.org/tlog-checkpoint).

The rule: a text is looked at only after a known key's signature over it has been verified.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

import nacl.exceptions
import nacl.signing

from mesh.errors import SignatureError
from mesh.identity import Identity, raw_public_key

_ED25519 = b"\x01"
_SIGNATURES_MAX = 64
_NAME = re.compile(r"[^\s+]+")
_SIGNATURE = re.compile(r"— (?P<name>[^\s+]+) (?P<value>[A-Za-z0-9+/]+={0,2})")
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_FORBIDDEN = re.compile("[\\x00-\\x09\\x0b-\\x1f\\ud800-\\udfff]")  # control characters, and what is no UTF-8
_ROOT_BYTES = 32
_KEY_ID_BYTES = 4


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key under the name that it signs as; its text is ``<name>+<key id>+<base64>``."""

    name: str
    public: bytes

    @classmethod
    def of(cls, name: str, public_key: str) -> "VerifierKey":
        """The key of an identity (its 'U...' text) under this name; raises ``ValueError``."""
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be the name of a key: no spaces, no plus")
        return cls(name, raw_public_key(public_key))

    @classmethod
    def parse(cls, text: str) -> "VerifierKey":
        """Raises ``ValueError`` for a text that is no Ed25519 verifier key, or whose key id is not the key's."""
        name, _, rest = text.strip().partition("+")
        key_id, _, value = rest.partition("+")
        try:
            raw = base64.b64decode(value, validate=True)
        except binascii.Error:
            raw = b""
        if not _NAME.fullmatch(name) or raw[:1] != _ED25519 or len(raw) != 33:
            raise ValueError(f"{text!r} is no Ed25519 verifier key (<name>+<key id>+<base64>)")
        key = cls(name, raw[1:])
        if key.id.hex() != key_id:
            raise ValueError(f"{text!r} has the key id {key_id}, but its key and name have {key.id.hex()}")
        return key

    @property
    def id(self) -> bytes:
        """The four bytes that a signature names its key by."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:_KEY_ID_BYTES]

    def verifies(self, signature: bytes, text: bytes) -> bool:
        """Whether this key made the signature."""
        try:
            nacl.signing.VerifyKey(self.public).verify(text, signature)
        except (nacl.exceptions.BadSignatureError, nacl.exceptions.ValueError):
            return False
        return True

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(_ED25519 + self.public).decode()}"


def sign_note(text: str, name: str, identity: Identity) -> str:
    """The note: the text, which ends with a newline, signed under this name."""
    if not text.endswith("\n"):
        raise ValueError("the text of a note ends with a newline")
    key = VerifierKey.of(name, identity.public_key)
    value = base64.b64encode(key.id + identity.sign(text.encode())).decode()
    return f"{text}\n— {name} {value}\n"


def open_note(note: str, keys: Iterable[VerifierKey]) -> tuple[str, tuple[VerifierKey, ...]]:
    """The text of a note, and those of the known keys that signed it.

    Raises ``SignatureError`` when it is no note, no known key signed it, or the signature of a known key is wrong.
    """
    text, gap, tail = note.rpartition("\n\n")
    text += "\n"
    lines = tail.removesuffix("\n").split("\n")
    if not gap or not tail.endswith("\n") or _FORBIDDEN.search(note):
        raise SignatureError("not a signed note: a text, an empty line, and lines of signatures are expected")
    if len(lines) > _SIGNATURES_MAX:
        raise SignatureError(f"the note has {len(lines)} signatures: at most {_SIGNATURES_MAX} are looked at")
    known = {(key.name, key.id): key for key in keys}
    signed: list[VerifierKey] = []
    for line in lines:
        name, value = _signature(line)
        key = known.get((name, value[:_KEY_ID_BYTES]))
        if key is None:
            continue
        if not key.verifies(value[_KEY_ID_BYTES:], text.encode()):
            raise SignatureError(f"the signature of {key} does not verify")
        signed.append(key)
    if not signed:
        raise SignatureError("none of the known keys signed it")
    return text, tuple(signed)


def _signature(line: str) -> tuple[str, bytes]:
    match = _SIGNATURE.fullmatch(line)
    try:
        value = base64.b64decode(match["value"], validate=True) if match else b""
    except binascii.Error:
        value = b""
    if match is None or len(value) <= _KEY_ID_BYTES or base64.b64encode(value).decode() != match["value"]:
        raise SignatureError(f"{line!r} is no line of a signature")
    return match["name"], value


@dataclass(frozen=True, slots=True)
class LogCheckpoint:
    """The head of a log: whose it is, how many leaves it has, and their root. ``extensions`` mean nothing here."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def text(self) -> str:
        """The text that is signed; raises ``ValueError`` for a part that would read as another line."""
        lines = (self.origin, str(self.size), base64.b64encode(self.root).decode(), *self.extensions)
        if any(not line or any(char < " " for char in line) for line in lines):
            raise ValueError("the lines of a checkpoint are not empty and hold no control characters")
        return "".join(f"{line}\n" for line in lines)

    @classmethod
    def parse(cls, text: str) -> "LogCheckpoint":
        """Raises ``SignatureError`` when the text is no checkpoint, to the character."""
        lines = text.split("\n")
        if len(lines) < 4 or lines.pop() or not all(lines) or not _SIZE.fullmatch(lines[1]):
            raise SignatureError("not a checkpoint: origin, size and root are expected, each on its line")
        try:
            root = base64.b64decode(lines[2], validate=True)
        except binascii.Error:
            root = b""
        if len(root) != _ROOT_BYTES or base64.b64encode(root).decode() != lines[2]:
            raise SignatureError(f"not a checkpoint: its root {lines[2]!r} is not 32 bytes in base64")
        return cls(lines[0], int(lines[1]), root, tuple(lines[3:]))

    def signed(self, identity: Identity) -> str:
        """The checkpoint as a note, signed under its origin, as the specification wants it."""
        return sign_note(self.text(), self.origin, identity)

    @classmethod
    def open(cls, note: str, keys: Iterable[VerifierKey]) -> "LogCheckpoint":
        """The checkpoint in a note that a known key signed under the log's own name; raises ``SignatureError``."""
        text, signers = open_note(note, keys)
        found = cls.parse(text)
        if found.origin not in {key.name for key in signers}:
            raise SignatureError(f"a checkpoint of {found.origin} is signed as {signers[0].name}")
        return found


def unverified(note: str) -> LogCheckpoint | None:
    """What a note claims to be, whoever signed it; for telling people, and to know what to look for."""
    try:
        return LogCheckpoint.parse(note.rpartition("\n\n")[0] + "\n")
    except SignatureError:
        return None


def split_notes(text: str) -> tuple[list[str], str]:
    """The notes of a file that holds checkpoints one after the other, an empty line between, and what is none of it.

    The second part is a note that was torn in the middle of its writing, or anything else that stands behind the last.
    """
    notes: list[str] = []
    start = place = 0
    while (end := text.find("\n\n", place)) >= 0:
        if text.startswith("— ", place):
            notes.append(text[start : end + 1])
            start = end + 2
        place = end + 2
    return notes, text[start:]
