"""The Compose file: valid, hardened, each service with its own key alone; and what it mounts really runs a site."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from jsonschema import Draft202012Validator

from benchmarks.chaos.site import until
from console.up import systems_env
from mesh.demo import Applied, Demo, load_demo
from mesh.site import CONSOLE, INTAKE, MODEL, PROCESSES, TRACER
from mesh.supervisor import ChildState, Supervisor
from tests.deploy.composed import FOLDER, ROOT, SECRETS, STATE, Host, clean, composed, secrets
from tests.mesh.nats_servers import Server, free_ports, started

FILE = composed()
SERVICES: dict[str, Any] = FILE["services"]
OURS = (*PROCESSES, CONSOLE, TRACER)
ON_DEMAND = {MODEL, INTAKE, TRACER}
"""Those that are profiles."""
NATS = ("nats-1", "nats-2", "nats-3")
TLS = {"tls_ca", "tls_cert", "tls_key"}
SCHEMA = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"


def test_the_file_is_valid_by_the_compose_specification() -> None:
    official = Draft202012Validator(json.loads(SCHEMA.read_text("utf-8")))
    assert [error.message for error in official.iter_errors(FILE)] == []
    assert [error.message for error in official.iter_errors(FILE | {"services": {"x": {"reed_only": True}}})]


@pytest.mark.parametrize("role", OURS)
def test_each_process_has_a_service_with_its_own_key_and_no_other(role: str) -> None:
    service = SERVICES[role]
    assert service["command"] == ["run", role]
    given = secrets(service)
    assert set(given) == {*TLS, f"{role}_key"}
    assert FILE["secrets"][f"{role}_key"]["file"] == f"./site/keys/{role}.nk"
    assert service["environment"]["WORKMESH_BUS__IDENTITY"] == given[f"{role}_key"] == f"{SECRETS}/{role}.nk"
    assert service["volumes"][:2] == [f"{role}:{STATE}", f"./site/trust_root:{STATE}/trust_root:ro"]
    assert {volume.split(":")[0] for volume in service["volumes"][2:]} <= {f"./{role}", f"./site/{role}"}


def test_nobody_but_the_maker_of_the_site_has_the_root_key_and_nobody_the_authoritys() -> None:
    whole = {name for name, service in SERVICES.items() if any(each.startswith("./site:") for each in mounts(service))}
    assert whole == {"site"}
    assert not any("ca.key" in secret["file"] or "admin" in secret["file"] for secret in FILE["secrets"].values())
    for n, name in enumerate(NATS, 1):
        assert set(secrets(SERVICES[name])) == {"tls_ca", f"nats_{n}_cert", f"nats_{n}_key"}


def mounts(service: dict[str, Any]) -> list[str]:
    """The volumes of a service."""
    return list(service.get("volumes", ()))


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_has_few_rights_and_limits(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"] and service["pids_limit"] and service["restart"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert not {"privileged", "network_mode", "pid", "ipc", "cap_add", "devices"} & set(service)
    assert re.search(r":v?\d+\.\d+\.\d+", service["image"]), "an image without its version is another one tomorrow"
    assert "docker.sock" not in str(service)


def test_the_images_version_is_the_projects() -> None:
    assert {SERVICES[name]["image"] for name in (*OURS, *NATS, "site")} == {f"workmesh:{version('workmesh')}"}


def test_only_those_who_speak_with_systems_reach_out() -> None:
    assert FILE["networks"]["bus"] == {"internal": True}
    out = {name for name in OURS if "systems" in SERVICES[name]["networks"]}
    connecting = {
        path.parent.name if path.parent.name != "policy_service" else "policy"
        for path in [*ROOT.glob("agents/*/process.py"), *ROOT.glob("*_service/process.py")]
        if "connect_packs()" in path.read_text("utf-8")
    }
    assert out == connecting | {MODEL, TRACER}


def test_what_is_mounted_from_the_project_is_there() -> None:
    for service in SERVICES.values():
        for volume in mounts(service):
            if volume.startswith("../"):
                assert (FOLDER / volume.partition(":")[0]).exists()


def test_prometheus_asks_every_process() -> None:
    (job,) = yaml.safe_load((FOLDER / "prometheus.yml").read_text("utf-8"))["scrape_configs"]
    (discovery,) = job["dns_sd_configs"]
    assert set(discovery["names"]) == set(OURS)
    dockerfile = (ROOT / "deploy" / "docker" / "Dockerfile").read_text("utf-8")
    assert f"WORKMESH_METRICS__PORT={discovery['port']}" in dockerfile


@dataclass
class Composed:
    """The services that run on this host."""

    folder: Path
    env: dict[str, str]
    processes: Supervisor
    demo: Demo
    options: dict[str, Any]

    def workmesh(self, *args: str) -> str:
        """`docker compose run --rm site ARGS`."""
        argv = [sys.executable, "-m", "console.main", *args]
        return subprocess.run(argv, env=self.env, check=True, capture_output=True, text=True, timeout=60).stdout

    async def applied(self) -> list[Applied]:
        """The shop's own log."""
        return await self.demo.applied(self.options)


def prepare(folder: Path, servers: str) -> None:
    """Run prepare.sh in a folder of its own."""
    folder.mkdir(exist_ok=True)
    shutil.copy2(FOLDER / "prepare.sh", folder)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = clean() | {"PATH": path, "SERVERS": servers}
    done = subprocess.run(["./prepare.sh"], cwd=folder, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Composed]:
    """Three servers of prepare.sh's, the site made by the service `site`, and every process but those of profiles."""
    folder = tmp_path_factory.mktemp("c")
    ports = free_ports(6)
    servers = [f"{name}=127.0.0.1:{ports[n]}:{ports[n + 3]}" for n, name in enumerate(NATS)]
    await asyncio.to_thread(prepare, folder / "compose", " ".join(servers))
    host = Host(folder / "compose", folder / "run")
    url = ",".join(f"tls://127.0.0.1:{port}" for port in ports[:3])
    async with started(*(Server.of(folder / name, host.server(name)) for name in NATS)):
        demo = load_demo("retail")
        systems = demo.systems(demo.sample, folder / "systems", {})
        made = host.process("site", url)
        env = clean() | dict(made.env)
        done = await asyncio.create_subprocess_exec(*made.argv, env=env)
        assert await done.wait() == 0
        specs = [host.process(role, url) for role in OURS if role not in ON_DEMAND]
        packs = systems_env("retail", systems.options)
        reaching = {role for role in OURS if "systems" in SERVICES[role]["networks"]}
        specs = [replace(each, env={**each.env, **packs}) if each.name in reaching else each for each in specs]
        async with Supervisor([*systems.children, *specs], folder / "sockets") as processes:
            await processes.wait_ready(60)
            yield Composed(folder, env, processes, demo, dict(systems.options))


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.asyncio(loop_scope="module")
async def test_what_prepare_makes_runs_a_site_that_does_its_work_once(site: Composed) -> None:
    events = (site.demo.sample / "events.jsonl").read_bytes().splitlines()[:12]
    file = site.folder / "events.jsonl"
    file.write_bytes(b"\n".join(events) + b"\n")
    await asyncio.to_thread(site.workmesh, "publish", str(file))

    async def ended() -> bool:
        found = json.loads(await asyncio.to_thread(site.workmesh, "status", "--json"))
        return not any(stage["waiting"] or stage["in_hand"] for stage in found["stages"])

    await until(ended, 60, "all is done")
    keys = [each.key for each in await site.applied()]
    assert keys and len(keys) == len(set(keys))
    states = {name: child.state for name, child in site.processes.children.items()}
    assert set(states.values()) == {ChildState.READY}, states


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.asyncio(loop_scope="module")
async def test_processes_say_the_address_by_which_others_reach_them(site: Composed) -> None:
    listed = json.loads(await asyncio.to_thread(site.workmesh, "bus", "targets"))
    hosts = {group["labels"]["role"]: group["targets"][0].partition(":")[0] for group in listed}
    assert hosts == {role: role for role in OURS if role not in ON_DEMAND}


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_what_prepare_makes_is_its_owners_alone_and_made_once(tmp_path: Path) -> None:
    servers = "n1=127.0.0.1:1:2"
    prepare(tmp_path / "c", servers)
    kept = {path: path.read_bytes() for path in (tmp_path / "c").rglob("*") if path.is_file()}
    assert all(path.stat().st_mode & 0o077 == 0 for path in kept if path.suffix in (".nk", ".key", ".env", ".password"))
    prepare(tmp_path / "c", servers)
    assert {path: path.read_bytes() for path in kept} == kept
