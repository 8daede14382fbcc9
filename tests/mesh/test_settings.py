"""Settings: defaults, a file over them, the environment over both; nothing unknown is passed over."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from mesh.errors import SettingsError
from mesh.identity import Identity
from mesh.settings import Settings, load, redacted


def written(folder: Path, text: str) -> Path:
    """A settings file."""
    path = folder / "workmesh.toml"
    path.write_text(text)
    return path


def test_without_a_file_and_variables_the_defaults_hold() -> None:
    assert load(None, {}) == Settings()
    assert load(None, {"HOME": "/root", "WORKMESHX": "1"}) == Settings()


def test_the_environment_wins_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    path = written(tmp_path, 'state_dir = "/srv/wm"\n[bus]\nreplicas = 3\nack_wait_s = 9.0\n')
    found = load(path, {"WORKMESH_BUS__REPLICAS": "5", "WORKMESH_BUS__URL": "nats://bus:4222"})
    assert (found.bus.replicas, found.bus.ack_wait_s, found.bus.url) == (5, 9.0, "nats://bus:4222")
    assert found.state_dir == Path("/srv/wm")
    assert found.runtime == Settings().runtime


def test_values_of_the_environment_are_plain_text_or_json() -> None:
    env = {
        "WORKMESH_STATE_DIR": "/srv/123",
        "WORKMESH_ROLE_INSTANCE": "7",
        "WORKMESH_BUS__URL": '"nats://a"',
        "WORKMESH_POLICY__PERMIT_TTL_S": "60",
        "WORKMESH_METRICS__PORT": "-1",
        "WORKMESH_LOG__LEVEL": "debug",
    }
    found = load(None, env)
    assert (found.state_dir, found.role_instance, found.bus.url) == (Path("/srv/123"), "7", "nats://a")
    assert (found.policy.permit_ttl_s, found.metrics.port, found.log.level) == (60.0, -1, "debug")


def test_the_file_can_be_named_by_the_environment(tmp_path: Path) -> None:
    path = written(tmp_path, "[runtime]\nconcurrency = 8\n")
    assert load(None, {"WORKMESH_CONFIG": str(path)}).runtime.concurrency == 8


@pytest.mark.parametrize(
    ("text", "env", "message"),
    [
        ("[bus]\nack_wait = 3\n", {}, r"unknown setting bus\.ack_wait in .*: did you mean ack_wait_s\?"),
        ("[buss]\nurl = ''\n", {}, r"unknown setting buss in .*: did you mean bus\?"),
        ("", {"WORKMESH_BUS__REPLICA": "1"}, r"bus\.replica in WORKMESH_BUS__REPLICA: did you mean replicas\?"),
        ("", {"WORKMESH_RUNTMIE__CONCURRENCY": "1"}, r"did you mean runtime\?"),
        ("", {"WORKMESH_ZZZ": "1"}, r"unknown setting zzz in WORKMESH_ZZZ: known are state_dir"),
        ("", {"WORKMESH_BUS": "{}"}, "names no single setting"),
        ("", {"WORKMESH_BUS__URL__X": "1"}, "names no single setting"),
        ("[bus]\nreplicas = 9\n", {}, r"setting bus\.replicas: Expected `int` <= 5"),
        ("[bus]\nreplicas = '3'\n", {}, r"setting bus\.replicas: Expected `int`, got `str`"),
        ("bus = 3\n", {}, r"setting bus: Expected `object`"),
        ("[log]\nlevel = 'loud'\n", {}, r"setting log\.level: Invalid enum value 'loud'"),
        ("packs = { retail = 3 }\n", {}, r"packs\.retail: expected a table"),
        ("", {"WORKMESH_BUS__REPLICAS": "many"}, r"WORKMESH_BUS__REPLICAS='many': Expected `int`"),
        ("", {"WORKMESH_BUS__ACK_WAIT_S": "0"}, r"WORKMESH_BUS__ACK_WAIT_S='0': Expected `float` >= 1"),
        ("[bus\n", {}, "no TOML"),
    ],
)
def test_what_is_wrong_is_refused_by_name(tmp_path: Path, text: str, env: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load(written(tmp_path, text), env)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml: No such file"):
        load(tmp_path / "none.toml", {})


class Options(msgspec.Struct, forbid_unknown_fields=True):
    """Options of a pack."""

    url: str
    limit: int = 3


def test_options_of_packs_go_to_the_pack_as_json(tmp_path: Path) -> None:
    path = written(tmp_path, "[packs.retail]\nurl = 'http://a'\n")
    found = load(path, {"WORKMESH_PACKS__RETAIL__LIMIT": "7"})
    assert msgspec.json.decode(found.packs["retail"], type=Options) == Options("http://a", 7)


def test_shown_settings_hide_secrets(tmp_path: Path) -> None:
    seed = (Identity.create(tmp_path / "a.nk", "a").path).read_text().strip()
    path = written(tmp_path, f"role_instance = '{seed}'\n[packs.retail]\napi_key = 'k1'\nurl = 'http://a'\n")
    shown: dict[str, Any] = redacted(load(path, {}))
    assert shown["packs"]["retail"] == {"api_key": "[redacted]", "url": "http://a"}
    assert shown["role_instance"] == "[redacted]" and shown["bus"]["replicas"] == 1
    assert seed not in msgspec.json.encode(shown).decode()


def test_the_trust_root_is_a_setting_or_a_file_of_the_state(tmp_path: Path) -> None:
    root = Identity.create(tmp_path / "root.nk", "root").public_key
    settings = Settings(state_dir=tmp_path)
    with pytest.raises(SettingsError, match="no trust root: set trust_root"):
        settings.root_key()
    (tmp_path / "trust_root").write_text(root + "\n")
    assert settings.root_key() == root
    with pytest.raises(SettingsError, match="not a public key"):
        Settings(trust_root="UABC").root_key()


def test_an_identity_is_named_by_the_settings_or_by_its_role() -> None:
    assert Settings().identity_path("planner") == Path(".workmesh/keys/planner.nk")
    assert load(None, {"WORKMESH_BUS__IDENTITY": "/k/x.nk"}).identity_path("planner") == Path("/k/x.nk")
