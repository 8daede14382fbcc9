"""``workmesh up`` and the operator's commands on the site it runs."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.console.conftest import WORKMESH, Workmesh

SAMPLE = Path(__file__).parents[2] / "packs" / "retail" / "sample" / "events.jsonl"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture
def site(workmesh: Workmesh, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A site with the retail shop, stopped cleanly afterwards."""
    with (tmp_path / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [str(WORKMESH), "up", "--with", "retail"], env=workmesh.env, stdout=subprocess.PIPE, stderr=log
        )
    assert process.stdout is not None
    try:
        assert b"workmesh is up" in process.stdout.readline()
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        process.stdout.close()


def wait_for(read: Any, wanted: Any) -> Any:
    """What ``read`` gives as soon as ``wanted`` holds of it."""
    end = time.monotonic() + 60
    while not wanted(value := read()):
        assert time.monotonic() < end, value
    return value


def children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def test_an_operator_approves_traces_replays_and_corrects(
    workmesh: Workmesh, site: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    published = workmesh.run("publish", str(SAMPLE))
    assert "86 events are on disk" in published
    expected = [json.loads(line) for line in SAMPLE.with_name("expected.jsonl").read_text().splitlines()]
    large = sum(line["outcome"] == "completed" and line["amount"] > 500 for line in expected)
    waiting = wait_for(lambda: workmesh.json("approvals", "list"), lambda found: len(found) == large)
    task = waiting[0]["task_id"]

    shown = workmesh.json("approvals", "show", task)
    assert shown["waiting"]["roles"] == ["refund_manager"]
    assert shown["steps"][0]["effect_key"] == f"wm-{task}-change"
    assert "exactly what would be executed" in workmesh.run("approvals", "show", task)

    key = tmp_path / "people" / "ada.nk"
    public = workmesh.run("keys", "new", "ada", "--dir", str(key.parent)).split()[-1]
    workmesh.run("approvals", "approve", task, "--key", str(key), code=1)
    assert "is not enrolled" in workmesh.stderr or "no key" in workmesh.stderr or "not trusted" in workmesh.stderr
    workmesh.run("keys", "enroll", "ada", "--public-key", public, "--role", "refund_manager")
    wait_for(
        lambda: (
            subprocess.run(
                [str(WORKMESH), "approvals", "approve", task, "--key", str(key)], env=workmesh.env, capture_output=True
            ).returncode
        ),
        lambda code: code == 0,
    )
    records = wait_for(
        lambda: workmesh.json("trace", task), lambda found: found[-1]["record"]["kind"] in ("lesson", "outcome")
    )
    kinds = [item["record"]["kind"] for item in records]
    for kind in ("context", "plan", "decision", "approval", "effect", "result", "outcome"):
        assert kind in kinds
    assert f"task {task}" in workmesh.run("trace", task)

    replayed = workmesh.json("replay", task)
    assert [stage["stage"] for stage in replayed] == ["planner", "policy"]
    assert all(stage["records"] and not stage["differences"] for stage in replayed)

    rejected = waiting[1]["task_id"]
    answer = workmesh.json("approvals", "reject", rejected, "--key", str(key), "--comment", "not this week")
    assert answer["verdict"] == "deny"
    workmesh.run("approvals", "approve", rejected, "--key", str(key), code=1)

    corrected = workmesh.json("tasks", "correct", task, "--text", "Ask for a photo first", "--person", "ada")
    proposal = corrected["proposal"]
    asked = ("memory", "recall", "photo", "--scope", "retail", "--subject", "playbook/")
    assert workmesh.json(*asked) == []
    workmesh.run("learn", "approve", proposal, "--key", str(key), code=1)
    assert "has not the role learning_admin" in workmesh.stderr
    admin = tmp_path / "people" / "lea.nk"
    public = workmesh.run("keys", "new", "lea", "--dir", str(admin.parent)).split()[-1]
    workmesh.run("keys", "enroll", "lea", "--public-key", public, "--role", "learning_admin")
    wait_for(
        lambda: (
            subprocess.run(
                [str(WORKMESH), "learn", "approve", proposal, "--key", str(admin)],
                env=workmesh.env,
                capture_output=True,
            ).returncode
        ),
        lambda code: code == 0,
    )
    recalled = wait_for(lambda: workmesh.json(*asked), lambda found: found != [])
    assert "Ask for a photo first" in json.dumps(recalled)
    assert "Ask for a photo first" in workmesh.run("learn", "show", proposal)
    assert workmesh.json("learn", "list")[0]["state"] == "remembered"
    assert {line["kind"] for line in workmesh.json("learn", "stats")} == {"playbook", "tool", "entity"}
    assert "nothing has drifted" in workmesh.run("learn", "drift")

    items = workmesh.json("quarantine", "list")
    reasons = {item["reason"] for item in items}
    assert reasons == {"malformed", "unknown_type", "conflict", "refused_word"}  # the last: ada before her enrollment
    assert workmesh.json("quarantine", "show", items[0]["id"])["detail"] == items[0]["detail"]
    denied = workmesh.json("tasks", "list", "--state", "denied", "--limit", "100")
    assert rejected in {line["task_id"] for line in denied}


def test_stopping_leaves_no_process_and_starting_again_finds_all_tasks(workmesh: Workmesh, tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        process = subprocess.Popen([str(WORKMESH), "up"], env=workmesh.env, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert b"workmesh is up" in process.stdout.readline()
        pids = children(process.pid)
        assert len(pids) == 8  # nats-server and seven roles
        seen.append(workmesh.json("keys", "list"))
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        process.stdout.close()
        assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert seen[0] == seen[1]


def test_state_is_readable_by_its_owner_only(workmesh: Workmesh, site: subprocess.Popen[bytes]) -> None:
    state = Path(workmesh.env["WORKMESH_STATE_DIR"])
    assert not state.stat().st_mode & 0o077
    kept = [path for path in state.rglob("*") if path.suffix in (".nk", ".db", ".db-wal", ".conf", ".log")]
    own = [path for path in kept if "systems" not in path.parts]
    assert {".nk", ".db", ".conf", ".log"} <= {path.suffix for path in own}
    assert [str(path) for path in own if path.stat().st_mode & 0o077] == []


def test_a_killed_supervisor_takes_its_processes_with_it(workmesh: Workmesh) -> None:
    process = subprocess.Popen([str(WORKMESH), "up"], env=workmesh.env, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert b"workmesh is up" in process.stdout.readline()
    pids = children(process.pid)
    process.kill()
    process.wait(10)
    process.stdout.close()
    wait_for(lambda: [pid for pid in pids if _lives(pid)], lambda living: not living)


def _lives(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("run", "nosuch"), 2, "no role 'nosuch'"),
        (("tasks", "list"), 2, "no bus: set bus.url, or start `workmesh up`"),
        (("nosuch",), 2, "No such command"),
        (("publish", "/does/not/exist"), 2, "No such file"),
    ],
)
def test_wrong_use_exits_2_and_says_the_way_out(
    workmesh: Workmesh, args: tuple[str, ...], code: int, said: str
) -> None:
    workmesh.env["WORKMESH_BUS__IDENTITY"] = str(_identity(workmesh))
    workmesh.run(*args, code=code)
    assert said in workmesh.stderr


def _identity(workmesh: Workmesh) -> Path:
    folder = Path(workmesh.env["WORKMESH_STATE_DIR"])
    workmesh.run("keys", "new", "somebody", "--dir", str(folder / "keys"))
    return folder / "keys" / "somebody.nk"


def test_an_unknown_setting_is_refused_by_name(workmesh: Workmesh, tmp_path: Path) -> None:
    config = tmp_path / "workmesh.toml"
    config.write_text("[bus]\nack_wait = 3\n", encoding="utf-8")
    workmesh.run("run", "planner", "--config", str(config), code=2)
    assert "ack_wait" in workmesh.stderr and "ack_wait_s" in workmesh.stderr
