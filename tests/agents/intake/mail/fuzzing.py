"""Mutations of the corpus, each read in a child process that is held to two seconds of CPU and 200 MB for one message.

Run as a module it goes on for as many seconds as it is told; what fails is written to a folder, to become a test.
"""

import multiprocessing
import random
import resource
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import click

from agents.intake.errors import UnreadableError
from agents.intake.mail.message import mail_key, read_mail
from tests.agents.intake.mail.golden import corpus

HANG_S = 2.0
BLOW_UP = 200 * 1024 * 1024
_PIECES = (
    b"\n", b"\r\n\r\n", b"\x00", b"=?", b"?=", b"=?utf-8?q?", b"=?utf-7?b?", b"(", b")", b"<", b">", b'"', b"\\", b";",
    b"--", b"begin 644 x\n", b"\nend\n", b"Content-Type: multipart/mixed; boundary=a\n\n--a\n", b"--a--\n", b"On ",
    b" wrote:\n", b"> ", b"charset=utf-16", b"charset=idna", b"charset=hz", b"Content-Transfer-Encoding: base64\n",
    b"<div>", b"<blockquote>", b"<table><tr><td>", b"\xff", b"\xc3", b"&#x0;", b"*0*=", b"filename*=utf-8''%",
    b"From: a@b, ", b"-- \n", b"From: x\nSent: y\nTo: z\n", b"Content-Type: message/delivery-status\n\n", b"_" * 50,
    b"\xe2\x80\xae", b"<!--",
)  # fmt: skip


def mutated(rng: random.Random, messages: list[bytes]) -> bytes:
    """One input: a message with one to six mutations."""
    data = bytearray(rng.choice(messages))
    for _ in range(rng.randint(1, 6)):
        rng.choice(_MUTATIONS)(rng, data, messages)
    return bytes(data[:2_000_000])


def _flip(rng: random.Random, data: bytearray, _: list[bytes]) -> None:
    for _each in range(rng.randint(1, 20)):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _cut(rng: random.Random, data: bytearray, _: list[bytes]) -> None:
    start = rng.randint(0, len(data))
    del data[start : start + rng.randint(0, len(data))]


def _splice(rng: random.Random, data: bytearray, messages: list[bytes]) -> None:
    other = rng.choice(messages)
    start = rng.randint(0, len(other))
    at = rng.randint(0, len(data))
    data[at:at] = other[start : start + rng.randint(0, len(other))]


def _again(rng: random.Random, data: bytearray, _: list[bytes]) -> None:
    """A header, or another line, several times over."""
    lines = bytes(data).splitlines(keepends=True)
    if lines:
        at = min(rng.randrange(len(lines)), rng.randrange(len(lines)))
        lines[at:at] = [lines[at]] * rng.choice((1, 2, 50, 2000))
        data[:] = b"".join(lines)


def _piece(rng: random.Random, data: bytearray, _: list[bytes]) -> None:
    at = rng.randint(0, len(data))
    data[at:at] = rng.choice(_PIECES) * rng.choice((1, 2, 10, 500, 30_000))


def _noise(rng: random.Random, data: bytearray, _: list[bytes]) -> None:
    at = rng.randint(0, len(data))
    data[at:at] = rng.randbytes(rng.choice((1, 30, 3000)))


_MUTATIONS: tuple[Callable[[random.Random, bytearray, list[bytes]], None], ...] = (
    _flip, _cut, _splice, _again, _piece, _noise,
)  # fmt: skip


def _child(pipe: Connection) -> None:
    """Read what comes, one after another, and say what each took: seconds of CPU, bytes of memory, or the error."""
    while True:
        data = pipe.recv_bytes()
        started = time.process_time()
        fault = ""
        try:
            read_mail(data)
            mail_key(data)
        except UnreadableError:
            pass
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the finding
            fault = f"{type(error).__name__}: {error}"[:300]
        pipe.send((time.process_time() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, fault))


class Reader:
    """A child that reads messages; it is started anew when one hangs it or blows it up."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._pipe, other = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=_child, args=(other,), daemon=True)
        self._process.start()
        other.close()
        self._peak = 0
        self.fault(b"From: a@b.c\n\nx\n", wall_s=60.0)  # imports count for nothing

    def fault(self, data: bytes, *, wall_s: float = 10 * HANG_S) -> str:
        """What is wrong with reading this message; empty when nothing is."""
        self._pipe.send_bytes(data)
        if not self._pipe.poll(wall_s):
            self.close()
            self._start()
            return f"hang: no answer in {wall_s} s"
        try:
            took_s, peak, fault = self._pipe.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            self._start()
            return f"crash: exit code {code}"
        grown = peak - self._peak if self._peak else 0
        self._peak = peak
        if grown > BLOW_UP:
            return f"blow-up: {grown >> 20} MB"
        return str(fault) or (f"hang: {took_s:.1f} s of CPU" if took_s > HANG_S else "")

    def close(self) -> None:
        """End the child."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


def fuzz(seconds: float, seed: int) -> tuple[int, list[tuple[str, bytes]]]:
    """How many inputs were read in that time, and what failed."""
    rng, messages, reader = random.Random(seed), [path.read_bytes() for path in corpus()], Reader()
    count = 0
    failed: list[tuple[str, bytes]] = []
    ends = time.monotonic() + seconds
    try:
        while time.monotonic() < ends and len(failed) < 20:
            data = mutated(rng, messages)
            count += 1
            if fault := reader.fault(data):
                failed.append((fault, data))
    finally:
        reader.close()
    return count, failed


@click.command()
@click.option("--seconds", default=300.0, show_default=True)
@click.option("--seed", default=0, help="0: another one each time")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("fuzz-failures"), show_default=True)
def main(seconds: float, seed: int, folder: Path) -> None:
    """Fuzz the reading of mail."""
    seed = seed or random.SystemRandom().randrange(1, 1 << 30)
    count, failed = fuzz(seconds, seed)
    click.echo(f"seed {seed}: {count} inputs, {len(failed)} failed", err=True)
    for number, (fault, data) in enumerate(failed):
        folder.mkdir(exist_ok=True)
        (folder / f"{seed}-{number}.eml").write_bytes(data)
        click.echo(f"{seed}-{number}.eml: {fault}", err=True)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
