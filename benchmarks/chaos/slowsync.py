"""A disk whose every fsync is slow: the server's own fsync calls are held for a while by a seccomp supervisor.

The rule: nothing is skipped or faked; each call is made by the kernel as asked, only later (seccomp_unotify(2)).

``python -m benchmarks.chaos.slowsync SOCKET PROGRAM ARGUMENT...`` puts the filter on and becomes the program.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import os
import platform
import select
import shlex
import socket
import struct
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from mesh.errors import WorkmeshError

# Numbers of linux/seccomp.h, linux/filter.h, linux/prctl.h and the system call tables.
_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER, _NEW_LISTENER = 1, 8
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_USER_NOTIF, _ALLOW = 0x7FC00000, 0x7FFF0000
_RECV, _SEND = 0xC0502100, 0xC0182101
_NOTIF_SIZE = 80
_CONTINUE = 1
_SECCOMP, _FSYNC, _FDATASYNC = {"x86_64": (317, 74, 75), "aarch64": (277, 82, 83)}.get(platform.machine(), (0, 0, 0))


class _Filter(ctypes.Structure):
    _fields_ = (("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint))


class _Program(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.POINTER(_Filter)))


class SlowSync:
    """Holds each fsync of a program for ``delay_s``, 0 at first. ``launcher`` starts the program under it."""

    def __init__(self, folder: Path, program: Path) -> None:
        self._socket_path = folder / "sync.sock"
        self.launcher = folder / "slow-sync"
        self._program = program
        self._listener: socket.socket | None = None
        self._notify = -1
        self._accepting: asyncio.Task[None] | None = None
        self.delay_s = 0.0
        self.calls = self.delayed = 0

    async def __aenter__(self) -> Self:
        command = [sys.executable, "-m", "benchmarks.chaos.slowsync", str(self._socket_path), str(self._program)]
        self.launcher.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', encoding="utf-8")
        self.launcher.chmod(0o700)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.setblocking(False)
        self._listener.bind(str(self._socket_path))
        self._listener.listen()
        self._accepting = asyncio.create_task(self._accept(self._listener), name="slow-sync")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.gather(self._accepting, return_exceptions=True)
        self._leave()
        if self._listener is not None:
            self._listener.close()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            peer, _ = await loop.sock_accept(listener)
            with peer:
                peer.setblocking(True)
                _, found, _, _ = await asyncio.to_thread(socket.recv_fds, peer, 1, 1)
            self._leave()  # of an earlier life of the program
            self._notify = found[0]
            loop.add_reader(self._notify, self._take, self._notify)

    def _leave(self) -> None:
        if self._notify >= 0:
            asyncio.get_running_loop().remove_reader(self._notify)
            os.close(self._notify)
        self._notify = -1

    def _take(self, notify: int) -> None:
        request = bytearray(_NOTIF_SIZE)
        try:
            fcntl.ioctl(notify, _RECV, request)
        except OSError:  # the program ended, or the call was interrupted
            if self._notify == notify and not _lives(notify):
                self._leave()
            return
        (call,) = struct.unpack_from("<Q", request)
        self.calls += 1
        self.delayed += self.delay_s > 0
        asyncio.get_running_loop().call_later(self.delay_s, self._let, notify, call)

    def _let(self, notify: int, call: int) -> None:
        with contextlib.suppress(OSError):
            fcntl.ioctl(notify, _SEND, bytearray(struct.pack("<QqiI", call, 0, 0, _CONTINUE)))


def _lives(notify: int) -> bool:
    poll = select.poll()
    poll.register(notify, select.POLLIN)
    return not any(event & select.POLLHUP for _, event in poll.poll(0))


def put_on() -> int:
    """Put the filter on this process and all that it becomes; the descriptor that tells of each fsync.

    Raises ``WorkmeshError`` where the kernel has no such filters.
    """
    if not _SECCOMP:
        raise WorkmeshError(f"no system call numbers for {platform.machine()}: add them")
    steps = (
        _Filter(_LOAD, 0, 0, 0),
        _Filter(_EQUAL, 1, 0, _FSYNC),
        _Filter(_EQUAL, 0, 1, _FDATASYNC),
        _Filter(_RETURN, 0, 0, _USER_NOTIF),
        _Filter(_RETURN, 0, 0, _ALLOW),
    )
    program = _Program(len(steps), (_Filter * len(steps))(*steps))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise WorkmeshError(f"prctl: {os.strerror(ctypes.get_errno())}")
    notify: int = libc.syscall(_SECCOMP, _SET_MODE_FILTER, _NEW_LISTENER, ctypes.byref(program))
    if notify < 0:
        raise WorkmeshError(f"seccomp: {os.strerror(ctypes.get_errno())}: it needs Linux 5.5")
    return notify


def main(path: str, program: str, *arguments: str) -> None:
    """Hand the descriptor to the supervisor, and become the program."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(path)
        notify = put_on()
        socket.send_fds(peer, [b"n"], [notify])
    os.close(notify)
    os.execv(program, [program, *arguments])


if __name__ == "__main__":
    main(*sys.argv[1:])
