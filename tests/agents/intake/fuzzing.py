"""Mutations of a corpus, each read in a child process that is held to two seconds of CPU and 200 MB for one input.

Run as a module it goes on for as many seconds as it is told; what fails is written to a folder, to become a test.
"""

import multiprocessing
import random
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path

import click

HANG_S = 2.0
BLOW_UP = 200 * 1024 * 1024
_LARGEST = 2_000_000


@dataclass(frozen=True)
class Target:
    """What is fuzzed. ``read`` takes an input, and raises nothing; it is looked up by its place in the child."""

    name: str
    read: Callable[[bytes], None]
    corpus: Callable[[], list[bytes]]
    pieces: Sequence[bytes]

    @property
    def place(self) -> tuple[str, str]:
        """The module and name of ``read``."""
        return self.read.__module__, self.read.__qualname__


class Mutator:
    """Makes inputs of the corpus of a target, by a seed."""

    def __init__(self, target: Target, seed: int) -> None:
        self._rng = random.Random(seed)
        self._corpus = target.corpus()
        self._pieces = target.pieces
        self._mutations = (self._flip, self._cut, self._splice, self._again, self._piece, self._noise)

    def next(self) -> bytes:
        """One input: one of the corpus with one to six mutations."""
        data = bytearray(self._rng.choice(self._corpus))
        for _ in range(self._rng.randint(1, 6)):
            self._rng.choice(self._mutations)(data)
            del data[_LARGEST:]
        return bytes(data)

    def _flip(self, data: bytearray) -> None:
        for _ in range(self._rng.randint(1, 20)):
            if data:
                data[self._rng.randrange(len(data))] ^= 1 << self._rng.randrange(8)

    def _cut(self, data: bytearray) -> None:
        start = self._rng.randint(0, len(data))
        del data[start : start + self._rng.randint(0, len(data))]

    def _splice(self, data: bytearray) -> None:
        other = self._rng.choice(self._corpus)
        start = self._rng.randint(0, len(other))
        at = self._rng.randint(0, len(data))
        data[at:at] = other[start : start + self._rng.randint(0, len(other))]

    def _again(self, data: bytearray) -> None:
        """A line, rather one of the first, several times over."""
        lines = bytes(data).splitlines(keepends=True)
        if lines:
            at = min(self._rng.randrange(len(lines)), self._rng.randrange(len(lines)))
            times = self._rng.choice((1, 2, 50, 2000))
            lines[at:at] = [lines[at]] * min(times, 1 + _LARGEST // len(lines[at]))
            data[:] = b"".join(lines)

    def _piece(self, data: bytearray) -> None:
        at = self._rng.randint(0, len(data))
        data[at:at] = self._rng.choice(self._pieces) * self._rng.choice((1, 2, 10, 500, 30_000))

    def _noise(self, data: bytearray) -> None:
        at = self._rng.randint(0, len(data))
        data[at:at] = self._rng.randbytes(self._rng.choice((1, 30, 3000)))


def _child(pipe: Connection, place: tuple[str, str]) -> None:
    """Read what comes, one after another, and say what each took: seconds of CPU, bytes of memory, or the error."""
    read = getattr(import_module(place[0]), place[1])
    while True:
        data = pipe.recv_bytes()
        started = time.process_time()
        fault = ""
        try:
            read(data)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the finding
            fault = f"{type(error).__name__}: {error}"[:300]
        pipe.send((time.process_time() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, fault))


class Reader:
    """A child that reads inputs of a target; it is started anew when one hangs it or blows it up."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._start()

    def _start(self) -> None:
        self._pipe, other = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=_child, args=(other, self._target.place), daemon=True)
        self._process.start()
        other.close()
        self._base = 0
        self.fault(self._target.corpus()[0], wall_s=60.0)  # imports count for nothing

    def fault(self, data: bytes, *, wall_s: float = 10 * HANG_S) -> str:
        """What is wrong with reading this input; empty when nothing is."""
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
        self._base = self._base or peak
        grown = peak - self._base
        if grown > BLOW_UP // 2:  # what the next one takes would not be seen
            self.close()
            self._start()
        if grown > BLOW_UP:
            return f"blow-up: {grown >> 20} MB"
        return str(fault) or (f"hang: {took_s:.1f} s of CPU" if took_s > HANG_S else "")

    def close(self) -> None:
        """End the child."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


def fuzz(target: Target, seconds: float, seed: int) -> tuple[int, list[tuple[str, bytes]]]:
    """How many inputs were read in that time, and what failed."""
    mutator, reader = Mutator(target, seed), Reader(target)
    count = 0
    failed: list[tuple[str, bytes]] = []
    ends = time.monotonic() + seconds
    try:
        while time.monotonic() < ends and len(failed) < 20:
            data = mutator.next()
            count += 1
            if fault := reader.fault(data):
                failed.append((fault, data))
    finally:
        reader.close()
    return count, failed


@click.command()
@click.argument("name")
@click.option("--seconds", default=300.0, show_default=True)
@click.option("--seed", default=0, help="0: another one each time")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("fuzz-failures"), show_default=True)
def main(name: str, seconds: float, seed: int, folder: Path) -> None:
    """Fuzz the target of this name (see ``tests.agents.intake.targets``)."""
    target = import_module("tests.agents.intake.targets").TARGETS[name]
    seed = seed or random.SystemRandom().randrange(1, 1 << 30)
    count, failed = fuzz(target, seconds, seed)
    click.echo(f"{name}, seed {seed}: {count} inputs, {len(failed)} failed", err=True)
    for number, (fault, data) in enumerate(failed):
        folder.mkdir(exist_ok=True)
        (folder / f"{name}-{seed}-{number}").write_bytes(data)
        click.echo(f"{name}-{seed}-{number}: {fault}", err=True)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
