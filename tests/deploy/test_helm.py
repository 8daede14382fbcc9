"""The Helm chart by its own files: versions, roles, values; and what prepare.sh makes for it, on real servers."""

import base64
import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from mesh.embedded import find_binary
from mesh.identity import is_public_key
from mesh.site import CONSOLE, PROCESSES, TRACER
from tests.deploy.composed import ROOT, clean

HELM = ROOT / "deploy" / "helm"
CHART = HELM / "workmesh"
ROLES = (*PROCESSES, CONSOLE, TRACER)


def read(path: Path) -> Any:
    """A YAML file."""
    return yaml.safe_load(path.read_text("utf-8"))


def test_the_chart_is_of_the_projects_version_and_has_its_roles() -> None:
    about = read(CHART / "Chart.yaml")
    assert about["version"] == about["appVersion"] == version("workmesh")
    assert set(read(CHART / "values.yaml")["roles"]) == set(ROLES)


def test_the_values_lack_the_trust_root_alone() -> None:
    validator = Draft7Validator(json.loads((CHART / "values.schema.json").read_text("utf-8")))
    values = read(CHART / "values.yaml")
    assert [error.json_path for error in validator.iter_errors(values)] == ["$.trustRoot"]
    assert [*validator.iter_errors(values | {"trustRoot": "U" + "A" * 55})] == []


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What prepare.sh makes for a release."""
    folder = tmp_path_factory.mktemp("h") / "made"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for _ in range(2):  # the second time it changes nothing
        before = (folder / "secrets.yaml").read_bytes() if folder.exists() else b""
        argv = [str(HELM / "prepare.sh"), "site", str(folder)]
        done = subprocess.run(argv, env=clean() | {"PATH": path}, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
    assert (folder / "secrets.yaml").read_bytes() == before
    return folder


def secrets(folder: Path) -> dict[str, dict[str, bytes]]:
    """The content of the Secrets, by name."""
    documents = yaml.safe_load_all((folder / "secrets.yaml").read_text("utf-8"))
    return {
        each["metadata"]["name"]: {key: base64.b64decode(value) for key, value in each["data"].items()}
        for each in documents
    }


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_each_role_has_a_secret_with_its_own_key_alone(prepared: Path) -> None:
    found = secrets(prepared)
    prefix = read(CHART / "values.yaml")["keys"]["secretPrefix"]
    keys = {name: content for name, content in found.items() if name.startswith(prefix)}
    assert {name: set(content) for name, content in keys.items()} == {
        f"{prefix}-{role}": {f"{role}.nk"} for role in ROLES
    }
    assert len({value for content in keys.values() for value in content.values()}) == len(ROLES)
    with_root = {name for name, content in found.items() if "admin.nk" in content}
    assert with_root == {read(CHART / "values.yaml")["make"]["keysSecret"]}
    assert not any("ca.key" in content for content in found.values())
    assert is_public_key(read(prepared / "values.yaml")["trustRoot"])
    assert (prepared / "secrets.yaml").stat().st_mode & 0o077 == 0


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_each_server_takes_its_configuration_from_the_secret(prepared: Path, tmp_path: Path) -> None:
    files = secrets(prepared)[read(CHART / "values.yaml")["nats"]["configSecret"]]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content.replace(b"/etc/nats/", f"{tmp_path}/".encode()))
    for n in range(3):
        checked = subprocess.run([find_binary(), "-t", "-c", tmp_path / f"site-nats-{n}.conf"], capture_output=True)
        assert checked.returncode == 0, checked.stderr
        config = json.loads(files[f"site-nats-{n}.conf"])
        assert config["server_name"] == f"site-nats-{n}" and config["http"] == "127.0.0.1:8222"
        others = {f"nats://site-nats-{m}.site-nats:6222" for m in range(3) if m != n}
        assert set(config["cluster"]["routes"]) == others
