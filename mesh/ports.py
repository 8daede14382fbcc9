"""Free ports for servers that keep theirs."""

import random
import socket
from pathlib import Path

from mesh.errors import SettingsError

_LOCAL_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOCAL_PORTS_BEGIN = 32_768  # where Linux begins them by default
_FIRST_PORT = 10_000
_TRIES = 100


def free_port() -> int:
    """A free port of 127.0.0.1 below those that the kernel gives to outgoing connections.

    One of those could be taken whenever the server is away, even by a client that tries to reach it (ip(7)).
    """
    try:
        end = int(_LOCAL_PORTS.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        end = _LOCAL_PORTS_BEGIN
    for _ in range(_TRIES):
        port = random.randrange(_FIRST_PORT, max(end, _FIRST_PORT + 1))
        if is_free(port):
            return port
    raise SettingsError(f"no free port on 127.0.0.1 from {_FIRST_PORT} to {end} in {_TRIES} tries")


def is_free(port: int) -> bool:
    """Whether nobody listens on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
