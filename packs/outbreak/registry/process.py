"""Runs the registry as a process of its own, for tests, demonstrations and measurements.

The one rule: a process started here is ended by its process id, whatever happens.
"""

import subprocess
import sys
from pathlib import Path
from typing import Self

import msgspec

from packs.outbreak.registry.faults import Faults

ROOT = Path(__file__).parents[3]
STOP_TIMEOUT_S = 10


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """The line a registry writes when it listens."""

    event: str
    url: str


class RegistryProcess:
    """A running registry as a context manager; `url` is where it listens."""

    def __init__(self, data: Path, db: Path, *, faults: Faults | None = None, port: int = 0) -> None:
        command = [sys.executable, "-m", "packs.outbreak.registry", "--data", str(data), "--db", str(db)]
        command += ["--port", str(port)]
        if faults is not None:
            command += ["--faults-json", msgspec.json.encode(faults).decode()]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        self.url = self._wait_until_ready()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Wait until the registry ends by itself and give its exit status."""
        return self._process.wait(timeout_s)

    def stop(self) -> int:
        """End the registry with SIGTERM, or SIGKILL when it does not obey, and give its exit status."""
        self._process.terminate()
        try:
            return self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
        finally:
            if self._process.stdout is not None:
                self._process.stdout.close()

    def kill(self) -> int:
        """End the registry with SIGKILL, as a power cut would, and give its exit status."""
        self._process.kill()
        return self._process.wait()

    def _wait_until_ready(self) -> str:
        line = self._process.stdout.readline() if self._process.stdout is not None else b""
        if not line:
            raise RuntimeError(f"the registry did not start, exit status {self.stop()}; its stderr says why")
        return msgspec.json.decode(line, type=Ready).url
