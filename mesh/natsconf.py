"""The configuration of a NATS server, rendered as JSON (which nats-server reads as its own format).

The rule: only known keys, each with its role's subjects, and nothing acknowledged before it is on disk. The embedded
server and the servers of a production bus are rendered here, by the same code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from mesh import natsaccounts
from mesh.natsaccounts import JSZ, NO_QUOTAS, Quotas, user_entry
from mesh.permissions import BusUser

__all__ = ["JSZ", "MAX_PAYLOAD", "Cluster", "Leaf", "Quotas", "Remote", "Tls", "render", "render_user"]

MAX_PAYLOAD = 1024 * 1024

_LOG_LIMIT = 16 * 1024 * 1024
_LOG_FILES = 3
_PING_INTERVAL, _PING_MAX = "5s", 2  # a client that is gone without a word is forgotten in 15 s, not in minutes
_TLS_TIMEOUT_S = 5
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Tls:
    """Where a server finds its certificate, its key, and the authority of who connects to it."""

    certificate: str
    key: str
    authority: str
    clients: bool = True  # whether clients must show a certificate too; servers of a cluster always must


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a server knows of its cluster: the name, its own port for routes, and where the others listen for them."""

    name: str
    port: int
    routes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Leaf:
    """Where a server listens for leaf nodes."""

    port: int


@dataclass(frozen=True, slots=True)
class Remote:
    """A hub that a leaf node connects to, for one of its accounts, with the seed of a user there.

    The seed itself stands in the configuration: a file that has one is its owner's alone.
    """

    urls: tuple[str, ...]
    account: str
    seed: str = field(repr=False)


def render(
    *,
    port: int,
    store: Path | None,
    users: Sequence[BusUser],
    name: str,
    log_file: Path | None = None,
    host: str = _LOOPBACK,
    max_file_store: int = 0,
    cluster: Cluster | None = None,
    tls: Tls | None = None,
    quotas: Quotas = NO_QUOTAS,
    monitor_port: int = 0,
    leaf: Leaf | None = None,
    remotes: Sequence[Remote] = (),
    domain: str = "",
) -> bytes:
    """The configuration file. ``max_file_store`` is in bytes; 0 lets the server take what the disk has.

    ``name`` must differ among the servers of a cluster. ``store`` ``None`` is a server without JetStream, such as a
    leaf node for the agents beside a system. ``log_file`` ``None`` logs to stderr. ``monitor_port`` 0 opens none; it
    listens on loopback alone, since it asks nobody who they are.
    """
    config: dict[str, Any] = {
        "listen": f"{host}:{port}",
        "server_name": name,
        "max_payload": MAX_PAYLOAD,
        "ping_interval": _PING_INTERVAL,
        "ping_max": _PING_MAX,
        **_logging(log_file),
        "system_account": natsaccounts.SYSTEM,
        "accounts": natsaccounts.accounts(users, quotas, has_store=store is not None),
    }
    if store is not None:
        config["jetstream"] = _jetstream(store, max_file_store, domain)
    if tls is not None:
        config["tls"] = _tls(tls, verify=tls.clients)
    if cluster is not None:
        config["cluster"] = _cluster(cluster, host, tls)
    if leaf is not None or remotes:
        config["leafnodes"] = _leafnodes(leaf, remotes, host, tls)
        # A leaf node's connection passes JetStream's subjects only for accounts of which this is said.
        roles = (name for name in config["accounts"] if name not in (natsaccounts.SYSTEM, natsaccounts.MESH))
        config["default_js_domain"] = dict.fromkeys(roles, "")
    if monitor_port:
        config["http"] = f"{_LOOPBACK}:{monitor_port}"
    return msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n"


def render_user(user: BusUser) -> bytes:
    """One user of its account, for a server of one's own."""
    return msgspec.json.format(msgspec.json.encode(user_entry(user)), indent=2)


def _logging(log_file: Path | None) -> Mapping[str, Any]:
    if log_file is None:
        return {}
    return {"log_file": str(log_file), "logfile_size_limit": _LOG_LIMIT, "logfile_max_num": _LOG_FILES}


def _jetstream(store: Path, max_file_store: int, domain: str) -> Mapping[str, Any]:
    found: dict[str, Any] = {"store_dir": str(store), "sync_interval": "always"}
    if max_file_store:
        found["max_file_store"] = max_file_store
    if domain:
        found["domain"] = domain
    return found


def _tls(tls: Tls, *, verify: bool) -> Mapping[str, Any]:
    return {
        "cert_file": tls.certificate,
        "key_file": tls.key,
        "ca_file": tls.authority,
        "verify": verify,
        "min_version": "1.3",
        "timeout": _TLS_TIMEOUT_S,
    }


def _cluster(cluster: Cluster, host: str, tls: Tls | None) -> Mapping[str, Any]:
    """Clients keep to the addresses of their settings: those that servers tell are not in the certificates."""
    found: dict[str, Any] = {
        "name": cluster.name,
        "listen": f"{host}:{cluster.port}",
        "routes": list(cluster.routes),
        "no_advertise": True,
    }
    return found if tls is None else found | {"tls": _tls(tls, verify=True)}


def _leafnodes(leaf: Leaf | None, remotes: Sequence[Remote], host: str, tls: Tls | None) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    if leaf is not None:
        found["listen"] = f"{host}:{leaf.port}"
        if tls is not None:
            found["tls"] = _tls(tls, verify=tls.clients)
    if remotes:
        own = {} if tls is None else {"tls": _tls(tls, verify=True)}
        found["remotes"] = [
            {"urls": list(remote.urls), "account": remote.account, "nkey": remote.seed, **own} for remote in remotes
        ]
    return found
