"""Readiness for whoever started the process, by the protocol of ``sd_notify(3)``: systemd's and our supervisor's."""

import os
import socket


def notify(state: str) -> None:
    """Send ``state`` (such as ``READY=1``) to ``$NOTIFY_SOCKET``, if there is one."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.sendto(state.encode(), address)
        except OSError:
            return  # who asked to be told is gone
