"""How often the disk was asked to make things durable: the kernel's count of calls, and the disk's of flushes."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

FLUSHES = 15  # field of /sys/dev/block/*/stat: flush requests completed (Documentation/block/stat.rst)
TRACED = "fsync,fdatasync,sync_file_range,msync"


def disk_flushes(folder: Path) -> int | None:
    """Flushes of the disk below a folder since boot, whoever asked; None when it is on no disk, as on tmpfs."""
    device = folder.stat().st_dev
    stat = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
    try:
        return int(stat.read_text(encoding="ascii").split()[FLUSHES])
    except (OSError, IndexError):
        return None


class Calls:
    """What strace counted; None without strace, or when it may not attach."""

    count: int | None = None


@contextlib.asynccontextmanager
async def counted(pid: int, file: Path) -> AsyncIterator[Calls]:
    """Count the calls of a process and its children that sync files; what it prints goes to ``file``."""
    calls = Calls()
    strace = shutil.which("strace")
    if strace is None:
        yield calls
        return
    process = await asyncio.create_subprocess_exec(
        *(strace, "-f", "-c", "-e", f"trace={TRACED}", "-o", str(file), "-p", str(pid)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield calls
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        await process.wait()
    calls.count = _read_calls(file)


def _read_calls(file: Path) -> int | None:
    """None when strace could not attach: then it leaves no table."""
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    return parse_calls(text) if text else None


def parse_calls(table: str) -> int:
    """The calls in the table that ``strace -c`` prints: time, seconds, microseconds a call, calls, errors, name."""
    rows = (re.fullmatch(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)", line) for line in table.splitlines())
    return sum(int(row[1]) for row in rows if row and row[2] in TRACED.split(","))
