"""The configuration of the embedded NATS server, rendered as JSON (which nats-server reads as its own format).

The rule: only loopback, only known keys, and nothing acknowledged before it is on disk.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from mesh.permissions import BusUser

MAX_PAYLOAD = 1024 * 1024
JSZ = "durability.jsz"
"""Where a process asks how JetStream syncs to disk: ``$SYS.REQ.SERVER.PING.JSZ``, imported into our account."""

_JSZ = "$SYS.REQ.SERVER.PING.JSZ"
_SYSTEM = "SYS"
_MESH = "MESH"
_LOG_LIMIT = 16 * 1024 * 1024
_LOG_FILES = 3
_PING_INTERVAL, _PING_MAX = "5s", 2  # a client that is gone without a word is forgotten in 15 s, not in minutes
_ANSWER_WITHIN = "30s"


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a server knows of its cluster: the name, its own port for routes, and where the others listen for them."""

    name: str
    port: int
    routes: tuple[str, ...]


def render(
    *,
    port: int,
    store: Path,
    log_file: Path,
    users: Sequence[BusUser],
    name: str,
    max_file_store: int = 0,
    cluster: Cluster | None = None,
) -> bytes:
    """The configuration file. ``max_file_store`` is in bytes; 0 lets the server take what the disk has.

    ``name`` must differ among the servers of a cluster. No monitoring, leaf node or websocket port is opened.
    """
    jetstream: dict[str, Any] = {"store_dir": str(store), "sync_interval": "always"}
    if max_file_store:
        jetstream["max_file_store"] = max_file_store
    config: dict[str, Any] = {
        "listen": f"127.0.0.1:{port}",
        "server_name": name,
        "max_payload": MAX_PAYLOAD,
        "ping_interval": _PING_INTERVAL,
        "ping_max": _PING_MAX,
        "log_file": str(log_file),
        "logfile_size_limit": _LOG_LIMIT,
        "logfile_max_num": _LOG_FILES,
        "jetstream": jetstream,
        "system_account": _SYSTEM,
        "accounts": {
            # What the durability check asks: the system account's own answer on JetStream's settings, nothing else.
            _SYSTEM: {"exports": [{"service": _JSZ, "accounts": [_MESH]}]},
            _MESH: {
                "jetstream": "enabled",
                "users": [_user(user) for user in users],
                "imports": [{"service": {"account": _SYSTEM, "subject": _JSZ}, "to": JSZ}],
            },
        },
    }
    if cluster is not None:
        routes = list(cluster.routes)
        config["cluster"] = {"name": cluster.name, "listen": f"127.0.0.1:{cluster.port}", "routes": routes}
    return msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n"


def render_user(user: BusUser) -> bytes:
    """One user of the account, for a server of one's own."""
    return msgspec.json.format(msgspec.json.encode(_user(user)), indent=2)


def _user(user: BusUser) -> dict[str, Any]:
    granted = user.permissions()
    permissions: dict[str, Any] = {
        "publish": {"allow": granted.publish} if granted.publish else {"deny": [">"]},
        "subscribe": {"allow": granted.subscribe},
    }
    if granted.answers:
        permissions["allow_responses"] = {"max": 1, "expires": _ANSWER_WITHIN}
    return {"nkey": user.public_key, "permissions": permissions}
