"""Bearer tokens of senders, each for some domains."""

from collections.abc import Sequence
from pathlib import Path

from mesh.errors import WorkmeshError
from mesh.tokens import KnownToken, TokenFile, make

PREFIX = "wmt_"


class Token(KnownToken, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sender's token; without ``domains`` it is for all."""

    name: str
    domains: tuple[str, ...] = ()

    def may(self, domain: str) -> bool:
        """Whether its sender may say something about a domain."""
        return not self.domains or domain in self.domains


def tokens_of(path: Path) -> TokenFile[Token]:
    """The tokens of a file."""
    return TokenFile(path, Token)


def add_token(path: Path, name: str, domains: Sequence[str] = ()) -> str:
    """A new token of this name, which is returned and not kept; raises ``WorkmeshError`` when the name has one."""
    known = tokens_of(path).read()
    if any(token.name == name for token in known):
        raise WorkmeshError(f"{name} has a token: take it away first (`workmesh intake revoke {name}`)")
    given, digest = make(PREFIX)
    tokens_of(path).write((*known, Token(name=name, sha256=digest, domains=tuple(domains))))
    return given


def remove_token(path: Path, name: str) -> None:
    """Take the token of this name away; raises ``WorkmeshError`` when there is none."""
    known = tokens_of(path).read()
    left = tuple(token for token in known if token.name != name)
    if len(left) == len(known):
        raise WorkmeshError(f"{name} has no token: there are {', '.join(token.name for token in known) or 'none'}")
    tokens_of(path).write(left)
