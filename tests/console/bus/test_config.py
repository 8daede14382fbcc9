"""``workmesh bus config``: files that a real nats-server takes, with the keys of a folder or of public parts alone."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from console.bus.commands import bus
from console.keys import keys
from mesh.certificates import Authority
from mesh.embedded import find_binary
from mesh.errors import SettingsError
from mesh.identity import Identity
from mesh.settings import load
from mesh.site import Site

THREE = [part for n in (1, 2, 3) for part in ("--server", f"n{n}=10.0.0.{n}")]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The keys of a site."""
    monkeypatch.setenv("WORKMESH_STATE_DIR", str(tmp_path / "site"))
    return Site(load(None))


def config(*args: str | Path) -> Result:
    """What the command says."""
    return CliRunner().invoke(bus, ["config", *map(str, args)], catch_exceptions=False)


def read(folder: Path, name: str) -> Any:
    """A written configuration."""
    return json.loads((folder / f"{name}.conf").read_bytes())


def test_each_server_of_a_cluster_has_a_file_that_it_takes(site: Site, tmp_path: Path) -> None:
    authority = Authority.opened(tmp_path / "tls")
    for n in (1, 2, 3):
        authority.issue(f"n{n}", [f"10.0.0.{n}"], server=True, days=1)
    out, store = tmp_path / "conf", tmp_path / "store"
    told = config(*THREE, "--out", out, "--tls", authority.folder, "--store", store, "--json")
    assert told.exit_code == 0, told.output
    said = json.loads(told.stdout)
    assert said["url"] == "tls://10.0.0.1:4222,tls://10.0.0.2:4222,tls://10.0.0.3:4222" and said["replicas"] == 3
    for n in (1, 2, 3):
        checked = subprocess.run([find_binary(), "-t", "-c", out / f"n{n}.conf"], capture_output=True, timeout=15)
        assert checked.returncode == 0, checked.stderr
    second = read(out, "n2")
    assert second["server_name"] == "n2" and second["listen"] == "0.0.0.0:4222"
    assert second["cluster"]["routes"] == ["nats://10.0.0.1:6222", "nats://10.0.0.3:6222"]
    assert second["tls"]["verify"] and second["tls"]["cert_file"].endswith("/n2.pem")
    assert second["accounts"]["MESH"]["jetstream"] == {"max_streams": 32, "max_consumers": 1024}
    assert read(out, "n1")["accounts"] == second["accounts"]
    given = {user["nkey"] for account in second["accounts"].values() for user in account.get("users", ())}
    assert given == {user.public_key for user in site.users()}


def test_one_server_has_no_cluster(site: Site, tmp_path: Path) -> None:
    told = config("--server", "n1=localhost:4333", "--plain", "--out", tmp_path, "--monitor-port", "8222")
    assert told.exit_code == 0, told.output
    assert "bus.url = 'nats://localhost:4333', bus.replicas = 1" in told.stdout
    found = read(tmp_path, "n1")
    assert "cluster" not in found and "tls" not in found
    assert found["listen"] == "0.0.0.0:4333" and found["http"] == "127.0.0.1:8222"


def test_a_key_that_was_cut_off_is_no_user(site: Site, tmp_path: Path) -> None:
    site.cut_off("planner")
    assert config("--server", "n1=h", "--plain", "--out", tmp_path).exit_code == 0
    assert "users" not in read(tmp_path, "n1")["accounts"]["PLANNER"]


def test_public_keys_of_hosts_that_share_no_folder_are_enough(tmp_path: Path) -> None:
    public = tmp_path / "public"
    public.mkdir()
    made = {}
    for name in ("executor@plant-1", "executor@plant-2", "policy", "admin"):
        identity = Identity.create(tmp_path / "secret" / f"{name}.nk", name)
        shutil.copy(tmp_path / "secret" / f"{name}.nk.pub", public)
        made[name] = identity.public_key
    told = config("--server", "n1=h", "--plain", "--out", tmp_path / "out", "--public-keys", public)
    assert told.exit_code == 0, told.output
    found = read(tmp_path / "out", "n1")["accounts"]
    executors = {user["nkey"] for user in found["EXECUTOR"]["users"]}
    assert executors == {made["executor@plant-1"], made["executor@plant-2"]}
    assert [user["nkey"] for user in found["MESH"]["users"]] == [made["admin"]]
    assert {name for name, account in found.items() if "users" in account} == {"MESH", "EXECUTOR", "POLICY"}


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("plannner.nk.pub", "U" * 56, "no role 'plannner'"),
        ("planner.nk.pub", "SUAnotforyou", "does not begin with a public key"),
        ("planner.pub", "", "no public keys"),
    ],
)
def test_files_that_are_no_public_keys_are_refused(tmp_path: Path, name: str, text: str, why: str) -> None:
    (tmp_path / name).write_text(text or "x")
    with pytest.raises(SettingsError, match=why):
        config("--server", "n1=h", "--plain", "--out", tmp_path / "out", "--public-keys", tmp_path)


@pytest.mark.parametrize(
    "args",
    [
        ("--server", "n1=h"),
        ("--server", "n1=h", "--plain", "--tls", "tls"),
        ("--server", "n1", "--plain"),
        ("--server", "n1=h:x", "--plain"),
        ("--server", "n1=h:1:2:3", "--plain"),
        ("--server", "=h", "--plain"),
    ],
)
def test_wrong_use_is_told_so(site: Site, tmp_path: Path, args: tuple[str, ...]) -> None:
    assert config(*args, "--out", tmp_path / "out").exit_code == 2


def test_certificates_are_made_listed_and_renewed(tmp_path: Path) -> None:
    def tls(*args: str) -> Result:
        return CliRunner().invoke(keys, ["tls", "--dir", str(tmp_path / "tls"), *args], catch_exceptions=False)

    made = tls("--server", "n1=10.0.0.1,n1.example", "--client", "agents", "--days", "20", "--json")
    assert made.exit_code == 0, made.output
    said = {each["name"]: each for each in json.loads(made.stdout)}
    assert set(said) == {"ca", "n1", "agents"}
    assert said["n1"]["names"] == ["10.0.0.1", "n1.example"] and said["n1"]["days_left"] == 19
    assert "19: renew it" in tls().stdout
    with pytest.raises(SettingsError, match="--renew"):
        tls("--server", "n1=10.0.0.1")
    assert tls("--server", "n1=10.0.0.1", "--renew").exit_code == 0
    assert {each["name"]: each["days_left"] for each in json.loads(tls("--json").stdout)}["n1"] == 364
    assert tls("--renew").exit_code == 2
    assert tls("--server", "n1").exit_code == 2


def test_a_leaf_node_has_its_roles_alone_and_its_file_is_its_owners(site: Site, tmp_path: Path) -> None:
    roles = ["--role", "executor", "--role", "planner"]
    argv = ["leaf", "plant", "--hub", "nats://hub.example:7422", *roles, "--plain", "--out", str(tmp_path / "conf")]
    told = CliRunner().invoke(bus, argv, catch_exceptions=False)
    assert told.exit_code == 0, told.output
    path = tmp_path / "conf" / "plant.conf"
    assert path.stat().st_mode & 0o077 == 0
    checked = subprocess.run([find_binary(), "-t", "-c", path], capture_output=True, timeout=15)
    assert checked.returncode == 0, checked.stderr
    made = read(tmp_path / "conf", "plant")
    given = {user["nkey"] for account in made["accounts"].values() for user in account.get("users", ())}
    assert given == {site.identity(role).public_key for role in ("executor", "planner")}
    assert {remote["account"] for remote in made["leafnodes"]["remotes"]} == {"EXECUTOR", "PLANNER"}
    assert "jetstream" not in made


@pytest.mark.parametrize(
    ("role", "why"), [("memory", "answers requests"), ("admin", "the roles are perception"), ("cook", "the roles are")]
)
def test_a_role_that_cannot_stand_on_a_leaf_node_is_refused(site: Site, tmp_path: Path, role: str, why: str) -> None:
    argv = ["leaf", "plant", "--hub", "nats://h:7422", "--role", role, "--plain", "--out", str(tmp_path)]
    told = CliRunner().invoke(bus, argv, catch_exceptions=False)
    assert told.exit_code == 2 and why in told.output
    assert not (tmp_path / "plant.conf").exists()
