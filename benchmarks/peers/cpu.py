"""CPU time of a tree of processes, and of the rest of the machine; from Linux's /proc (proc(5))."""

import os
import time
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
# Of the first line of /proc/stat: user, nice, system, irq, softirq, steal; not idle, not waiting for a disk.
_BUSY = (1, 2, 3, 6, 7, 8)


def tree_s(root: int) -> float:
    """Seconds that a process and all below it have used, with the children that have ended and were waited for."""
    used: dict[int, int] = {}
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                fields = (folder / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
            except OSError:
                continue  # it ended meanwhile
            used[int(folder.name)] = sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime
            children.setdefault(int(fields[1]), []).append(int(folder.name))
    total, waiting = 0, [root]
    while waiting:
        pid = waiting.pop()
        total += used.get(pid, 0)
        waiting += children.get(pid, [])
    return total / _TICKS


class Others:
    """What the rest of the machine does meanwhile: the busy time of all cores, less that of our own tree."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._before = self._used()

    def cores(self) -> float:
        """Cores in use by others since this was made, on average."""
        return max(self._used() - self._before, 0.0) / (time.monotonic() - self._started)

    def _used(self) -> float:
        fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()
        return sum(int(fields[number]) for number in _BUSY) / _TICKS - tree_s(os.getpid())
