"""`workmesh up` starts the console and says where it is; somebody signs in with the token of the command line."""

import re
import signal
import subprocess
from pathlib import Path

import httpx2
import pytest

from tests.console.conftest import WORKMESH, Workmesh


@pytest.mark.timeout(120)
def test_up_says_where_the_console_is_and_a_token_lets_in(tmp_path: Path, workmesh: Workmesh) -> None:
    workmesh.env |= {"WORKMESH_CONSOLE__PORT": "0", "WORKMESH_ENABLED_PACKS": "retail"}
    with subprocess.Popen([WORKMESH, "up"], env=workmesh.env, stdout=subprocess.PIPE, text=True) as up:
        try:
            assert up.stdout is not None
            found = next(said for line in up.stdout if (said := re.search(r"The console is at (\S+);", line)))
            workmesh.run("keys", "new", "maria", "--dir", str(tmp_path))
            assert "no person maria is enrolled" in _refused(workmesh, "console", "token", "maria")
            public = str(tmp_path / "maria.nk.pub")
            workmesh.run("keys", "enroll", "maria", "--public-key", public, "--role", "operator")
            token = workmesh.json("console", "token", "maria")["token"]
            assert [each["person"] for each in workmesh.json("console", "tokens")] == ["maria"]
            with httpx2.Client(base_url=found[1], follow_redirects=True) as http:
                assert "Overview" in http.post("/signin", data={"token": token}).text
                workmesh.run("console", "revoke", "maria")
                assert "Sign in" in http.get("/").text
        finally:
            up.send_signal(signal.SIGINT)
            up.wait(30)


def _refused(workmesh: Workmesh, *args: str) -> str:
    workmesh.run(*args, code=1)
    return workmesh.stderr
