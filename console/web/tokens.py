"""Tokens that people sign in with: kept as hashes, each for one person and a time.

The rule: a token is shown once, when it is made; the file that knows it again cannot give it away.
"""

import hmac
import os
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

import msgspec

from mesh.clock import now
from mesh.errors import SettingsError, WorkmeshError

PREFIX = "wmc_"
_ID_CHARS = 12


class Token(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of the file; ``sha256`` is of the token, in hex."""

    person: str
    sha256: str
    made_at: datetime
    expires_at: datetime

    @property
    def id(self) -> str:
        """Names the token where it must not be told."""
        return self.sha256[:_ID_CHARS]


class Tokens:
    """The tokens of a file, read anew when it changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] = (-1, -1)
        self._tokens: tuple[Token, ...] = ()

    def find(self, given: str) -> Token | None:
        """The token in force that this is; raises ``SettingsError`` when the file cannot be read."""
        digest = sha256(given.encode("utf-8", "surrogateescape")).hexdigest()
        return next((each for each in self._in_force() if hmac.compare_digest(each.sha256, digest)), None)

    def stands(self, token_id: str) -> bool:
        """Whether the token of this id is still in force."""
        return any(each.id == token_id for each in self._in_force())

    def _in_force(self) -> list[Token]:
        try:
            stat = self._path.stat()
        except OSError:
            self._tokens, self._stamp = (), (-1, -1)
            return []
        if (stamp := (stat.st_mtime_ns, stat.st_ino)) != self._stamp:
            self._tokens, self._stamp = read_tokens(self._path), stamp
        at = now()
        return [each for each in self._tokens if each.expires_at > at]


def read_tokens(path: Path) -> tuple[Token, ...]:
    """The tokens of a file of JSON lines; none where it is not there. Raises ``SettingsError`` naming the line."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise SettingsError(f"cannot read the tokens {path}: {error.strerror}") from error
    found: list[Token] = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(msgspec.json.decode(line, type=Token))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path}:{number}: {error}") from error
    return tuple(found)


def add_token(path: Path, person: str, lasts: timedelta) -> str:
    """A new token for this person, which is returned and not kept; those that are over are forgotten."""
    given = PREFIX + secrets.token_urlsafe(32)
    at = now()
    made = Token(person=person, sha256=sha256(given.encode()).hexdigest(), made_at=at, expires_at=at + lasts)
    _write(path, (*(each for each in read_tokens(path) if each.expires_at > at), made))
    return given


def remove_tokens(path: Path, person: str) -> int:
    """Take all tokens of a person away; how many there were. Raises ``WorkmeshError`` for none."""
    known = read_tokens(path)
    left = tuple(each for each in known if each.person != person)
    if len(left) == len(known):
        raise WorkmeshError(f"{person} has no token: see `workmesh console tokens`")
    _write(path, left)
    return len(known) - len(left)


def _write(path: Path, tokens: Sequence[Token]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.writelines(msgspec.json.encode(token) + b"\n" for token in tokens)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
