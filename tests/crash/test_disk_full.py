"""A disk that another program fills: commits wait with a clear error, and go on by themselves when there is room."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_full_disk_loses_nothing_and_recovers_by_itself(tmp_path: Path) -> None:
    private = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    done = subprocess.run(
        [*private, sys.executable, "-m", "tests.crash.disk_full", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["while_full"] < said["committed"] == said["stored"] == 3000
    errors = [json.loads(line) for line in done.stderr.splitlines() if line.startswith(b"{")]
    assert any(error["event"] == "bus_full" and "make room" in error["reason"] for error in errors)
    assert any(error["event"] == "bus_restarted_with_more_room" for error in errors)
