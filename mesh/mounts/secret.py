"""Secrets that a target asks for: read from a file when they are needed, shown nowhere.

The rule: a secret stands in a file that nobody else can read, never in settings, records, logs or errors.
"""

import base64
from pathlib import Path
from typing import Literal
from urllib.parse import quote, quote_plus

import httpx2
import msgspec

from mesh.errors import NotSentError
from mesh.mounts.declaration import Part
from mesh.redaction import HIDDEN

_LONGEST = 65536


class Auth(Part, frozen=True, kw_only=True):
    """How a service is told who calls. ``name`` is a key's header or query parameter; ``user`` is for ``basic``."""

    file: str
    kind: Literal["bearer", "basic", "header", "query"] = "bearer"
    name: str = ""
    user: str = ""

    def __post_init__(self) -> None:
        if self.kind in ("header", "query") and not self.name:
            raise ValueError(f"auth by {self.kind} needs a name")
        if self.kind == "basic" and not self.user:
            raise ValueError("auth by basic needs a user")

    def put(self, request: httpx2.Request) -> tuple[str, ...]:
        """Put the secret into a request; its forms, to be kept out of what is said. Raises ``NotSentError``."""
        secret = read_secret(self.file)
        match self.kind:
            case "bearer":
                request.headers["authorization"] = f"Bearer {secret}"
            case "basic":
                pair = base64.b64encode(f"{self.user}:{secret}".encode()).decode()
                request.headers["authorization"] = f"Basic {pair}"
                return secret, pair
            case "header":
                request.headers[self.name] = secret
            case "query":
                request.url = request.url.copy_merge_params({self.name: secret})
                return secret, quote(secret), quote_plus(secret)
        return (secret,)


def read_secret(file: str) -> str:
    """The secret in this file, without the line end; raises ``NotSentError`` also when others can read it."""
    path = Path(file).expanduser()
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotSentError(f"the secret file {path} cannot be read: {type(error).__name__}") from error
    if mode & 0o077:
        raise NotSentError(f"the secret file {path} can be read by others (mode {mode & 0o777:04o}): make it 0600")
    secret = text.rstrip("\r\n")
    if not secret or len(secret) > _LONGEST or not secret.isprintable():
        raise NotSentError(f"the secret file {path} holds no line of text")
    return secret


def hidden(text: str, *secrets: str) -> str:
    """The text, which may be JSON, without these secrets: a target may repeat what it was sent."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, HIDDEN).replace(msgspec.json.encode(secret)[1:-1].decode(), HIDDEN)
    return text
