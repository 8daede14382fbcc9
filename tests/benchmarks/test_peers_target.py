"""The target of the comparison, over real HTTP, and what drives and kills its callers."""

import asyncio
import json
import os
import pwd
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from benchmarks.peers import client
from benchmarks.peers.measure import TargetClient
from benchmarks.peers.processes import ROOT, Process, as_user, reachable, read_report, running
from mesh.ports import free_port

CALLER = """
import sys, urllib.request
for number in range(3):
    body = b'{"task": "task-%d"}' % number
    urllib.request.urlopen(urllib.request.Request(sys.argv[1], body, {"Idempotency-Key": f"task-{number}"})).read()
"""


@asynccontextmanager
async def served(folder: Path, *flags: str) -> AsyncIterator[httpx2.AsyncClient]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "benchmarks.peers.target", f"--port={port}", *flags]
    async with running(Process(command, folder / "target.log"), lambda: reachable(f"{url}/state")):
        async with httpx2.AsyncClient(base_url=url, timeout=10) as http:
            yield http


async def post(http: httpx2.AsyncClient, task: str) -> int:
    answer = await http.post("/effects", json={"task": task}, headers={"Idempotency-Key": task})
    return int(answer.raise_for_status().json()["number"])


async def test_without_keys_every_call_takes_effect_and_the_target_may_still_be_asked(tmp_path: Path) -> None:
    async with served(tmp_path) as http:
        assert [await post(http, task) for task in ("a", "b", "a")] == [1, 2, 3]
        assert await TargetClient(http).effects() == ["a", "b", "a"]
        assert (await http.get("/effects/a")).json() == {"number": 1}
        assert (await http.get("/effects/c")).status_code == 404


async def test_with_keys_a_call_that_came_before_is_answered_and_not_done_again(tmp_path: Path) -> None:
    async with served(tmp_path, "--keys") as http:
        assert [await post(http, task) for task in ("a", "b", "a")] == [1, 2, 1]
        assert await TargetClient(http).effects() == ["a", "b"]


async def test_answers_are_withheld_after_the_effect_until_they_are_released(tmp_path: Path) -> None:
    async with served(tmp_path) as http, asyncio.TaskGroup() as group:
        target = TargetClient(http)
        await target.hold(2)
        assert await post(http, "a") == 1
        calls = [group.create_task(post(http, task)) for task in ("b", "c")]
        await target.until_held(2)
        assert sorted(await target.effects()) == ["a", "b", "c"]
        assert not any(call.done() for call in calls)
        assert sorted(await target.release()) == ["b", "c"]
        assert sorted([await call for call in calls]) == [2, 3]
        assert await post(http, "d") == 4


async def test_a_caller_killed_while_its_answer_is_withheld_has_had_its_effect(tmp_path: Path) -> None:
    async with served(tmp_path) as http:
        target = TargetClient(http)
        await target.hold(2)
        caller = Process([sys.executable, "-c", CALLER, f"{http.base_url}/effects"], tmp_path / "caller.log")
        await caller.start()
        await target.until_held(1)
        await caller.kill()
        assert await target.release() == ["task-1"]
        assert await target.effects() == ["task-0", "task-1"]
        await caller.start()
        assert await caller.ended() == 0
        assert await target.effects() == ["task-0", "task-1", "task-0", "task-1", "task-2"]


PARENT = """
import asyncio, pathlib, sys
from benchmarks.peers.processes import Process
async def main():
    child = Process([sys.executable, "-c", "import time; time.sleep(60)"], pathlib.Path(sys.argv[1]))
    await child.start()
    print(child.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_a_child_does_not_outlive_a_driver_that_is_killed(tmp_path: Path) -> None:
    driver = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT, str(tmp_path / "log")), stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert driver.stdout is not None
    child = int(await driver.stdout.readline())
    os.kill(child, 0)
    driver.kill()
    await driver.wait()
    async with asyncio.timeout(10):
        while _runs(child):  # noqa: ASYNC110 - a process of another parent gives no event
            await asyncio.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_a_process_that_ends_before_it_is_ready_says_what_it_printed(tmp_path: Path) -> None:
    process = Process([sys.executable, "-c", "raise SystemExit('no licence')"], tmp_path / "log")

    async def never() -> bool:
        return False

    with pytest.raises(RuntimeError, match="no licence"):
        async with running(process, never):
            pass


async def test_a_worker_that_ends_without_its_report_is_a_failure(tmp_path: Path) -> None:
    process = Process([sys.executable, "-c", "print('out of memory')"], tmp_path / "log")
    await process.start()
    with pytest.raises(RuntimeError, match="out of memory"):
        await read_report(process, tmp_path / "report.json")


async def test_a_server_that_refuses_root_runs_as_another_user_with_nothing_of_roots() -> None:
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    options = as_user("nobody" if os.geteuid() == 0 else None)
    said = []
    for flag in ("-u", "-g", "-G"):
        child = await asyncio.create_subprocess_exec("id", flag, stdout=asyncio.subprocess.PIPE, **options)
        said.append((await child.communicate())[0].decode().split())
    assert said[0] == [str(user.pw_uid)]
    if os.geteuid() == 0:
        assert said[1:] == [[str(user.pw_gid)], [str(user.pw_gid)]]


async def test_the_driver_keeps_to_what_may_be_in_flight_and_reports_what_failed(tmp_path: Path) -> None:
    at_once, most = 0, 0

    async def run(task: str) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        at_once -= 1
        if task == "3":
            raise OSError("no route")

    async def settings() -> dict[str, str]:
        return {"synchronous": "2"}

    file = tmp_path / "report.json"
    given = ["--target=http://x", f"--report={file}", "--tasks=10", "--warm=2", "--in-flight=4"]
    await client.drive(client.arguments().parse_args(given), run, settings)
    report = json.loads(file.read_text())
    assert most == 4
    assert (tmp_path / "report.started").exists()
    assert len(report["latencies_ms"]) == 9 and "3" not in report["ended"]
    assert report["errors"] == ["3: OSError('no route')"]
    assert report["settings"] == {"synchronous": "2"}
