"""The clock: one place that asks the time, which a test can set for one process."""

import re
import time
from pathlib import Path

import pytest

from mesh import clock, faultpoints

ROOT = Path(__file__).parents[2]
OURS = ("mesh", "agents", "policy_service", "memory_service", "packs", "console")
# Sample systems are other systems, with clocks of their own; fault points tell the true time to whoever armed them;
# a scaffolded pack's desk is such a system.
OTHERS = ("mesh/clock.py", "mesh/faultpoints.py", "packs/retail/shop/", "packs/content/cms/")


def test_nobody_else_asks_what_time_it_is() -> None:
    asks = re.compile(r"\btime\.time(_ns)?\(|\bdatetime\.(now|utcnow|today)\(|\bdate\.today\(")
    found = [
        str(path.relative_to(ROOT))
        for folder in OURS
        for path in (ROOT / folder).rglob("*.py")
        if asks.search(path.read_text(encoding="utf-8"))
    ]
    assert [name for name in found if not name.startswith(OTHERS)] == []
    assert "mesh/clock.py" in found  # so the search finds what it looks for


def test_the_clock_jumps_when_the_file_comes_and_not_before(tmp_path: Path) -> None:
    since = tmp_path / "since"
    faultpoints.arm(f"clock=-3600@{since},elsewhere=kill")
    try:
        assert abs(clock.unix() - time.time()) < 1
        since.touch()
        assert clock.unix() - time.time() == pytest.approx(-3600, abs=1)
        assert clock.now().timestamp() == pytest.approx(clock.unix(), abs=1)
        assert clock.now().tzinfo is not None
    finally:
        faultpoints.arm(None)
    assert abs(clock.unix() - time.time()) < 1
