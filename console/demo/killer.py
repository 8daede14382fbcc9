"""Kills a random process of the site with SIGKILL every one to two seconds, and knows when each came back."""

import asyncio
import os
import random
import signal
from dataclasses import dataclass
from datetime import datetime

import structlog

from console.up import Running
from mesh.clock import now

log = structlog.get_logger(__name__)

NATS = "nats-server"
_PAUSE_S = (1.0, 2.0)


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill: whom and when."""

    name: str
    at: datetime


class Killer:
    """Draws victims and pauses from a seed: the same seed draws the same ones."""

    def __init__(self, site: Running, seed: int) -> None:
        self._site = site
        self._random = random.Random(seed)
        self.kills: list[Kill] = []

    async def run(self) -> None:
        """Kill until cancelled."""
        names = sorted([*self._site.supervisor.children, NATS])
        while True:
            await asyncio.sleep(self._random.uniform(*_PAUSE_S))
            name = self._random.choice(names)
            if self._kill(name):
                self.kills.append(Kill(name, now()))
                log.info("killed", victim=name)

    def _kill(self, name: str) -> bool:
        if name != NATS:
            return bool(self._site.supervisor.kill(name))
        server = self._site.server
        if server is None or not server.pid:
            return False
        try:
            os.kill(server.pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True


def recovery_times(kills: list[Kill], spans: list[tuple[datetime, datetime]]) -> list[float]:
    """Seconds from each kill until the last task that was under way then had its outcome.

    ``spans`` are (accepted, ended) of tasks that no person held up. A kill that met no task counts as 0.
    """
    found = []
    for kill in kills:
        ends = [ended for accepted, ended in spans if accepted <= kill.at < ended]
        found.append(max((end - kill.at).total_seconds() for end in ends) if ends else 0.0)
    return found
