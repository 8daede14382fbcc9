"""An IMAP mailbox loses and repeats nothing: against a real server, over restarts, kills and changes under way."""

import asyncio
import datetime
import logging
import signal
import ssl
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agents.intake.arrival import Arrival
from agents.intake.errors import UnreadableError
from agents.intake.mail.imap import ImapAccount, poll_imap
from agents.intake.mail.mail import MailLimits
from agents.intake.mail.message import read_mail
from mesh.errors import RetryableError, SettingsError
from tests.agents.intake.mail.mailboxes import (
    PASSWORD,
    FileMarks,
    Taken,
    account,
    append,
    client,
    free_port,
    imap_server,
)

ROOT = Path(__file__).parents[4]


def message(number: int, body: str = "words") -> bytes:
    return f"From: a@b.example\r\nMessage-ID: <{number}@b.example>\r\n\r\n{body}\r\n".encode()


def keys(*numbers: int) -> list[str]:
    return [f"{number}@b.example" for number in numbers]


async def test_each_message_is_taken_once_in_order_and_stays_unread(tmp_path: Path) -> None:
    port, taken, marks = free_port(), Taken(), FileMarks(tmp_path)
    with imap_server(port):
        append(port, message(1), message(2))
        await poll_imap(account(port, tmp_path), taken, marks)
        await poll_imap(account(port, tmp_path), taken, marks)
        append(port, message(3))
        await poll_imap(account(port, tmp_path), taken, marks)
        with client(port) as program:
            program.select_folder("INBOX", readonly=True)
            assert len(program.search("UNSEEN")) == 3
    assert taken.keys() == keys(1, 2, 3)
    assert taken.all[0].data == message(1)
    assert (taken.all[0].source, taken.all[0].content_type) == ("support", "message/rfc822")
    assert taken.all[0].received_at.utcoffset() == datetime.timedelta()


async def test_a_poller_that_is_killed_between_taking_and_marking_loses_nothing(tmp_path: Path) -> None:
    port = free_port()
    with imap_server(port):
        append(port, *(message(number) for number in range(1, 7)))
        command = [sys.executable, "-m", "tests.agents.intake.mail.mailboxes", str(port), str(tmp_path)]
        for kill_at in ("3", "2", "0"):
            process = await asyncio.create_subprocess_exec(*command, kill_at, cwd=ROOT)
            assert await process.wait() == (-signal.SIGKILL if kill_at != "0" else 0)
    lines = (tmp_path / "taken").read_text(encoding="utf-8").splitlines()
    assert [line.split()[1] for line in lines] == keys(1, 2, 3, 3, 4, 4, 5, 6)
    assert len(set(lines)) == 6  # what came twice came under the same source, key and digest


async def test_polling_goes_on_over_a_server_that_goes_and_comes_back_under_a_new_uidvalidity(tmp_path: Path) -> None:
    port, taken = free_port(), Taken()
    task = asyncio.create_task(poll_imap(account(port, tmp_path, 0.05), taken, FileMarks(tmp_path)))
    try:
        with imap_server(port):
            await asyncio.to_thread(append, port, message(1), message(2))
            await until(lambda: len(taken.all) == 2)
        with imap_server(port):  # its mailbox has other UIDs for the same messages
            await asyncio.to_thread(append, port, message(1), message(2), message(3))
            await until(lambda: len(taken.all) == 5)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    named = {(each.source, each.key, each.digest) for each in taken.all}
    assert sorted(key for _, key, _ in named) == keys(1, 2, 3)
    assert taken.keys() == keys(1, 2, 1, 2, 3)


async def until(holds: object) -> None:
    assert callable(holds)
    for _ in range(1500):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to that")


async def test_messages_expunged_under_way_are_passed_over(tmp_path: Path) -> None:
    port = free_port()

    async def expunge(arrival: Arrival) -> None:
        if arrival.key == keys(1)[0]:
            await asyncio.to_thread(remove)

    def remove() -> None:
        with client(port) as program:
            program.select_folder("INBOX")
            program.delete_messages(program.search()[1:2])
            program.expunge()

    taken, marks = Taken(expunge), FileMarks(tmp_path)
    with imap_server(port):
        append(port, *(message(number) for number in (1, 2, 3)))
        await poll_imap(account(port, tmp_path), taken, marks)
        append(port, message(4))
        await poll_imap(account(port, tmp_path), taken, marks)
    assert [key for key in taken.keys() if key != keys(2)[0]] == keys(1, 3, 4)


async def test_a_message_over_the_limit_comes_cut_is_refused_by_its_reader_and_holds_nothing_up(tmp_path: Path) -> None:
    port, taken = free_port(), Taken()
    with imap_server(port):
        append(port, message(1, "x" * 5000), message(2))
        await poll_imap(account(port, tmp_path, most_bytes=2000), taken, FileMarks(tmp_path))
    assert taken.keys() == keys(1, 2)
    large = taken.all[0]
    assert (len(large.data), large.headers["cut"]) == (2001, "true")
    assert int(large.headers["size"]) > 5000
    with pytest.raises(UnreadableError, match="larger than 2000"):
        read_mail(large.data, MailLimits(message_bytes=2000))


async def test_while_the_bus_is_away_nothing_is_lost(tmp_path: Path) -> None:
    port, refusals = free_port(), [RetryableError("away", delay_s=0.01)] * 3

    async def away(arrival: Arrival) -> None:
        if refusals:
            raise refusals.pop()

    taken = Taken(away)
    with imap_server(port):
        append(port, message(1), message(2))
        await poll_imap(account(port, tmp_path), taken, FileMarks(tmp_path))
    assert (taken.keys(), refusals) == (keys(1, 2), [])


def certificate(folder: Path) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    (folder / "key").write_bytes(secret)
    return str(folder / "cert"), str(folder / "key")


async def test_tls_is_verified_and_the_password_is_in_no_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    port, taken, marks = free_port(), Taken(), FileMarks(tmp_path)
    cert, key = certificate(tmp_path)
    with imap_server(port, "--cert", cert, "--key", key):
        with pytest.raises(RetryableError, match="CERTIFICATE_VERIFY_FAILED"):
            await poll_imap(account(port, tmp_path, tls="starttls"), taken, marks)
        await poll_imap(account(port, tmp_path, tls="starttls", ca_file=cert), taken, marks)
    assert await marks.get("imap.support") is None  # nothing there, nothing taken
    assert caplog.records
    assert PASSWORD not in caplog.text + "".join(capsys.readouterr())


async def test_a_wrong_or_missing_password_is_said_without_it(tmp_path: Path) -> None:
    port, taken, marks = free_port(), Taken(), FileMarks(tmp_path)
    with imap_server(port):
        wrong = account(port, tmp_path)
        (tmp_path / "password").write_text("another one", encoding="utf-8")
        with pytest.raises(RetryableError, match="support") as raised:
            await poll_imap(wrong, taken, marks)
        assert "another one" not in str(raised.value)
        (tmp_path / "password").unlink()
        with pytest.raises(SettingsError, match="no password"):
            await poll_imap(wrong, taken, marks)


async def test_the_default_is_tls_from_the_first_byte(tmp_path: Path) -> None:
    port, front, taken, marks = free_port(), free_port(), Taken(), FileMarks(tmp_path)
    cert, key = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)

    served: list[asyncio.Task[None] | None] = []

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()
        await writer.wait_closed()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(asyncio.current_task())
        inner, outer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pass_on(reader, outer), pass_on(inner, writer), return_exceptions=True)

    assert ImapAccount(name="a", host="h", user="u").tls == "implicit"
    with imap_server(port):
        append(port, message(1))
        async with await asyncio.start_server(connect, "127.0.0.1", front, ssl=context):
            with pytest.raises(RetryableError, match="CERTIFICATE_VERIFY_FAILED"):
                await poll_imap(account(front, tmp_path, tls="implicit"), taken, marks)
            await poll_imap(account(front, tmp_path, tls="implicit", ca_file=cert), taken, marks)
            await asyncio.gather(*(each for each in served if each))
    assert taken.keys() == keys(1)
