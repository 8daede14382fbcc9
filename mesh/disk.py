"""How full the disk of a process's state is, asked when somebody scrapes: nothing runs for it."""

import shutil
from pathlib import Path

from mesh import metrics


def show_disk(folder: Path) -> None:
    """Have the two gauges tell of the disk that this folder is on."""

    def free() -> float:
        return _usage(folder)[0]

    def size() -> float:
        return _usage(folder)[1]

    metrics.DISK_FREE.set_function(free)
    metrics.DISK_SIZE.set_function(size)


def _usage(folder: Path) -> tuple[float, float]:
    """Free and all bytes; no number where the folder is gone, for a scrape has to answer."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return float("nan"), float("nan")
    return float(usage.free), float(usage.total)
