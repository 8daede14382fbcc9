"""Who is signed in: sessions in a file of the process's own, bounded in number and life.

The rule: the file holds hashes; a session is worth nothing once its person or its token is not trusted any more.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from mesh.checkpoint import open_database
from mesh.clock import unix

BY_PROXY = "proxy"
"""In the place of a token's id, for one who came by the proxy."""

_OF_ALL, _OF_ONE = 10_000, 20
_SCHEMA = """
CREATE TABLE IF NOT EXISTS session (
    hash TEXT PRIMARY KEY, person TEXT NOT NULL, token TEXT NOT NULL, csrf TEXT NOT NULL, until REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS by_person ON session (person, until);
"""


@dataclass(frozen=True, slots=True)
class Session:
    """One sign-in. ``csrf`` must come with whatever changes something."""

    person: str
    token: str
    csrf: str


class Sessions:
    """The sessions in force."""

    def __init__(self, path: Path, lasts_s: float, clock: Callable[[], float] = unix) -> None:
        self._database = open_database(path, _SCHEMA)
        self._lasts_s = lasts_s
        self._clock = clock

    def open(self, person: str, token: str) -> tuple[str, Session]:
        """A new session: its secret, for the cookie, and what it is. The oldest make room."""
        secret, made = secrets.token_urlsafe(32), Session(person, token, secrets.token_urlsafe(32))
        until = self._clock() + self._lasts_s
        self._database.execute("DELETE FROM session WHERE until < ?", (self._clock(),))
        self._database.execute(
            "INSERT INTO session VALUES (?, ?, ?, ?, ?)", (_hash(secret), person, token, made.csrf, until)
        )
        self._bound("person = ?", (person,), _OF_ONE)
        self._bound("1", (), _OF_ALL)
        return secret, made

    def find(self, secret: str) -> Session | None:
        """The session of a cookie, if it is in force."""
        query = "SELECT person, token, csrf FROM session WHERE hash = ? AND until > ?"
        row = self._database.execute(query, (_hash(secret), self._clock())).fetchone()
        return Session(*row) if row else None

    def end(self, secret: str) -> None:
        """Forget a session."""
        self._database.execute("DELETE FROM session WHERE hash = ?", (_hash(secret),))

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _bound(self, where: str, values: tuple[str, ...], most: int) -> None:
        chosen = f"SELECT hash FROM session WHERE {where} ORDER BY until DESC LIMIT -1 OFFSET {most}"
        self._database.execute(f"DELETE FROM session WHERE hash IN ({chosen})", values)


def _hash(secret: str) -> str:
    return sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


class Attempts:
    """Bounds wrong tokens, of one address and of all: in a minute, at most so many."""

    _WINDOW_S = 60.0
    _OF_ONE, _OF_ALL = 10, 300

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wrong: list[tuple[float, str]] = []

    def wait_s(self, address: str) -> int:
        """How long this address must wait before it may try again; 0 is not at all."""
        start = self._clock() - self._WINDOW_S
        self._wrong = [each for each in self._wrong if each[0] > start]
        own = [at for at, who in self._wrong if who == address]
        for times, most in ((own, self._OF_ONE), ([at for at, _ in self._wrong], self._OF_ALL)):
            if len(times) >= most:
                return max(1, int(times[0] - start) + 1)
        return 0

    def failed(self, address: str) -> None:
        """Count a wrong token."""
        self._wrong.append((self._clock(), address))
