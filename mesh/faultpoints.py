"""Named points where a test may kill, stop or hold a process. Nothing but a test setting arms one.

The rule: with ``WORKMESH_FAULTPOINT`` unset a point costs one dictionary look-up and does nothing.
"""

import asyncio
import os
import signal
import time
from pathlib import Path

from mesh import clock

VARIABLE = "WORKMESH_FAULTPOINT"

_armed: dict[str, str] = {}
_reached: dict[str, int] = {}


def arm(spec: str | None) -> None:
    """Arm from ``<point>=<action>`` parts joined by commas.

    ``kill`` sends SIGKILL to the own process, ``stop`` SIGSTOP; ``hold:<file>`` waits until the file exists. With
    ``@<file>`` behind it an action runs once: it writes the time into that file first, and is passed over when it is
    there. With ``#<n>`` before that it runs from the nth time on that this process reaches the point.

    ``clock=<seconds>@<file>`` is no point: the clock of this process jumps by so much when the file is there.
    """
    _armed.clear()
    _reached.clear()
    clock.unshift()
    for part in filter(None, (spec or "").split(",")):
        point, _, action = part.partition("=")
        if point == "clock":
            seconds, _, since = action.partition("@")
            clock.shift(float(seconds), Path(since))
        else:
            _armed[point] = action


async def reach(point: str) -> None:
    """Do what is armed at this point."""
    action = _armed.get(point)
    if action is None:
        return
    action, _, once = action.partition("@")
    action, _, nth = action.partition("#")
    _reached[point] = _reached.get(point, 0) + 1
    if nth and _reached[point] < int(nth):
        return
    if once:
        try:
            descriptor = os.open(once, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            return
        os.write(descriptor, repr(time.time()).encode())  # the true time: whoever armed it reads this
        os.close(descriptor)
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif action.startswith("hold:"):
        await asyncio.to_thread(_wait_for, Path(action.removeprefix("hold:")))


def _wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.02)
