"""A site with the retail shop that has done its tasks and was stopped: what a regulator, or a thief, would find."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.console.conftest import WORKMESH, Workmesh

SAMPLE = Path(__file__).parents[3] / "packs" / "retail" / "sample" / "events.jsonl"


@contextmanager
def running(workmesh: Workmesh, *args: str) -> Iterator[None]:
    """``workmesh up`` on its state folder while the block runs."""
    with (Path(workmesh.env["WORKMESH_STATE_DIR"]).with_suffix(".log")).open("ab") as log:
        process = subprocess.Popen([str(WORKMESH), "up", *args], env=workmesh.env, stdout=subprocess.PIPE, stderr=log)
    assert process.stdout is not None
    try:
        assert b"workmesh is up" in process.stdout.readline()
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        process.stdout.close()


def wait_for(read: Callable[[], Any], wanted: Callable[[Any], bool]) -> Any:
    """What ``read`` gives as soon as ``wanted`` holds of it."""
    end = time.monotonic() + 90
    while not wanted(value := read()):
        assert time.monotonic() < end, value
        time.sleep(0.1)
    return value


class Site:
    """A stopped site, its export, and the tasks that an operator saw."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workmesh = Workmesh(folder / "state")
        self.workmesh.env["WORKMESH_AUDIT__CHECKPOINT_S"] = "0.5"
        self.export = folder / "export.jsonl"
        self.tasks: list[dict[str, Any]] = []
        self.key = ""
        self.reports: dict[str, str] = {}

    @property
    def checkpoints(self) -> Path:
        """The auditor's file outside of the broker."""
        return self.folder / "state" / "audit" / "checkpoints"

    def copy(self, folder: Path) -> Workmesh:
        """A copy of the whole site, store included, to be tampered with."""
        shutil.copytree(self.folder / "state", folder / "state", ignore=shutil.ignore_patterns("*.sock", "run"))
        copied = Workmesh(folder / "state")
        copied.env["WORKMESH_AUDIT__CHECKPOINT_S"] = "0.5"
        return copied


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Thirty tasks with every kind of end, one approved, one rejected, the others still waiting."""
    site = Site(tmp_path_factory.mktemp("site"))
    workmesh = site.workmesh
    events = site.folder / "events.jsonl"
    events.write_text("".join(f"{line}\n" for line in SAMPLE.read_text().splitlines()[:30]))
    with running(workmesh, "--with", "retail"):
        workmesh.run("publish", str(events))
        path = site.folder / "people" / "ada.nk"
        public = workmesh.run("keys", "new", "ada", "--dir", str(path.parent)).split()[-1]
        workmesh.run("keys", "enroll", "ada", "--public-key", public, "--role", "refund_manager")
        states = {"completed", "refused", "denied", "waiting"}
        wait_for(lambda: listed(workmesh), lambda tasks: len(tasks) == 30 and {t["state"] for t in tasks} <= states)
        waiting = workmesh.json("approvals", "list")
        assert len(waiting) >= 3
        comment = '<script>alert("x")</script> & seen'
        wait_for(lambda: said(workmesh, "approve", waiting[0]["task_id"], path, comment), lambda code: code == 0)
        assert said(workmesh, "reject", waiting[1]["task_id"], path, "no") == 0
        wait_for(lambda: state_of(workmesh, waiting[0]["task_id"]), lambda state: state == "completed")
        status = wait_for(lambda: workmesh.json("audit", "status"), lambda found: found["behind"] == 0)
        site.key = status["keys"][0]
        site.tasks = listed(workmesh)
        answered = {item["task_id"] for item in waiting[:2]}  # these have reports of their own
        for state in sorted(states):
            task = next(t["task_id"] for t in site.tasks if t["state"] == state and t["task_id"] not in answered)
            site.reports[state] = report(workmesh, task, site.folder / f"{state}.html")
        for name, item in (("approved", waiting[0]), ("rejected", waiting[1])):
            site.reports[name] = report(workmesh, item["task_id"], site.folder / f"{name}.html")
        workmesh.run("audit", "export", "--out", str(site.export))
    return site


def report(workmesh: Workmesh, task: str, path: Path) -> str:
    """The report of a task."""
    workmesh.run("audit", "report", task, "--out", str(path))
    return path.read_text()


def listed(workmesh: Workmesh) -> list[dict[str, Any]]:
    """All tasks."""
    found: list[dict[str, Any]] = workmesh.json("tasks", "list", "--limit", "100")
    return found


def state_of(workmesh: Workmesh, task: str) -> str:
    """Where a task stands."""
    return str(next(t["state"] for t in listed(workmesh) if t["task_id"] == task))


def said(workmesh: Workmesh, word: str, task: str, key: Path, comment: str) -> int:
    """A person's word on a task; the exit status."""
    command = [str(WORKMESH), "approvals", word, task, "--key", str(key), "--comment", comment]
    return subprocess.run(command, env=workmesh.env, capture_output=True).returncode


def verdict(workmesh: Workmesh, file: Path, *args: str, code: int) -> dict[str, Any]:
    """What ``audit verify`` says of a file."""
    found: dict[str, Any] = workmesh.json("audit", "verify", str(file), *args, code=code)
    return found


def lines_of(path: Path) -> list[dict[str, Any]]:
    """An export, decoded."""
    return [json.loads(line) for line in path.read_text().splitlines()]
