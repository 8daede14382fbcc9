"""Mail as a tool, against a real SMTP server with TLS under a certificate of its own, and with accounts."""

import datetime
import email
import email.policy
import ipaddress
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message
from aiosmtpd.smtp import AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mesh.errors import NotSentError, SettingsError, ToolRefusedError
from mesh.mounts.folder import read_mount
from mesh.ports import free_port
from tests.mesh.mounts.mounting import Mounted, mounted, write

# aiosmtpd only counts STARTTLS as TLS, and warns of a login over the TLS that was there from the start.
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")

LETTER: dict[str, Any] = {"to": "ann@example.com", "subject": "Your order", "body": "Dear Zoë,\n\nall is well.\n.\n"}


class Inbox(Message):
    """Keeps letters as they came."""

    def __init__(self) -> None:
        super().__init__()
        self.letters: list[Any] = []

    def handle_message(self, message: Any) -> None:
        """Keep one."""
        self.letters.append(email.message_from_bytes(message.as_bytes(), policy=email.policy.default))


@dataclass
class Mail:
    """A running server."""

    inbox: Inbox
    port: int
    authority: Path


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-made certificate for this machine, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "mail.pem", folder / "mail.key"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    private.write_bytes(key.private_bytes(*plain))
    return public, private


def _is_shop(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    return AuthResult(success=(data.login, data.password) == (b"shop", b"s3cr3t"), handled=False)


@pytest.fixture(params=["starttls", "tls"])
def mail(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mail]:
    """A server that takes letters only from who has logged in, over TLS."""
    public, private = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(public, private)
    inbox = Inbox()
    tls: dict[str, Any] = {"tls_context": context, "require_starttls": True}
    if request.param == "tls":
        tls = {"ssl_context": context, "auth_require_tls": False}
    found = Mail(inbox, free_port(), public)
    options = {"hostname": "127.0.0.1", "port": found.port, "auth_required": True, "authenticator": _is_shop, **tls}
    controller = Controller(inbox, **options)
    controller.start()
    try:
        yield found
    finally:
        controller.stop()


@asynccontextmanager
async def mounted_mail(folder: Path, mail: Mail, *, password: str = "s3cr3t", **more: Any) -> AsyncIterator[Mounted]:
    """The mail server, mounted."""
    secret = folder / "password"
    secret.write_text(password)
    secret.chmod(0o600)
    content = {
        "kind": "smtp",
        "target": "mail",
        "host": "127.0.0.1",
        "port": "${port}",
        "sender": "orders@shop.example",
    }
    content |= {"user": "shop", "password_file": str(secret), "ca_file": str(mail.authority)}
    tools = [{"tool": "mail.send", "timeout_s": 10, "attempts": 1}]
    path = write(folder, "mail", {**content, "tools": tools, **more})
    async with mounted(path, port=str(mail.port)) as box:
        yield box


async def test_a_letter_goes_over_tls_under_a_login(tmp_path: Path, mail: Mail, request: pytest.FixtureRequest) -> None:
    secure = "[tls]" in request.node.name
    async with mounted_mail(tmp_path, mail, secure=secure) as box:
        answer = await box.call("mail.send", "wm-t1-mail", **LETTER)
        with pytest.raises(ToolRefusedError, match="no key for a letter"):
            await box.call("mail.send", "../up", **LETTER)
        with pytest.raises(ToolRefusedError):
            await box.call("mail.send", "wm-t1-mail", **{**LETTER, "to": "ann@example.com, eve@example.com"})
    (letter,) = mail.inbox.letters
    assert letter["Message-ID"] == answer["message_id"] == "<wm-t1-mail@shop.example>"
    assert letter["To"] == LETTER["to"] and letter["Subject"] == LETTER["subject"]
    assert letter.get_content().replace("\r\n", "\n") == LETTER["body"]


async def test_a_wrong_password_or_certificate_sends_nothing_and_tells_no_secret(
    tmp_path: Path, mail: Mail, request: pytest.FixtureRequest
) -> None:
    secure = "[tls]" in request.node.name
    async with mounted_mail(tmp_path, mail, secure=secure, password="wr0ng") as box:
        with pytest.raises(NotSentError, match="535") as caught:
            await box.call("mail.send", **LETTER)
        assert "wr0ng" not in str(caught.value)
    async with mounted_mail(tmp_path, mail, secure=secure, ca_file=None) as box:
        with pytest.raises(NotSentError, match=r"certificate|CERTIFICATE"):
            await box.call("mail.send", **LETTER)
    assert mail.inbox.letters == []


async def test_a_server_without_tls_is_sent_nothing(tmp_path: Path) -> None:
    inbox = Inbox()
    controller = Controller(inbox, hostname="127.0.0.1", port=free_port())
    controller.start()
    try:
        public, _ = certificate(tmp_path)
        async with mounted_mail(tmp_path, Mail(inbox, controller.port, public), user="") as box:
            with pytest.raises(NotSentError, match="offers no TLS"):
                await box.call("mail.send", **LETTER)
        assert inbox.letters == []
        async with mounted_mail(tmp_path, Mail(inbox, controller.port, public), user="", require_tls=False) as box:
            await box.call("mail.send", **LETTER)
        assert len(inbox.letters) == 1
    finally:
        controller.stop()


def test_mail_is_manual(tmp_path: Path) -> None:
    tools = [{"tool": "mail.send", "recovery": "idempotent"}]
    content = {"kind": "smtp", "target": "mail", "host": "x", "sender": "a@b.example", "tools": tools}
    with pytest.raises(SettingsError, match="nobody can ask what a mail server took"):
        read_mount(write(tmp_path, "mail", content), {})
