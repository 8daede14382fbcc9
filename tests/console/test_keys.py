"""A stolen key of a process: cut off from trust and bus within moments, and the role works on with a new one."""

import asyncio
import gc
import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from mesh.bus import Bus, connect
from mesh.errors import BusUnavailableError
from mesh.identity import Identity
from tests.console.conftest import WORKMESH, Workmesh
from tests.console.test_up import SAMPLE, wait_for
from tests.mesh.running_mesh import until

# nats-py does not close the socket of a connection that the server refuses; it is closed when it is collected.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(150), pytest.mark.filterwarnings("ignore::ResourceWarning")]


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Have the refused connections collected while their warnings are expected."""
    yield
    gc.collect()


@contextmanager
def up(workmesh: Workmesh, folder: Path) -> Iterator[None]:
    """A site with the retail shop."""
    with (folder / "up.log").open("ab") as log:
        process = subprocess.Popen(
            [str(WORKMESH), "up", "--with", "retail"], env=workmesh.env, stdout=subprocess.PIPE, stderr=log
        )
    assert process.stdout is not None
    try:
        assert b"workmesh is up" in process.stdout.readline()
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        process.stdout.close()


@pytest.fixture
def site(workmesh: Workmesh, tmp_path: Path) -> Iterator[None]:
    with up(workmesh, tmp_path):
        yield


class Thief:
    """A client with a copy of a role's key."""

    def __init__(self, workmesh: Workmesh, folder: Path, role: str) -> None:
        self.state = Path(workmesh.env["WORKMESH_STATE_DIR"])
        folder.mkdir(exist_ok=True)
        self.path = Path(shutil.copy2(self.state / "keys" / f"{role}.nk", folder / f"{role}.nk"))
        self.key = Identity.load(self.path).public_key

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Bus]:
        """A connection with the stolen key, which does all to come back; raises ``BusUnavailableError``."""
        port = (self.state / "nats" / "port").read_text().strip()
        options = Identity.load(self.path).nats_options()
        async with connect(f"nats://127.0.0.1:{port}", name="thief", options=options, connect_timeout_s=2) as bus:
            yield bus

    async def is_kept_out(self) -> None:
        """A new connection is refused."""
        with pytest.raises(BusUnavailableError, match=r"(?i)authorization"):
            async with self.connected():
                pytest.fail("it is in")


async def is_thrown_out(bus: Bus) -> None:
    """Wait until a connection is lost, and see that it does not come back."""
    await until(lambda: not bus.is_connected)
    with pytest.raises(BusUnavailableError):
        await bus.wait_connected(1.5)


def publish(workmesh: Workmesh, folder: Path, start: int, count: int = 1) -> None:
    """Publish events of the sample."""
    path = folder / f"events-{start}.jsonl"
    path.write_text("".join(SAMPLE.read_text().splitlines(keepends=True)[start : start + count]))
    workmesh.run("publish", str(path))


def ended(workmesh: Workmesh, count: int) -> list[dict[str, Any]]:
    """Wait until so many tasks have ended."""
    final = ("completed", "denied", "refused", "failed", "waiting", "expired")
    found: list[dict[str, Any]] = wait_for(
        lambda: [line for line in workmesh.json("tasks", "list") if line["state"] in final],
        lambda lines: len(lines) >= count,
    )
    return found


@pytest.mark.parametrize("role", ["executor", "policy", "operator"])
def test_a_stolen_key_is_cut_off_and_the_role_works_on_with_a_new_one(
    workmesh: Workmesh, site: None, tmp_path: Path, role: str
) -> None:
    thief = Thief(workmesh, tmp_path / "stolen", role)

    async def steal() -> None:
        async with thief.connected() as bus:
            said = await asyncio.to_thread(workmesh.run, "keys", "rotate", role)
            assert thief.key in said
            await is_thrown_out(bus)
        await thief.is_kept_out()

    publish(workmesh, tmp_path, 0, 3)
    ended(workmesh, 3)
    asyncio.run(steal())
    publish(workmesh, tmp_path, 3, 5)
    ended(workmesh, 8)
    trusted = {entry["name"]: entry for entry in workmesh.json("keys", "list")}
    assert trusted[role]["public_key"] != thief.key and trusted[role]["revoked_at"] is None
    assert trusted[f"{role}_{thief.key[:16]}"]["revoked_at"] is not None
    folder = Path(workmesh.env["WORKMESH_STATE_DIR"]) / "keys"
    assert Identity.load(folder / f"{role}.nk").public_key == trusted[role]["public_key"]
    assert not any(path.read_bytes() == thief.path.read_bytes() for path in folder.iterdir())


def test_what_the_old_policy_key_permitted_is_refused(workmesh: Workmesh, site: None, tmp_path: Path) -> None:
    people = tmp_path / "people"
    public = workmesh.run("keys", "new", "olga", "--dir", str(people)).split()[-1]
    workmesh.run("keys", "enroll", "olga", "--public-key", public, "--role", "operator")
    workmesh.json("pause", "--agent", "executor")
    publish(workmesh, tmp_path, 0, 6)
    held = wait_for(
        lambda: [line for line in workmesh.json("tasks", "list") if line["state"] == "permitted"],
        lambda lines: len(lines) >= 2,
    )
    workmesh.run("keys", "rotate", "policy")
    workmesh.run("resume", "--agent", "executor", "--key", str(people / "olga.nk"))
    for line in held:
        found = wait_for(
            lambda task=line["task_id"]: next(
                each for each in workmesh.json("tasks", "list") if each["task_id"] == task
            ),
            lambda each: each["state"] not in ("permitted", "acting"),
        )
        assert found["state"] == "refused"
        assert "signature is refused" in found["reason"] and "was revoked at" in found["reason"]


def test_a_revoked_role_has_no_bus_until_it_has_a_new_key(workmesh: Workmesh, tmp_path: Path) -> None:
    with up(workmesh, tmp_path):
        thief = Thief(workmesh, tmp_path / "stolen", "learner")

        async def steal() -> None:
            async with thief.connected() as bus:
                await asyncio.to_thread(workmesh.run, "keys", "revoke", "learner")
                await is_thrown_out(bus)

        asyncio.run(steal())
    with up(workmesh, tmp_path):
        log = (tmp_path / "up.log").read_text()
        assert "role_not_started" in log and "keys rotate learner" in log
        asyncio.run(thief.is_kept_out())
        workmesh.run("keys", "rotate", "learner")
    with up(workmesh, tmp_path):
        publish(workmesh, tmp_path, 0, 1)
        task = ended(workmesh, 1)[0]["task_id"]
        wait_for(
            lambda: [item["record"]["kind"] for item in workmesh.json("trace", task)], lambda kinds: "lesson" in kinds
        )


def test_for_a_bus_of_ones_own_it_is_said_what_to_change(workmesh: Workmesh, site: None, tmp_path: Path) -> None:
    state = Path(workmesh.env["WORKMESH_STATE_DIR"])
    url = f"nats://127.0.0.1:{(state / 'nats' / 'port').read_text().strip()}"
    old = Identity.load(state / "keys" / "memory.nk").public_key
    env = {**workmesh.env, "WORKMESH_BUS__URL": url}
    done = subprocess.run(
        [str(WORKMESH), "keys", "rotate", "memory"], env=env, capture_output=True, text=True, check=True
    )
    user = json.loads(done.stdout[done.stdout.index("{") :])
    assert user["nkey"] == Identity.load(state / "keys" / "memory.nk").public_key != old
    assert "fact.>" in user["permissions"]["publish"]["allow"]
    assert f"take the user {old} out" in done.stderr and "--signal reload" in done.stderr
    assert os.stat(state / "keys" / "memory.nk").st_mode & 0o777 == 0o600
