"""Fault points: nothing unless armed, and each action once where it is asked to be."""

import asyncio
import signal
import sys
import time
from pathlib import Path

import pytest

from mesh import faultpoints

ROOT = Path(__file__).parents[2]
PROGRAM = """
import asyncio, sys
from mesh import faultpoints
faultpoints.arm(sys.argv[1])
asyncio.run(faultpoints.reach("here"))
"""


async def run(spec: str) -> int:
    """The exit code of a process that reaches ``here`` with this armed."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, spec, cwd=ROOT)
    return await process.wait()


@pytest.fixture(autouse=True)
def disarmed() -> None:
    """Arm nothing beforehand."""
    faultpoints.arm(None)


async def test_a_point_that_is_not_armed_does_nothing() -> None:
    faultpoints.arm("elsewhere=kill")
    await faultpoints.reach("here")


async def test_kill_ends_the_process_at_the_point() -> None:
    assert await run("elsewhere=stop,here=kill") == -signal.SIGKILL


async def test_with_a_file_it_happens_once(tmp_path: Path) -> None:
    spec = f"here=kill@{tmp_path / 'once'}"
    assert [await run(spec), await run(spec)] == [-signal.SIGKILL, 0]


async def test_the_file_holds_the_time_at_which_the_point_was_reached(tmp_path: Path) -> None:
    before = time.time()
    assert await run(f"here=kill@{tmp_path / 'once'}") == -signal.SIGKILL
    assert before <= float((tmp_path / "once").read_text()) <= time.time()


async def test_with_a_number_it_happens_from_that_time_on(tmp_path: Path) -> None:
    mark = tmp_path / "once"
    faultpoints.arm(f"here=hold:{mark}#3@{mark}")  # the file that says that it was reached also lets it go on
    for _ in range(2):
        await faultpoints.reach("here")
    assert not mark.exists()
    await faultpoints.reach("here")
    assert mark.exists()


async def test_hold_waits_for_its_file_while_everything_else_goes_on(tmp_path: Path) -> None:
    faultpoints.arm(f"here=hold:{tmp_path / 'go'}")
    held = asyncio.create_task(faultpoints.reach("here"))
    done, _ = await asyncio.wait([held], timeout=0.05)
    assert not done
    (tmp_path / "go").touch()
    await held
