"""The supervisor: real processes that become ready, die, hang and are stopped."""

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from mesh.supervisor import Child, ChildSpec, ChildState, Supervisor
from tests.mesh.running_mesh import until

ROOT = Path(__file__).parents[2]
READY = "from mesh.notify import notify; notify('READY=1')\n"
WAIT = "import signal; signal.pause()\n"
STOPS = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: (print('stopped cleanly'), sys.exit(0)))\n"


def spec(folder: Path, name: str, program: str, *argv: str, **env: str) -> ChildSpec:
    """A child that runs this Python program."""
    return ChildSpec(
        name, (sys.executable, "-c", program, *argv), folder / f"{name}.log", {"PYTHONPATH": str(ROOT), **env}
    )


def gone(pid: int) -> bool:
    """Whether this process runs no more (a zombie does not run)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def states(supervisor: Supervisor) -> set[ChildState]:
    """The states that its children are in."""
    return {child.state for child in supervisor.children.values()}


async def state(child: Child, wanted: ChildState) -> None:
    """Wait until the child is in this state."""
    await until(lambda: child.state is wanted)


async def test_children_become_ready_are_stopped_cleanly_and_their_states_are_known(tmp_path: Path) -> None:
    specs = [spec(tmp_path, name, STOPS + READY + WAIT) for name in ("one", "two")]
    async with Supervisor(specs, tmp_path) as supervisor:
        one, two = supervisor.children.values()
        assert states(supervisor) == {ChildState.STARTING}
        await supervisor.wait_ready(15)
        assert states(supervisor) == {ChildState.READY}
        pids = one.pid, two.pid
        assert len({*pids, os.getpid()}) == 3
    assert all(gone(pid) for pid in pids)
    assert states(supervisor) == {ChildState.STOPPED}
    assert not one.ready.is_set() and one.pid == 0
    for each in specs:
        assert each.log_file.read_text() == "stopped cleanly\n"
        assert each.log_file.stat().st_mode & 0o777 == 0o600


async def test_a_child_is_ready_only_when_it_says_so(tmp_path: Path) -> None:
    async with Supervisor([spec(tmp_path, "mute", WAIT)], tmp_path) as supervisor:
        with pytest.raises(TimeoutError, match=r"not ready within 0\.3 s: mute \(starting\)"):
            await supervisor.wait_ready(0.3)


async def test_a_child_that_says_so_before_anybody_asked_is_ready(tmp_path: Path) -> None:
    notice = "s=socket.socket(1, 2); s.sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])"
    program = f'exec {sys.executable} -I -S -c "import os, signal, _socket as socket; {notice}; signal.pause()"'
    specs = [ChildSpec(f"c{n}", ("/bin/sh", "-c", program), tmp_path / f"c{n}.log") for n in range(5)]
    async with Supervisor(specs, tmp_path) as supervisor:
        await supervisor.wait_ready(15)


async def test_a_notice_from_a_stranger_makes_nobody_ready(tmp_path: Path) -> None:
    stranger = (
        "import os, subprocess, sys; subprocess.run([sys.executable, '-c', \"" + READY.strip() + '"], check=True)\n'
    )
    program = stranger + "print('told', flush=True)\n" + WAIT
    async with Supervisor([spec(tmp_path, "child", program)], tmp_path) as supervisor:
        child = supervisor.children["child"]
        await until(lambda: "told" in child.spec.log_file.read_text() if child.spec.log_file.exists() else False)
        with pytest.raises(TimeoutError):
            await supervisor.wait_ready(0.2)


async def test_a_child_that_dies_is_restarted_and_others_are_left_alone(tmp_path: Path) -> None:
    specs = [spec(tmp_path, name, READY + WAIT) for name in ("one", "two")]
    async with Supervisor(specs, tmp_path) as supervisor:
        await supervisor.wait_ready(15)
        one, two = supervisor.children.values()
        other = two.pid
        killed = supervisor.kill("one")
        assert not one.ready.is_set()
        await supervisor.wait_ready(15)
        assert gone(killed) and one.pid != killed
        assert (one.restarts, one.exit_code, two.restarts, two.pid) == (1, -signal.SIGKILL, 0, other)


async def test_restarts_back_off(tmp_path: Path) -> None:
    times = tmp_path / "times"
    program = f"import time; open({str(times)!r}, 'a').write(f'{{time.monotonic()}}\\n'); raise SystemExit(1)"
    async with Supervisor([spec(tmp_path, "dying", program)], tmp_path) as supervisor:
        child = supervisor.children["dying"]
        await until(lambda: child.restarts == 4)
        await state(child, ChildState.BACKING_OFF)
        starts = [float(line) for line in times.read_text().split()]
        assert (child.exit_code, child.pid) == (1, 0)
        gaps = [later - earlier for earlier, later in itertools.pairwise(starts)]
        assert gaps[0] >= 0.1 and gaps[1] >= 0.2 and gaps[2] >= 0.4
    assert child.state is ChildState.STOPPED


async def test_exit_code_2_is_final(tmp_path: Path) -> None:
    specs = [spec(tmp_path, "wrong", "raise SystemExit(2)"), spec(tmp_path, "right", READY + WAIT)]
    async with Supervisor(specs, tmp_path) as supervisor:
        wrong = supervisor.children["wrong"]
        await state(wrong, ChildState.FAILED)
        with pytest.raises(TimeoutError, match=r"wrong \(failed\)"):
            await supervisor.wait_ready(2)
        assert supervisor.children["right"].state is ChildState.READY
        assert (wrong.restarts, wrong.exit_code, supervisor.kill("wrong")) == (0, 2, 0)


async def test_a_child_that_does_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.supervisor._STOP_S", 0.2)
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    async with Supervisor(
        [spec(tmp_path, "deaf", deaf + READY + "while True: signal.pause()")], tmp_path
    ) as supervisor:
        await supervisor.wait_ready(15)
        pid = supervisor.children["deaf"].pid
    assert gone(pid)


async def test_a_program_that_is_not_there_is_an_error_and_leaves_no_child(tmp_path: Path) -> None:
    missing = ChildSpec("missing", (str(tmp_path / "nothing"),), tmp_path / "missing.log")
    other = spec(tmp_path, "other", READY + WAIT)
    with pytest.RaisesGroup(FileNotFoundError):
        async with Supervisor([other, missing], tmp_path) as supervisor:
            await asyncio.Event().wait()
    child = supervisor.children["other"]
    assert child.state in (ChildState.STOPPED, ChildState.STARTING) and child.pid == 0


async def test_a_child_that_does_not_stop_is_killed_after_a_failure_of_another_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.supervisor._STOP_S", 0.5)
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    program = tmp_path / "comes-and-goes"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o700)
    specs = [
        spec(tmp_path, "deaf", deaf + READY + "while True: signal.pause()"),
        ChildSpec("goes", (str(program),), tmp_path / "goes.log"),
    ]
    with pytest.RaisesGroup(FileNotFoundError):
        async with Supervisor(specs, tmp_path) as supervisor:
            child = supervisor.children["deaf"]
            await child.ready.wait()
            pid = child.pid
            program.unlink()
            await asyncio.Event().wait()
    assert gone(pid)


async def test_a_folder_too_deep_for_a_socket_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long for a socket"):
        async with Supervisor([], tmp_path / ("x" * 100)):
            pass


async def test_environment_and_output_are_the_childs_own(tmp_path: Path) -> None:
    program = "import os, sys; print(os.environ['COLOUR']); print('no', file=sys.stderr, flush=True)\n" + READY + WAIT
    specs = [spec(tmp_path, name, program, COLOUR=name) for name in ("red", "blue")]
    async with Supervisor(specs, tmp_path) as supervisor:
        await supervisor.wait_ready(15)
    assert {each.log_file.name: sorted(each.log_file.read_text().split()) for each in specs} == {
        "red.log": ["no", "red"],
        "blue.log": ["blue", "no"],
    }


SUPERVISE = """
import asyncio, sys
from pathlib import Path
from mesh.supervisor import Supervisor
from tests.mesh.test_supervisor import READY, WAIT, spec
async def main():
    folder = Path(sys.argv[1])
    async with Supervisor([spec(folder, name, READY + WAIT) for name in ("one", "two")], folder) as supervisor:
        await supervisor.wait_ready(15)
        print(*[child.pid for child in supervisor.children.values()], flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


async def started(folder: Path) -> tuple[asyncio.subprocess.Process, Sequence[int]]:
    """A supervisor in a process of its own, and the pids of its two children."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SUPERVISE, str(folder), stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    async with asyncio.timeout(15):
        while True:
            words = (await process.stdout.readline()).split()  # log lines come first: structlog is not configured
            if words and all(word.isdigit() for word in words):
                return process, [int(word) for word in words]


@pytest.mark.crash
async def test_children_die_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    process, pids = await started(tmp_path)
    assert len(pids) == 2 and not any(gone(pid) for pid in pids)
    process.kill()
    await process.wait()
    await until(lambda: all(gone(pid) for pid in pids))


async def test_a_supervisor_that_is_interrupted_stops_its_children(tmp_path: Path) -> None:
    process, pids = await started(tmp_path)
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(15):
        await process.wait()
    assert all(gone(pid) for pid in pids)
