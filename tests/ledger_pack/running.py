"""Processes of a test's site, and waiting for what they do."""

import asyncio
import importlib
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.supervisor import Child

INSTALLED = Path(__file__).parent / "installed"
# Generous: the machine of the tests does other things too.
WAIT_S = float(os.environ.get("WORLD_WAIT_S", "90"))


async def until(condition: Callable[[], Awaitable[bool] | bool], timeout_s: float = WAIT_S) -> None:
    """Wait for a condition of other processes; raises ``TimeoutError``."""
    async with asyncio.timeout(timeout_s):
        while True:
            found = condition()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.03)


@contextmanager
def installed() -> Iterator[None]:
    """The ledger pack installed in this process too."""
    sys.path.insert(0, str(INSTALLED))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(INSTALLED))
        importlib.invalidate_caches()


@dataclass(frozen=True)
class Running:
    """A supervised process of the site."""

    child: Child

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.child.pid, number)

    async def died(self, times: int = 1) -> None:
        """Wait until it has died so often and is ready again."""
        await until(lambda: self.child.restarts >= times)
        async with asyncio.timeout(WAIT_S):
            await self.child.ready.wait()

    async def kill(self) -> None:
        """SIGKILL, and wait until it is ready again."""
        times = self.child.restarts + 1
        self.child.ready.clear()
        self.signal(signal.SIGKILL)
        await self.died(times)

    async def stopped(self) -> None:
        """Wait until a fault point has stopped it."""
        stat = Path(f"/proc/{self.child.pid}/stat")
        await until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")

    def log(self) -> list[dict[str, Any]]:
        """What it logged, in all its lives."""
        lines = self.child.spec.log_file.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]
