"""What processes cost: CPU seconds, resident memory now and at most, from Linux's /proc."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """One process: CPU seconds since its start, resident set now and at most in MB of 10^6 bytes."""

    cpu_s: float
    rss_mb: float
    peak_mb: float

    @classmethod
    def of(cls, pid: int) -> Self:
        """The usage of a process that runs (proc(5): stat fields 14 and 15, VmRSS and VmHWM of status in kB)."""
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        sizes = {"VmRSS": 0, "VmHWM": 0}
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
            name, _, rest = line.partition(":")
            if name in sizes:
                sizes[name] = int(rest.split()[0])
        cpu = (int(fields[11]) + int(fields[12])) / _TICKS
        return cls(cpu, round(sizes["VmRSS"] / 1000, 1), round(sizes["VmHWM"] / 1000, 1))


def usage(pids: Mapping[str, int]) -> dict[str, Usage]:
    """The usage of each of these processes."""
    return {name: Usage.of(pid) for name, pid in pids.items()}


def cpu_between(before: Mapping[str, Usage], after: Mapping[str, Usage]) -> dict[str, float]:
    """CPU seconds that each process took between two looks."""
    return {name: after[name].cpu_s - before[name].cpu_s for name in after if name in before}
