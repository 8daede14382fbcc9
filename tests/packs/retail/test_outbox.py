"""Letters to customers: whole files, written once, and what a mail server's answers say of how far one got."""

import asyncio
import email
import email.policy
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mesh.errors import NotSentError, ToolError, ToolRefusedError, UncertainError
from mesh.mounts.smtp import SmtpServer
from mesh.records import Json
from mesh.toolbox import Toolbox
from packs.retail.arguments import NotifyArgs
from packs.retail.outbox import FolderOutbox, SmtpOutbox
from tests.packs.retail.storefront import toolbox

LETTER = {
    "order_id": "#W1234567",
    "user_id": "ann_1",
    "email": "ann.o'hara+shop@example.com",
    "subject": "Your return from order #W1234567",
    "body": "Dear Zoë,\n\nall is well.\n.\nYour shop\n",
}


def _json(value: Any) -> Json:
    return msgspec.Raw(msgspec.json.encode(value))


async def _call(box: Toolbox, tool: str, args: Json, key: str = "wm-t-change") -> dict[str, Any]:
    answer = await box.call(box.find(tool), args, key=key, epoch=1, call_by=time.time() + 30)
    decoded: dict[str, Any] = msgspec.json.decode(answer)
    return decoded


async def _verify(box: Toolbox, tool: str, args: Json, key: str = "wm-t-change") -> dict[str, Any] | None:
    answer = await box.verify(box.find(tool), args, key=key, epoch=1)
    decoded: dict[str, Any] | None = None if answer is None else msgspec.json.decode(answer)
    return decoded


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def _folder(path: Path) -> Toolbox:
    return toolbox({"outbox": FolderOutbox(path, "orders@shop.example")})


async def test_a_letter_is_a_file_that_any_mail_program_reads(tmp_path: Path) -> None:
    answer = await _call(_folder(tmp_path / "out"), "retail.notify", _json(LETTER), "wm-t-notify")
    data = (tmp_path / "out" / "wm-t-notify.eml").read_bytes()
    letter = email.message_from_bytes(data, policy=email.policy.default)
    assert not letter.defects
    assert (letter["To"], letter["From"]) == (LETTER["email"], "orders@shop.example")
    assert letter["Subject"] == LETTER["subject"]
    assert letter["Message-ID"] == answer["message_id"] == "<wm-t-notify@shop.example>"
    assert letter["Auto-Submitted"] == "auto-generated"
    assert letter["Date"].datetime.tzinfo is not None
    body = letter.get_body()
    assert body is not None and body.get_content().replace("\r\n", "\n") == LETTER["body"]
    assert data.count(b"\n") == data.count(b"\r\n")


async def test_a_letter_is_written_once_however_often_and_at_once_it_is_asked_for(tmp_path: Path) -> None:
    box = _folder(tmp_path)
    answers = await asyncio.gather(*(_call(box, "retail.notify", _json(LETTER), "wm-t-notify") for _ in range(16)))
    assert [answer["replayed"] for answer in answers].count(False) == 1
    first = (tmp_path / "wm-t-notify.eml").read_bytes()
    other = await _call(box, "retail.notify", _json(LETTER | {"body": "another"}), "wm-t-notify")
    assert other["replayed"] is True
    assert (tmp_path / "wm-t-notify.eml").read_bytes() == first
    assert _names(tmp_path) == ["wm-t-notify.eml"]  # no temporary file is left


async def test_a_folder_tells_which_letters_it_holds(tmp_path: Path) -> None:
    box = _folder(tmp_path / "not" / "yet")
    assert await _verify(box, "retail.notify", _json(LETTER), "wm-t-notify") is None
    written = await _call(box, "retail.notify", _json(LETTER), "wm-t-notify")
    found = await _verify(box, "retail.notify", _json(LETTER), "wm-t-notify")
    assert found == written | {"replayed": True}


async def test_a_folder_that_cannot_be_written_was_sent_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(NotSentError):
        await _call(_folder(tmp_path / "file"), "retail.notify", _json(LETTER), "wm-t-notify")


@pytest.mark.parametrize(
    "address",
    [
        "ann@example.com, eve@example.com",
        "ann@example.com\r\nBcc: eve@example.com",
        "ann@example.com\nBcc: eve@example.com",
        "Ann <ann@example.com>",
        "nowhere",
        "a@",
        "@b.c",
        "zo\u00eb@example.com",
        '"x',
        "(((",
    ],
)
async def test_what_is_no_single_address_gets_no_letter(tmp_path: Path, address: str) -> None:
    with pytest.raises(ToolRefusedError):
        await _call(_folder(tmp_path), "retail.notify", _json(LETTER | {"email": address}), "wm-t-notify")
    assert _names(tmp_path) == []


@pytest.mark.parametrize("key", ["", "..", "../up", ".hidden", "a/b", "a\0b", "a\nb", "k" * 201])
async def test_a_key_is_never_a_path(tmp_path: Path, key: str) -> None:
    outbox = FolderOutbox(tmp_path / "out", "orders@shop.example")
    args = msgspec.convert(LETTER, NotifyArgs)
    for asked in (outbox.send(args, key), outbox.find(key)):
        with pytest.raises(ToolRefusedError):
            await asked
    assert _names(tmp_path) == []


class MailServer:
    """A small SMTP server; ``answers`` replaces the answer to a command, None hangs up instead."""

    def __init__(self, answers: dict[str, str | None]) -> None:
        self.port = 0
        self.letters: list[bytes] = []
        self._answers: dict[str, str | None] = {"EHLO": "250 mail", "QUIT": "221 bye", "DATA": "354 go on"}
        self._answers |= {".": "250 taken"} | answers

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Speak with one client until it goes."""
        writer.write(b"220 mail ready\r\n")
        try:
            while line := await reader.readline():
                verb = line.decode().strip().partition(" ")[0].upper()
                if verb == "DATA" and (self._answers["DATA"] or "").startswith("354"):
                    writer.write(b"354 go on\r\n")
                    self.letters.append(await reader.readuntil(b"\r\n.\r\n"))
                    verb = "."
                answer = self._answers.get(verb, "250 fine")
                if answer is None:
                    break
                writer.write(answer.encode() + b"\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def _mail(answers: dict[str, str | None], user: str = "") -> AsyncIterator[tuple[MailServer, Toolbox]]:
    mail = MailServer(answers)
    async with await asyncio.start_server(mail.handle, "127.0.0.1", 0) as server:
        mail.port = server.sockets[0].getsockname()[1]
        there = SmtpServer(host="127.0.0.1", port=mail.port, secure=False, user=user, password="hush")
        outbox = SmtpOutbox(there, "orders@shop.example")
        yield mail, toolbox({"outbox": outbox}, smtp_url="smtp://127.0.0.1")


async def test_a_mail_server_gets_the_letter_with_the_message_id_of_its_key() -> None:
    async with _mail({}) as (mail, box):
        answer = await _call(box, "retail.notify", _json(LETTER), "wm-t-notify")
    letter = email.message_from_bytes(mail.letters[0], policy=email.policy.default)
    assert letter["Message-ID"] == answer["message_id"] == "<wm-t-notify@shop.example>"
    assert letter["To"] == LETTER["email"]


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ({"RCPT": "550 no such person"}, ToolRefusedError),
        ({"RCPT": "450 try later"}, NotSentError),
        ({"MAIL": "553 not you"}, ToolRefusedError),
        ({"DATA": "451 no room"}, NotSentError),
        ({".": "554 refused"}, ToolRefusedError),
        ({".": None}, UncertainError),
        ({"EHLO": None, "HELO": None}, NotSentError),
    ],
)
async def test_what_a_mail_server_says_tells_how_far_a_letter_got(
    answers: dict[str, str | None], error: type[ToolError]
) -> None:
    async with _mail(answers) as (_, box):
        with pytest.raises(error):
            await _call(box, "retail.notify", _json(LETTER), "wm-t-notify")


async def test_a_letter_counts_as_sent_even_if_the_goodbye_fails() -> None:
    async with _mail({"QUIT": None}) as (mail, box):
        await _call(box, "retail.notify", _json(LETTER), "wm-t-notify")
    assert len(mail.letters) == 1


async def test_a_letter_in_doubt_is_sent_only_once() -> None:
    async with _mail({".": None}) as (mail, box):
        with pytest.raises(UncertainError):
            await _call(box, "retail.notify", _json(LETTER), "wm-t-notify")
    assert len(mail.letters) == 1


async def test_a_password_never_goes_over_a_line_without_tls() -> None:
    async with _mail({}, user="shop") as (mail, box):
        with pytest.raises(NotSentError, match="TLS"):
            await _call(box, "retail.notify", _json(LETTER), "wm-t-notify")
    assert mail.letters == []


async def test_a_mail_server_that_is_down_was_sent_nothing() -> None:
    async with _mail({}) as (mail, box):
        pass
    assert mail.port
    with pytest.raises(NotSentError):
        await _call(box, "retail.notify", _json(LETTER), "wm-t-notify")
