"""The business system of the comparison: ``POST /effects`` takes effect at once and is counted.

Its log is in memory, for every engine alike, so that its own disk weighs on none of them; it outlives the processes
that are killed. After ``POST /hold`` it withholds its answers, so that the caller stands between effect and record.
"""

import argparse
import asyncio
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


class Target:
    """The routes. Only with ``keys`` is a key that came before answered and not done again.

    The key is the header ``Idempotency-Key``, or ``key`` in the body.
    """

    def __init__(self, *, keys: bool) -> None:
        self._keys = keys
        self._effects: list[tuple[str, str]] = []  # task and key, in order
        self._numbers: dict[str, int] = {}  # the first effect under each key
        self._open = asyncio.Event()
        self._open.set()
        self._hold_at: int | None = None
        self._held: list[str] = []

    def app(self) -> Starlette:
        """The HTTP application."""
        return Starlette(
            routes=[
                Route("/effects", self.take, methods=["POST"]),
                Route("/effects", self.effects, methods=["GET"]),
                Route("/effects/{key:path}", self.of_key, methods=["GET"]),
                Route("/hold", self.hold, methods=["POST"]),
                Route("/release", self.release, methods=["POST"]),
                Route("/state", self.state, methods=["GET"]),
            ]
        )

    async def take(self, request: Request) -> JSONResponse:
        """One effect, numbered from 1."""
        body = await request.json()
        task, key = str(body["task"]), request.headers.get("idempotency-key") or str(body.get("key", ""))
        number = self._numbers.get(key) if self._keys and key else None
        if number is None:
            self._effects.append((task, key))
            number = len(self._effects)
            self._numbers.setdefault(key, number)
            if self._hold_at is not None and number >= self._hold_at:
                self._hold_at = None
                self._open.clear()
        if not self._open.is_set():
            self._held.append(task)
            await self._open.wait()
        return JSONResponse({"number": number})

    async def effects(self, request: Request) -> JSONResponse:
        """The tasks of all effects, in order."""
        return JSONResponse([task for task, _ in self._effects])

    async def of_key(self, request: Request) -> JSONResponse:
        """The number of the first effect under a key, or 404: a target that honours no keys may still be asked."""
        number = self._numbers.get(request.path_params["key"])
        return JSONResponse({"number": number}, 200 if number is not None else 404)

    async def hold(self, request: Request) -> JSONResponse:
        """Withhold answers from the effect with the number ``at`` on."""
        self._hold_at = int((await request.json())["at"])
        self._held = []
        return JSONResponse({})

    async def release(self, request: Request) -> JSONResponse:
        """Answer again; says whose answers were withheld."""
        held, self._held = self._held, []
        self._hold_at = None
        self._open.set()
        return JSONResponse(held)

    async def state(self, request: Request) -> JSONResponse:
        """How many effects there are, and how many answers are withheld."""
        return JSONResponse({"effects": len(self._effects), "held": len(self._held)})


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--keys", action="store_true")
    args = parser.parse_args()
    options: dict[str, Any] = {"log_level": "warning", "timeout_graceful_shutdown": 1}
    uvicorn.run(Target(keys=args.keys).app(), host="127.0.0.1", port=args.port, **options)


if __name__ == "__main__":
    main()
