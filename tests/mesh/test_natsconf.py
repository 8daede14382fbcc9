"""The configuration of the bus's servers, held against the table of permissions, and read by a real nats-server."""

import json
import subprocess
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from mesh import natsaccounts, streams
from mesh.bus import connect
from mesh.embedded import EmbeddedNats, find_binary
from mesh.errors import BusUnavailableError, SettingsError
from mesh.identity import Identity
from mesh.natsaccounts import JSZ, MESH, SYSTEM, Quotas, covers, meets
from mesh.natsconf import Cluster, Tls, render
from mesh.permissions import OWN_SITE, ROLES, BusUser
from mesh.uplink import copies
from tests.mesh.live_mesh import eventually
from tests.mesh.nats_servers import identities, users

KEYS = {role: f"U{role.upper():A<55}" for role in ROLES}
USERS = [BusUser(key, (role,), role) for role, key in KEYS.items()]
SERVICES = ("MEMORY", "POLICY", "LEARNER")


def said(role: str) -> list[str]:
    """What a role may say, with the name of the site in the place of its token."""
    return [subject.replace(OWN_SITE, KEYS[role][:16]) for subject in ROLES[role].publish]


def accounts(users: list[BusUser] = USERS) -> dict[str, Any]:
    """The rendered accounts."""
    config = json.loads(render(port=4222, store=Path("store"), users=users, name="n1"))
    found: dict[str, Any] = config["accounts"]
    return found


def imported(account: dict[str, Any], kind: str) -> dict[str, list[str]]:
    """What an account imports of a kind, by subject, as its own clients name it; each with whence."""
    found: dict[str, list[str]] = {}
    for entry in account.get("imports", ()):
        if kind in entry:
            found.setdefault(entry.get("to", entry[kind]["subject"]), []).append(entry[kind]["account"])
    return found


def exported(account: dict[str, Any], kind: str) -> dict[str, list[str]]:
    """What an account exports of a kind, and to whom."""
    return {entry[kind]: entry["accounts"] for entry in account.get("exports", ()) if kind in entry}


@pytest.mark.parametrize("role", ROLES)
def test_a_user_may_publish_and_hear_what_its_role_may_and_nothing_else(role: str) -> None:
    account = accounts()[MESH if role == "admin" else role.upper()]
    (user,) = account["users"]
    assert user["nkey"] == KEYS[role]
    told = user["permissions"]
    inbox = f"_INBOX_{KEYS[role][:16]}.>"
    assert told["publish"] == {"allow": list(dict.fromkeys(said(role)))}
    assert told["subscribe"] == {"allow": [inbox, *ROLES[role].subscribe]}
    assert ("allow_responses" in told) is ROLES[role].answers


@pytest.mark.parametrize("role", [role for role in ROLES if role != "admin"])
def test_an_account_imports_every_subject_of_its_role_and_nothing_else(role: str) -> None:
    account = accounts()[role.upper()]
    services, streams = imported(account, "service"), imported(account, "stream")
    own_subjects = {subject for subject in said(role) if not subject.startswith("svc.")}
    asked = {subject for subject in ROLES[role].publish if subject.startswith("svc.")}
    assert all(any(covers(subject, own) for subject in services) for own in own_subjects)
    assert {subject for subject in services if not subject.startswith("svc.")} <= own_subjects
    assert all(any(covers(own, subject) for own in asked) for subject in services if subject.startswith("svc."))
    assert all(any(covers(own, subject) for subject in services) for own in asked)
    heard = {subject for subject in ROLES[role].subscribe if not subject.startswith("svc.")}
    inbox = {subject for subject in streams if subject.startswith("_INBOX_")}
    assert {subject for subject, owners in streams.items() if MESH in owners} == heard | inbox
    assert inbox <= {f"_INBOX_{KEYS[role][:16]}.>"}
    for subject, owners in streams.items():
        assert any(meets(own, subject) for own in heard | inbox)
        for owner in set(owners) - {MESH}:  # heard from each role that may say it
            assert any(covers(one, subject) for one in ROLES[owner.lower()].publish)
    for other, theirs in ROLES.items():
        wanted = [subject for subject in theirs.publish if any(meets(subject, own) for own in heard)]
        no_cycle = (role, other) == ("intake", "operator")  # of the two the operator hears what intake says
        if wanted and other not in ("admin", role) and not no_cycle:
            assert any(other.upper() in owners for owners in streams.values()), other
    assert all(len(owners) == 1 for owners in services.values())


@pytest.mark.parametrize("role", [role for role in ROLES if role != "admin"])
def test_nothing_is_imported_twice(role: str) -> None:
    """Two imports that match one subject would have it published, and answered, twice."""
    account = accounts()[role.upper()]
    for kind in ("service", "stream"):
        found = [(subject, owner) for subject, owners in imported(account, kind).items() for owner in owners]
        for (one, owner), (other, another) in combinations(found, 2):
            assert not meets(one, other) or (kind == "stream" and owner != another), (one, other)


def test_what_is_exported_is_what_is_imported_and_to_nobody_else() -> None:
    found = accounts()
    for owner, account in found.items():
        for kind in ("service", "stream"):
            wanted: dict[str, list[str]] = {}
            for name, other in found.items():
                for entry in other.get("imports", ()):
                    if kind in entry and entry[kind]["account"] == owner:
                        wanted.setdefault(entry[kind]["subject"], []).append(name)
            given = {subject: sorted(to) for subject, to in exported(account, kind).items()}
            assert given == {subject: sorted(to) for subject, to in wanted.items()}, (owner, kind)
    assert all(found[name]["exports"] for name in (MESH, SYSTEM, *SERVICES))


def test_only_the_root_is_in_the_account_of_the_streams() -> None:
    found = accounts()
    assert [user["nkey"] for user in found[MESH]["users"]] == [KEYS["admin"]]
    assert [name for name, account in found.items() if "jetstream" in account] == [MESH]
    assert "users" not in found[SYSTEM]


def test_keys_of_the_same_role_share_an_account_and_have_inboxes_of_their_own() -> None:
    twin = BusUser("UTWIN" + "A" * 51, ("executor",), "executor")
    account = accounts([*USERS, twin])["EXECUTOR"]
    assert [user["nkey"] for user in account["users"]] == [KEYS["executor"], twin.public_key]
    inboxes = [subject for subject in imported(account, "stream") if subject.startswith("_INBOX_")]
    assert sorted(inboxes) == sorted(f"_INBOX_{key[:16]}.>" for key in (KEYS["executor"], twin.public_key))


def test_an_account_of_several_roles_has_the_subjects_of_all() -> None:
    both = BusUser("UBOTH" + "A" * 51, ("planner", "memory"), "both")
    found = accounts([both, *(user for user in USERS if user.name != "memory")])
    services = imported(found["MEMORY_PLANNER"], "service")
    assert {"fact.>", "task.plan.*.*.-", JSZ} <= set(services)
    assert "svc.memory.recall" not in services  # it answers that itself
    assert imported(found["PLANNER"], "service")["svc.memory.recall"] == ["MEMORY_PLANNER"]


def test_a_service_is_in_one_account() -> None:
    """In two, a request would be answered twice."""
    both = BusUser("UBOTH" + "A" * 51, ("planner", "memory"), "both")
    with pytest.raises(SettingsError, match="both answer svc"):
        accounts([*USERS, both])
    root = BusUser("UROOT" + "A" * 51, tuple(role for role in ROLES if role != "publisher"), "root")
    assert imported(accounts([*USERS, root])["PLANNER"], "service")["svc.memory.recall"] == ["MEMORY"]


def test_what_has_many_answers_is_exported_so() -> None:
    streamed = {entry["service"] for entry in accounts()[MESH]["exports"] if entry.get("response") == "stream"}
    assert all(each.startswith(("$JS.API.DIRECT.GET.", "$JS.API.CONSUMER.MSG.NEXT.")) for each in streamed)
    assert {"$JS.API.DIRECT.GET.JOURNAL", "$JS.API.CONSUMER.MSG.NEXT.JOURNAL.planner"} <= streamed
    assert accounts()[SYSTEM]["exports"][0]["response"] == "stream"  # each server of a cluster answers


@pytest.mark.parametrize(
    ("pattern", "subject", "does"),
    [
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        ("a.*", "a.b", True),
        ("a.*", "a.>", False),
        ("a.*.c", "a.*.c", True),
        ("a.b", "a.*", False),
        ("a.*.>", "a.b.>", True),
        ("a.b.c", "a.b", False),
        (">", "a.>", True),
    ],
)
def test_whether_one_pattern_covers_another(pattern: str, subject: str, does: bool) -> None:
    assert covers(pattern, subject) is does


def test_a_server_takes_every_part_of_the_configuration(tmp_path: Path) -> None:
    """Its own check: an unknown or misspelt field is an error."""
    path = tmp_path / "nats-server.conf"
    text = render(
        port=4222,
        host="0.0.0.0",
        store=tmp_path / "store",
        users=users(identities(tmp_path / "keys")),
        name="n1",
        log_file=tmp_path / "log",
        max_file_store=1 << 30,
        cluster=Cluster("workmesh", 6222, ("nats://10.0.0.2:6222",)),
        quotas=Quotas(1 << 30, 32, 1024, 256),
        monitor_port=8222,
    )
    path.write_bytes(text)
    checked = subprocess.run([find_binary(), "-t", "-c", path], capture_output=True, text=True, check=False, timeout=15)
    assert checked.returncode == 0, checked.stderr
    config = json.loads(text)
    assert config["accounts"][MESH]["jetstream"] == {"max_file": 1 << 30, "max_streams": 32, "max_consumers": 1024}
    assert config["accounts"]["PLANNER"]["limits"] == {"max_connections": 256}
    assert config["http"] == "127.0.0.1:8222"
    assert config["jetstream"]["sync_interval"] == "always"


def test_servers_of_a_cluster_always_show_certificates_to_each_other() -> None:
    tls = Tls("n1.pem", "n1.key", "ca.pem", clients=False)
    cluster = Cluster("workmesh", 6222, ("nats://n2:6222",))
    config = json.loads(render(port=4222, store=Path("s"), users=USERS, name="n1", cluster=cluster, tls=tls))
    assert config["tls"]["verify"] is False and config["cluster"]["tls"]["verify"] is True
    assert config["tls"]["min_version"] == "1.3"


def test_a_role_without_a_user_has_its_account_all_the_same() -> None:
    found = accounts([user for user in USERS if user.name != "memory"])
    assert "users" not in found["MEMORY"] and imported(found["MEMORY"], "service")
    assert imported(found["PLANNER"], "service")["svc.memory.recall"] == ["MEMORY"]
    assert set(natsaccounts.accounts([])) == {SYSTEM, MESH, *(role.upper() for role in ROLES if role != "admin")}
    assert set(natsaccounts.accounts(USERS[:1], has_store=False)) == {SYSTEM, MESH, "PERCEPTION"}


async def test_a_key_that_comes_with_a_reload_is_served_at_once(tmp_path: Path) -> None:
    keys = identities(tmp_path / "keys")
    late = ("planner", "memory", "uplink")
    async with EmbeddedNats(tmp_path / "nats", [user for user in users(keys) if user.name not in late]) as server:
        root = keys["admin"].nats_options()
        async with connect(server.url, name="admin", options=root) as bus:
            await streams.ensure_streams(bus, streams.stream_specs({}, {}), replicas=1)
            await streams.ensure_streams(bus, copies(keys["uplink"].public_key), replicas=1)
            server.reconfigure(users(keys))
            for role in late:
                await eventually(partial(_is_in, server.url, keys[role]))
            async with connect(server.url, name="planner", options=keys["planner"].nats_options()) as planner:
                assert await planner.store("task.plan.d.t.-", b"{}") == 1
                assert await planner.last("JOURNAL", "task.plan.d.t.-") is not None
            async with connect(server.url, name="uplink", options=keys["uplink"].nats_options()) as uplink:
                spec = copies(keys["uplink"].public_key)[0]
                assert "error" not in await uplink.api(f"STREAM.INFO.{spec.name}")


async def _is_in(url: str, identity: Identity) -> bool:
    try:
        async with connect(url, name=identity.name, options=identity.nats_options()) as bus:
            return "error" not in await bus.api("INFO")
    except BusUnavailableError as error:
        assert "nobody answers" not in str(error), f"{identity.name} is let in, and not served"
        return False
