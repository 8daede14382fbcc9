"""Tokens that people sign in with, each for one person and a time."""

from datetime import datetime, timedelta
from pathlib import Path

from mesh.clock import now
from mesh.errors import WorkmeshError
from mesh.tokens import KnownToken, TokenFile, make

PREFIX = "wmc_"
_ID_CHARS = 12


class Token(KnownToken, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person's token."""

    person: str
    made_at: datetime
    expires_at: datetime

    @property
    def id(self) -> str:
        """Names the token where it must not be told."""
        return self.sha256[:_ID_CHARS]

    @property
    def is_over(self) -> bool:
        """Whether its time has come."""
        return self.expires_at <= now()


class Tokens:
    """The tokens of a file, read anew when it changes."""

    def __init__(self, path: Path) -> None:
        self._file = TokenFile(path, Token)

    def find(self, given: str) -> Token | None:
        """The token in force that this is; raises ``SettingsError`` when the file cannot be read."""
        found = self._file.find(given)
        return None if found is None or found.is_over else found

    def stands(self, token_id: str) -> bool:
        """Whether the token of this id is still in force."""
        return any(each.id == token_id and not each.is_over for each in self._file.current())


def read_tokens(path: Path) -> tuple[Token, ...]:
    """Those of a file that are in force; raises ``SettingsError`` when it cannot be read."""
    return tuple(each for each in TokenFile(path, Token).read() if not each.is_over)


def add_token(path: Path, person: str, lasts: timedelta) -> str:
    """A new token for this person, which is returned and not kept; those that are over are forgotten."""
    given, digest = make(PREFIX)
    at = now()
    made = Token(person=person, sha256=digest, made_at=at, expires_at=at + lasts)
    TokenFile(path, Token).write((*read_tokens(path), made))
    return given


def remove_tokens(path: Path, person: str) -> int:
    """Take all tokens of a person away; how many there were. Raises ``WorkmeshError`` for none."""
    known = read_tokens(path)
    left = tuple(each for each in known if each.person != person)
    if len(left) == len(known):
        raise WorkmeshError(f"{person} has no token: see `workmesh console tokens`")
    TokenFile(path, Token).write(left)
    return len(known) - len(left)
