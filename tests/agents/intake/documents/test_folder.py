"""A watched folder: no file in half, none lost, none twice, none deleted."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agents.intake.arrival import CUT, Arrival
from agents.intake.documents import folder as module
from agents.intake.documents.folder import watch_folder
from mesh.errors import RetryableError
from mesh.lifetime import background
from mesh.sources import Folder
from tests.ledger_pack.running import until


class Taker:
    """Takes arrivals, or is away."""

    def __init__(self) -> None:
        self.found: list[Arrival] = []
        self.is_away = False

    async def __call__(self, arrival: Arrival) -> None:
        if self.is_away:
            raise RetryableError("away")
        self.found.append(arrival)


@asynccontextmanager
async def watched(folder: Path, settle_s: float = 0.0) -> AsyncIterator[Taker]:
    taker = Taker()
    setting = Folder(mapping="m.yaml", folder=str(folder), pattern="*.csv", settle_s=settle_s, poll_s=0.05)
    async with background(watch_folder("erp", setting, taker), "watch"):
        yield taker


def left_in(folder: Path) -> list[Path]:
    """The files that match and are still there."""
    return list(folder.glob("*.csv"))


def aged(path: Path, data: bytes = b"id\n1\n") -> Path:
    """A file that nobody has written to for a while."""
    path.write_bytes(data)
    os.utime(path, (time.time() - 60, time.time() - 60))
    return path


async def number(taker: Taker, count: int) -> None:
    async def is_so() -> bool:
        return len(taker.found) >= count

    await until(is_so)


async def test_files_are_taken_oldest_first_and_moved_away(tmp_path: Path) -> None:
    for age, name in ((30, "b.csv"), (60, "c.csv"), (10, "a.csv")):
        path = aged(tmp_path / name, name.encode())
        os.utime(path, (time.time() - age, time.time() - age))
    async with watched(tmp_path) as taker:
        await number(taker, 3)
        assert [arrival.data for arrival in taker.found] == [b"c.csv", b"b.csv", b"a.csv"]
        assert {arrival.content_type for arrival in taker.found} == {"text/csv"}

        async def is_moved() -> bool:
            return sorted(path.name for path in (tmp_path / "taken").iterdir()) == ["a.csv", "b.csv", "c.csv"]

        await until(is_moved)
        aged(tmp_path / "a.csv", b"the same name again")
        await number(taker, 4)
    assert taker.found[-1].key != taker.found[2].key
    assert sorted(path.name for path in (tmp_path / "taken").iterdir()) == ["a.2.csv", "a.csv", "b.csv", "c.csv"]
    assert {path.name for path in left_in(tmp_path)} == set()


async def test_a_file_that_still_grows_is_left_until_it_rests(tmp_path: Path) -> None:
    async with watched(tmp_path, settle_s=0.6) as taker:
        path = tmp_path / "slow.csv"
        with path.open("wb") as file:
            for part in range(8):
                file.write(b"%d\n" % part)
                file.flush()
                await asyncio.sleep(0.15)
                assert taker.found == []
        await number(taker, 1)
    assert taker.found[0].data == b"".join(b"%d\n" % part for part in range(8))


async def test_what_is_no_plain_file_of_this_kind_is_left_alone(tmp_path: Path) -> None:
    aged(tmp_path / "half.csv.part")
    aged(tmp_path / ".hidden.csv")
    aged(tmp_path / "other.txt")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "link.csv").symlink_to(aged(tmp_path / "secret"))
    async with watched(tmp_path) as taker:
        aged(tmp_path / "real.csv")
        await number(taker, 1)
        await asyncio.sleep(0.3)
    assert [arrival.key.partition("/")[0] for arrival in taker.found] == ["real.csv"]


async def test_while_it_cannot_be_taken_a_file_stays(tmp_path: Path) -> None:
    aged(tmp_path / "one.csv")
    async with watched(tmp_path) as taker:
        taker.is_away = True
        await asyncio.sleep(0.4)
        assert (tmp_path / "one.csv").exists()
        taker.is_away = False
        await number(taker, 1)


async def test_a_file_that_is_too_large_is_handed_on_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FILE_MAX", 100_000)
    aged(tmp_path / "huge.csv", b"x" * 200_000)
    async with watched(tmp_path) as taker:
        await number(taker, 1)
    (arrival,) = taker.found
    assert (len(arrival.data), arrival.headers[CUT]) == (65_536, "200000 bytes, of which 100000 are read")
