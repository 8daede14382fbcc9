"""A real Prometheus beside a site: its configuration is the one that ships, only faster."""

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import yaml

from console.slo.objectives import read_objectives
from console.slo.rules import render, rules
from mesh.ports import free_port

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "deploy" / "prometheus" / "prometheus.yml"
_READY_S = 30.0


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A server that runs."""

    url: str

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The samples of a query now."""
        return self._get("query", query=query)

    def value(self, query: str) -> float:
        """The one value of a query now; 0 when there is none."""
        found = self.ask(query)
        assert len(found) <= 1, query
        return float(found[0]["value"][1]) if found else 0.0

    def targets(self) -> list[dict[str, Any]]:
        """What it scrapes."""
        answer = httpx2.get(f"{self.url}/api/v1/targets", timeout=20, trust_env=False).json()
        found: list[dict[str, Any]] = answer["data"]["activeTargets"]
        return found

    def _get(self, what: str, **params: Any) -> list[dict[str, Any]]:
        answer = httpx2.post(f"{self.url}/api/v1/{what}", data=params, timeout=20, trust_env=False).json()
        assert answer["status"] == "success", (params, answer)
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found


@contextmanager
def prometheus(folder: Path, targets: Path) -> Iterator[Prometheus]:
    """Run one that reads its targets from a file, and stop it."""
    folder.mkdir()
    config = yaml.safe_load(SHIPPED.read_text("utf-8"))
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (discovery,) = config["scrape_configs"][0]["file_sd_configs"]
    discovery["files"] = [str(targets)]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (folder / "rules.yml").write_text(render(rules(read_objectives(), slow="1s")), encoding="utf-8")
    run(["promtool", "check", "config", str(folder / "prometheus.yml")])
    port = free_port()
    argv = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("wb") as log, subprocess.Popen(argv, stdout=log, stderr=log) as process:
        try:
            yield _ready(Prometheus(f"http://127.0.0.1:{port}"), process, folder / "log")
        finally:
            process.terminate()


def _ready(server: Prometheus, process: subprocess.Popen[bytes], log: Path) -> Prometheus:
    end = time.monotonic() + _READY_S
    while process.poll() is None and time.monotonic() < end:
        try:
            if httpx2.get(f"{server.url}/-/ready", trust_env=False).status_code == 200:
                return server
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"Prometheus does not start: {log.read_text('utf-8')[-2000:]}")


def run(argv: Sequence[str]) -> str:
    """Run a program that must succeed; what it says."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{' '.join(argv)}:\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr
