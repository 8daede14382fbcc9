"""The ledger: a small business system over HTTP, with a log of every effect, so that a repeated one can be counted.

It honours ``Idempotency-Key`` for ``post``, ``note`` and ``reverse`` alone; of a ``transfer`` it only keeps the key,
and a ``wire`` it cannot be asked about. It refuses calls after their ``Request-Deadline``.
"""

import argparse
import asyncio
import sqlite3
import time
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from mesh.notify import notify

IDEMPOTENT = ("post", "note", "reverse")
LIMIT = 1_000_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS applied (
    seq INTEGER PRIMARY KEY, key TEXT NOT NULL, kind TEXT NOT NULL, account TEXT NOT NULL, amount INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS called (key TEXT NOT NULL, kind TEXT NOT NULL, traceparent TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS frozen (account TEXT PRIMARY KEY);
"""


def open_ledger(path: Path) -> sqlite3.Connection:
    """The ledger's own file, fully synced."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.executescript(_SCHEMA)
    return database


class Ledger:
    """The routes. A file ``<kind>.hold`` beside the database holds answers back, after the effect, until it is gone."""

    def __init__(self, path: Path) -> None:
        self._database = open_ledger(path)
        self._folder = path.parent

    def app(self) -> Starlette:
        """The HTTP application."""
        return Starlette(
            routes=[
                Route("/entries/{kind}", self.enter, methods=["POST"]),
                Route("/keys/{key}", self.by_key),
                Route("/accounts/{account}", self.account),
            ]
        )

    async def enter(self, request: Request) -> JSONResponse:
        """Apply one entry: 200, or 422 for what the ledger refuses, or 409 for a call that comes too late."""
        kind, key = request.path_params["kind"], request.headers.get("idempotency-key", "")
        body = await request.json()
        trace = request.headers.get("traceparent", "")
        self._database.execute("INSERT INTO called VALUES (?, ?, ?)", (key, kind, trace))
        if time.time() >= float(request.headers["request-deadline"]):
            return JSONResponse({"error": "deadline_passed"}, 409)
        if body["amount"] > LIMIT or self._is_frozen(body["account"]):
            return JSONResponse({"error": "refused"}, 422)
        seq = self._seq(key) if kind in IDEMPOTENT else None
        if seq is None:
            seq = self._database.execute(
                "INSERT INTO applied (key, kind, account, amount) VALUES (?, ?, ?, ?)",
                (key, kind, body["account"], body["amount"]),
            ).lastrowid
        while (self._folder / f"{kind}.hold").exists():  # noqa: ASYNC110 - the test's file sets no event here
            await asyncio.sleep(0.02)
        return JSONResponse({"seq": seq})

    async def by_key(self, request: Request) -> JSONResponse:
        """What took effect under a key."""
        seq = self._seq(request.path_params["key"])
        return JSONResponse({"seq": seq}, 200 if seq is not None else 404)

    async def account(self, request: Request) -> JSONResponse:
        """Whether an account is frozen, and what moved on it."""
        account = request.path_params["account"]
        (balance,) = self._database.execute(
            "SELECT coalesce(sum(amount), 0) FROM applied WHERE account = ?", (account,)
        ).fetchone()
        return JSONResponse({"frozen": self._is_frozen(account), "balance": balance})

    def _seq(self, key: str) -> int | None:
        row = self._database.execute("SELECT seq FROM applied WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def _is_frozen(self, account: str) -> bool:
        return self._database.execute("SELECT 1 FROM frozen WHERE account = ?", (account,)).fetchone() is not None


class _Server(uvicorn.Server):
    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        notify("READY=1")


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--db", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    args = parser.parse_args()
    app = Ledger(args.db).app()
    config = uvicorn.Config(app, host="127.0.0.1", port=args.port, log_level="warning", timeout_graceful_shutdown=1)
    _Server(config).run()


if __name__ == "__main__":
    main()
