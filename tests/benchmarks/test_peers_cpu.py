"""CPU time of a tree of processes."""

import asyncio
import os
import sys
import time

from benchmarks.peers import cpu

BURN = "import time\nwhile time.process_time() < 0.5: pass\n"
GRANDCHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}])"


async def test_children_and_theirs_count_while_they_run_and_when_they_have_ended() -> None:
    before = cpu.tree_s(os.getpid())
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", GRANDCHILD)
    async with asyncio.timeout(15):
        while cpu.tree_s(os.getpid()) - before < 0.3:  # noqa: ASYNC110 - CPU time gives no event
            await asyncio.sleep(0.02)
    assert child.returncode is None
    await child.wait()
    assert cpu.tree_s(os.getpid()) - before >= 0.5


def test_our_own_work_is_not_that_of_others() -> None:
    others = cpu.Others()
    started = time.process_time()
    while time.process_time() - started < 0.3:
        pass
    assert 0 <= others.cores() <= (os.cpu_count() or 1)
