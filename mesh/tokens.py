"""Tokens that let somebody in: kept as hashes, one a line, in a file that is read anew when it changes.

The rule: a token is shown once, when it is made; the file that knows it again cannot give it away.
"""

import hmac
import secrets
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from mesh import files
from mesh.errors import SettingsError


class KnownToken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of a file; ``sha256`` is of the token, in hex."""

    sha256: str


T = TypeVar("T", bound=KnownToken)


def make(prefix: str) -> tuple[str, str]:
    """A new token, to be shown once, and its hash, to be kept."""
    token = prefix + secrets.token_urlsafe(32)
    return token, sha256(token.encode()).hexdigest()


class TokenFile(Generic[T]):
    """The tokens of a file; none where it is not there."""

    def __init__(self, path: Path, kind: type[T]) -> None:
        self._path = path
        self._decoder = msgspec.json.Decoder(kind)
        self._stamp: tuple[int, int] = (-1, -1)
        self._tokens: tuple[T, ...] = ()

    def find(self, given: str) -> T | None:
        """The token that this is; raises ``SettingsError`` when the file cannot be read."""
        digest = sha256(given.encode("utf-8", "surrogateescape")).hexdigest()
        found = [each for each in self.current() if hmac.compare_digest(each.sha256, digest)]
        return found[0] if found else None

    def current(self) -> tuple[T, ...]:
        """All of them, from memory while the file is the same; raises ``SettingsError`` as ``read`` does."""
        try:
            stat = self._path.stat()
        except OSError:
            self._tokens, self._stamp = (), (-1, -1)
            return ()
        if (stamp := (stat.st_mtime_ns, stat.st_ino)) != self._stamp:
            self._tokens, self._stamp = self.read(), stamp
        return self._tokens

    def read(self) -> tuple[T, ...]:
        """All of them, from the file; raises ``SettingsError`` naming the line that is no token."""
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise SettingsError(f"cannot read the tokens {self._path}: {error.strerror}") from error
        found: list[T] = []
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    found.append(self._decoder.decode(line))
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise SettingsError(f"{self._path}:{number}: {error}") from error
        return tuple(found)

    def write(self, tokens: Iterable[T]) -> None:
        """Put these in the place of all; the file has mode 0600, a folder that is made 0700."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.put(self._path, b"".join(msgspec.json.encode(each) + b"\n" for each in tokens))
