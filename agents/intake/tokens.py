"""Bearer tokens of senders: kept as hashes, each for some domains.

The rule: a token is shown once, when it is made; the file that knows it again cannot give it away.
"""

import hmac
import os
import secrets
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import msgspec

from mesh.errors import SettingsError, WorkmeshError

PREFIX = "wmt_"


class Token(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of the file. Without ``domains`` it is for all; ``sha256`` is of the token, in hex."""

    name: str
    sha256: str
    domains: tuple[str, ...] = ()

    def may(self, domain: str) -> bool:
        """Whether its sender may say something about a domain."""
        return not self.domains or domain in self.domains


class Tokens:
    """The tokens of a file, read anew when it changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] = (-1, -1)
        self._tokens: tuple[Token, ...] = ()

    def find(self, given: str) -> Token | None:
        """Whose token this is; raises ``SettingsError`` when the file cannot be read."""
        self._refresh()
        digest = sha256(given.encode("utf-8", "surrogateescape")).hexdigest()
        found = [token for token in self._tokens if hmac.compare_digest(token.sha256, digest)]
        return found[0] if found else None

    def _refresh(self) -> None:
        try:
            stat = self._path.stat()
        except OSError:
            self._tokens, self._stamp = (), (-1, -1)
            return
        if (stamp := (stat.st_mtime_ns, stat.st_ino)) != self._stamp:
            self._tokens = read_tokens(self._path)
            self._stamp = stamp


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
        if line.strip():
            try:
                found.append(msgspec.json.decode(line, type=Token))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise SettingsError(f"{path}:{number}: {error}") from error
    return tuple(found)


def add_token(path: Path, name: str, domains: Sequence[str] = ()) -> str:
    """A new token of this name, which is returned and not kept; raises ``WorkmeshError`` when the name has one."""
    known = read_tokens(path)
    if any(token.name == name for token in known):
        raise WorkmeshError(f"{name} has a token: take it away first (`workmesh intake revoke {name}`)")
    given = PREFIX + secrets.token_urlsafe(32)
    _write(path, (*known, Token(name=name, sha256=sha256(given.encode()).hexdigest(), domains=tuple(domains))))
    return given


def remove_token(path: Path, name: str) -> None:
    """Take the token of this name away; raises ``WorkmeshError`` when there is none."""
    known = read_tokens(path)
    left = tuple(token for token in known if token.name != name)
    if len(left) == len(known):
        raise WorkmeshError(f"{name} has no token: there are {', '.join(token.name for token in known) or 'none'}")
    _write(path, left)


def _write(path: Path, tokens: Sequence[Token]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.writelines(msgspec.json.encode(token) + b"\n" for token in tokens)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
