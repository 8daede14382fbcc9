"""The command line as a person uses it: the installed ``workmesh``, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

WORKMESH = Path(sys.executable).with_name("workmesh")


class Workmesh:
    """Runs commands on one state folder."""

    def __init__(self, state_dir: Path) -> None:
        # Words alone: loading the model for each site costs most of a second, and has tests of its own.
        self.env = {**os.environ, "WORKMESH_STATE_DIR": str(state_dir), "WORKMESH_MEMORY__EMBEDDER": "none"}
        self.env["WORKMESH_CONSOLE__PORT"] = "-1"

    def run(self, *args: str, stdin: bytes = b"", code: int = 0, timeout_s: float = 150) -> str:
        """Run a command; its stdout. Fails when it does not exit with ``code``."""
        done = subprocess.run(
            [str(WORKMESH), *args], env=self.env, input=stdin, capture_output=True, timeout=timeout_s, check=False
        )
        assert done.returncode == code, (args, done.returncode, done.stdout.decode(), done.stderr.decode())
        self.stderr = done.stderr.decode()
        return done.stdout.decode()

    def json(self, *args: str, **options: Any) -> Any:
        """Run a command with ``--json`` and decode what it prints."""
        return json.loads(self.run(*args, "--json", **options))


@pytest.fixture
def workmesh(tmp_path: Path) -> Workmesh:
    return Workmesh(tmp_path / "state")
