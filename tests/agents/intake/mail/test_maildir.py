"""A maildir: each message once, marked by its flag, none deleted, and nothing followed out of the folder."""

import asyncio
import os
from pathlib import Path

from agents.intake.arrival import Arrival
from agents.intake.mail.maildir import watch_maildir
from mesh.errors import RetryableError
from tests.agents.intake.mail.letters import letter
from tests.agents.intake.mail.mailboxes import Taken


def maildir(folder: Path) -> Path:
    for part in ("new", "cur", "tmp"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    return folder


def names(folder: Path, part: str) -> list[str]:
    return sorted(os.listdir(folder / part))


async def test_new_then_cur_are_taken_once_and_get_the_flag(tmp_path: Path) -> None:
    folder, taken = maildir(tmp_path), Taken()
    (folder / "new" / "1.a").write_bytes(letter("one"))
    (folder / "cur" / "2.a:2,F").write_bytes(letter("two"))
    (folder / "cur" / "3.a:2,S").write_bytes(letter("seen"))
    (folder / "tmp" / "4.a").write_bytes(letter("half wri"))
    for _ in range(2):
        await watch_maildir(folder, taken, poll_s=0)
    assert [each.data for each in taken.all] == [letter("one"), letter("two")]
    assert taken.keys() == ["1@shop.example"] * 2
    assert names(folder, "new") == []
    assert names(folder, "cur") == ["1.a:2,S", "2.a:2,FS", "3.a:2,S"]
    assert names(folder, "tmp") == ["4.a"]


async def test_a_message_is_marked_only_after_it_was_taken(tmp_path: Path) -> None:
    folder = maildir(tmp_path)
    (folder / "new" / "1.a").write_bytes(letter("one"))
    seen: list[list[str]] = []
    refusals = [RetryableError("away", delay_s=0.01)] * 2

    async def look(_: Arrival) -> None:
        seen.append(names(folder, "new"))
        if refusals:
            raise refusals.pop()

    taken = Taken(look)
    await watch_maildir(folder, taken, poll_s=0)
    assert seen == [["1.a"]] * 3
    assert len(taken.all) == 1


async def test_links_pipes_and_what_cannot_be_read_are_left_alone(tmp_path: Path) -> None:
    folder, taken = maildir(tmp_path / "box"), Taken()
    (tmp_path / "secret").write_bytes(letter("not mail"))
    (folder / "new" / "1.link").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / "new" / "2.pipe")
    (folder / "new" / "3.folder").mkdir()
    (folder / "new" / "4.a").write_bytes(letter("mail"))
    await watch_maildir(folder, taken, poll_s=0)
    assert [each.data for each in taken.all] == [letter("mail")]
    assert names(folder, "new") == ["1.link", "2.pipe", "3.folder"]


async def test_a_file_that_another_program_moves_meanwhile_is_no_error(tmp_path: Path) -> None:
    folder = maildir(tmp_path)
    (folder / "new" / "1.a").write_bytes(letter("one"))
    (folder / "new" / "2.a").write_bytes(letter("two"))

    async def move(_: Arrival) -> None:
        for name in names(folder, "new"):
            os.rename(folder / "new" / name, folder / "cur" / f"{name}:2,S")

    taken = Taken(move)
    await watch_maildir(folder, taken, poll_s=0)
    assert [each.data for each in taken.all] == [letter("one")]
    assert names(folder, "cur") == ["1.a:2,S", "2.a:2,S"]


async def test_a_taken_file_never_replaces_another(tmp_path: Path) -> None:
    folder, taken = maildir(tmp_path), Taken()
    (folder / "new" / "1.a").write_bytes(letter("new"))
    (folder / "cur" / "1.a:2,S").write_bytes(letter("old"))
    await watch_maildir(folder, taken, poll_s=0)
    assert names(folder, "cur") == ["1.a:2,S", "1.a_1:2,S"]


async def test_a_file_over_the_limit_comes_cut(tmp_path: Path) -> None:
    folder, taken = maildir(tmp_path), Taken()
    (folder / "new" / "1.a").write_bytes(letter("x" * 5000))
    await watch_maildir(folder, taken, poll_s=0, most_bytes=1000)
    assert (len(taken.all[0].data), taken.all[0].headers["cut"]) == (1001, "true")


async def test_watching_takes_what_arrives_later(tmp_path: Path) -> None:
    folder, came = maildir(tmp_path), asyncio.Event()

    async def tell(_: Arrival) -> None:
        came.set()

    task = asyncio.create_task(watch_maildir(folder, Taken(tell), poll_s=0.01))
    (folder / "tmp" / "1.a").write_bytes(letter("later"))
    os.rename(folder / "tmp" / "1.a", folder / "new" / "1.a")
    await asyncio.wait_for(came.wait(), 10)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
