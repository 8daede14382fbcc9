"""Run in a mount namespace of its own: commits on a small disk that another program fills, then leaves.

Usage: ``python -m tests.crash.disk_full FOLDER``. Prints one JSON object.
"""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from console.up import with_state_dir
from mesh import logs, subjects
from mesh.bus import Bus, connect
from mesh.embedded import EmbeddedNats
from mesh.journal import Committer, Message, committing
from mesh.lifetime import background
from mesh.operator import operating
from mesh.settings import load
from mesh.site import Site
from mesh.watch import watch

RECORDS = 3000
DISK_MB = 48


async def main(folder: Path) -> None:
    settings = with_state_dir(load(None, {}), folder / "site")
    logs.configure(settings.log, role="test", instance="disk-full")
    site = Site(settings)
    async with EmbeddedNats(settings.state_dir / "nats", site.users()) as server:
        await site.bootstrap(server.url)
        async with (
            operating(settings) as operator,
            background(watch(server, operator), "watch"),
            connect(server.url, name="policy", options=site.identity("policy").nats_options()) as bus,
            committing(bus) as committer,
        ):
            await fill_and_free(folder, committer, operator)


async def fill_and_free(folder: Path, committer: Committer, operator: Bus) -> None:
    done: list[int] = []

    async def commit(number: int) -> None:
        await committer.commit([Message(f"task.decision.retail.t{number}.-", b"x" * 4000)])
        done.append(number)

    await asyncio.gather(*(commit(number) for number in range(500)))
    filler = folder / "filler"
    with filler.open("wb") as file:
        try:
            while True:
                file.write(b"\0" * 65536)
        except OSError:
            pass  # the disk is full now
    tasks = [asyncio.create_task(commit(number)) for number in range(500, RECORDS)]
    await asyncio.wait(tasks, timeout=5)
    while_full = len(done)
    filler.unlink()
    await asyncio.wait_for(asyncio.gather(*tasks), 40)
    stored, seq = 0, 1
    while page := await operator.read(subjects.JOURNAL, seq, 256, "task.>"):
        stored += len(page)
        seq = page[-1].seq + 1
    sys.stdout.write(json.dumps({"while_full": while_full, "committed": len(done), "stored": stored}) + "\n")


if __name__ == "__main__":
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", sys.argv[1]], check=True)
    asyncio.run(main(Path(sys.argv[1])))
