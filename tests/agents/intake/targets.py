"""What is fuzzed: every reader with its mapping, behind a door whose stores are in memory; and the HTTP endpoints.

The rule: an input ends as events, in quarantine, ignored, or as an answer below 500; nothing else is raised.
"""

import asyncio
import base64
import hmac
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, cast

import h11
import msgspec

from agents.intake.arrival import Arrival
from agents.intake.configured import Configured
from agents.intake.door import Door, arrival_of
from agents.intake.http import Hook, Reception
from agents.intake.mail.message import mail_key
from agents.intake.pressure import Pressure
from agents.intake.tokens import add_token, tokens_of
from mesh import quarantine, subjects
from mesh.journal import Message
from mesh.settings import IntakeSettings
from mesh.sources import Folder, Maildir, SourceSettings, Webhook
from mesh.toolbox import Toolbox
from tests.agents.intake.archives import archives
from tests.agents.intake.fuzzing import Target
from tests.ledger_pack.pack import LedgerOptions, pack

DATA = Path(__file__).parents[4] / "shared" / "data"
MAPPINGS = Path(__file__).parent / "mappings"
SECRET = "it is a secret"
KEY = base64.b64encode(SECRET.encode()).decode()
AT = datetime(2026, 1, 2, tzinfo=UTC)


class _Stored:
    """A committer and bus that keep nothing but check what they are given, as the bus would."""

    def __init__(self) -> None:
        self.aside: list[quarantine.Quarantined] = []

    async def commit(self, messages: Sequence[Message]) -> list[int]:
        """Stored, as far as the caller can tell."""
        assert len(messages) <= 1000
        for message in messages:
            subject = message.subject.encode()
            assert b" " not in subject and b"\n" not in subject and b".." not in subject and b"*" not in subject
            assert len(message.data) + sum(map(len, message.headers.values())) < 1024 * 1024, (
                "larger than the bus takes"
            )
            if subjects.stream_of(message.subject) == subjects.QUARANTINE:
                self.aside.append(msgspec.json.decode(message.data, type=quarantine.Quarantined))
        return list(range(1, len(messages) + 1))

    async def keep(self, data: bytes) -> str:
        """Its digest."""
        return sha256(data).hexdigest()

    def known(self, task_id: str) -> None:
        """Everything is new."""


def _door(sources: Mapping[str, SourceSettings]) -> tuple[Door, _Stored, Configured]:
    packs = {"ledger": pack}
    configured = Configured(IntakeSettings(sources=dict(sources)), packs, {"ledger": LedgerOptions()})
    stored = _Stored()
    any_: Any = stored
    return Door(any_, any_, any_, packs, Toolbox({}, {}), configured), stored, configured


def _mapping(name: str) -> str:
    return str(MAPPINGS / f"{name}.yaml")


@cache
def _doors() -> tuple[Door, _Stored]:
    folder = str(MAPPINGS)
    door, stored, _ = _door(
        {
            "rows": Folder(mapping=_mapping("rows"), folder=folder),
            "ubl": Folder(mapping=_mapping("invoices"), folder=folder),
            "mail": Maildir(mapping=_mapping("hostile_mail"), folder=folder, authserv_ids=("mx.google.com",)),
            "json": Webhook(mapping=_mapping("hostile_json")),
        }
    )
    return door, stored


def _take(source: str, content_type: str, data: bytes) -> None:
    door, stored = _doors()
    arrival = Arrival(source=source, key="a/b", data=data, content_type=content_type, received_at=AT, headers={})
    asyncio.run(door.take(arrival))
    for item in stored.aside[:20]:
        arrival_of(item.headers["Workmesh-Arrival"], item.data)  # what waits can be released
    stored.aside.clear()


def read_message(data: bytes) -> None:
    """A mail, taken in as from a maildir."""
    mail_key(data)
    _take("mail", "message/rfc822", data)


def read_ubl(data: bytes) -> None:
    """A file for UBL, taken in."""
    _take("ubl", "application/xml", data)


def read_rows(data: bytes) -> None:
    """A file of rows, or an archive of them, taken in."""
    _take("rows", "text/csv", data)


def read_mapped(data: bytes) -> None:
    """A body whose fields are values of every kind of expression, taken in as JSON and as a form."""
    _take("json", "application/json", data)
    _take("json", "application/x-www-form-urlencoded", data)


@cache
def _reception() -> tuple[Any, str]:
    hooks = {
        "desk": Webhook(mapping=_mapping("desk"), secrets="secrets"),
        "payments": Webhook(mapping=_mapping("payments"), secrets="secrets"),
        "standard": Webhook(mapping=_mapping("standard"), secrets="secrets"),
        "json": Webhook(mapping=_mapping("hostile_json")),
    }
    door, _, configured = _door(hooks)
    path = Path(mkdtemp(prefix="wm-fuzz")) / "tokens"
    token = add_token(path, "fuzz")

    class _Open:
        is_cut_off, in_flight = False, 0

        def retry_after_s(self) -> int:
            return 0

    def secrets(name: str) -> list[str]:
        return [KEY if name == "standard" else SECRET]

    read = {name: Hook(partial(secrets, name), 300) for name in hooks}
    reception = Reception(
        door, cast(Pressure, _Open()), {"ledger": pack}, IntakeSettings(), tokens_of(path), configured, read
    )
    return reception.app(), token


def read_request(data: bytes) -> None:
    """A request as it comes over the wire; its length, token and signature are put in order first."""
    head, _, body = data.replace(b"\r\n", b"\n").partition(b"\n\n")
    app, token = _reception()
    names = {"TOKEN": token, "GITHUB": hmac.digest(SECRET.encode(), body, sha256).hex()}
    at = f"{time.time():.0f}"
    names["STRIPE"] = f"t={at},v1=" + hmac.digest(SECRET.encode(), f"{at}.".encode() + body, sha256).hex()
    names["AT"] = at
    signed = hmac.digest(base64.b64decode(KEY), f"m.{at}.".encode() + body, sha256)
    names["STANDARD"] = "v1," + base64.b64encode(signed).decode()
    for name, value in names.items():
        head = head.replace(b"{%s}" % name.encode(), value.encode())
    connection = h11.Connection(h11.SERVER)
    lines = [line for line in head.split(b"\n") if not line.lower().startswith((b"content-length", b"transfer-encod"))]
    try:
        connection.receive_data(b"\r\n".join([*lines, b"content-length: %d" % len(body), b"", body]))
        request = connection.next_event()
    except h11.RemoteProtocolError:
        return
    if isinstance(request, h11.Request):
        status = asyncio.run(_answered(app, request, body))
        assert status < 500, f"answered {status}"


async def _answered(app: Any, request: h11.Request, body: bytes) -> int:
    path, _, query = request.target.partition(b"?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "root_path": "",
        "method": request.method.decode("ascii"), "path": path.decode("latin-1"), "raw_path": path,
        "query_string": query, "headers": list(request.headers), "client": ("127.0.0.1", 1), "server": ("a", 1),
    }  # fmt: skip
    found: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            found.append(message["status"])

    await app(scope, receive, send)
    return found[0]


def _files(folder: str, pattern: str) -> list[bytes]:
    found = [path.read_bytes() for path in sorted((DATA / folder).glob(pattern))]
    assert found, f"nothing in {DATA / folder}"
    return found


def _rows() -> list[bytes]:
    plain = [
        b"id;kind;account;amount\n" + b"".join(b"e%d;entry;a;%d\n" % (n, n) for n in range(40)),
        b'id,kind,account,amount\n1,entry,"a ""b"", c\nd",12\n2,entry,b,x\n3,entry\n',
        "id\tkind\taccount\tamount\nä\tentry\tö\t1\n".encode("utf-16"),
        "id;kind;account;amount\nä;entry;ö;1\n".encode("cp1252"),
        b'{"id":"1","kind":"entry","account":"a","amount":3}\n{"id":2}\n[]\n{"id":"3","kind":"other"}\n',
        b'[{"id":"1","kind":"entry","account":"a","amount":"3"},{"id":null,"kind":"entry"},7]',
    ]
    return [*plain, *archives(plain)]


def _bodies() -> list[bytes]:
    values = (
        '"a"',
        "1",
        "-1.5",
        "1e400",
        "9" * 30,
        "true",
        "null",
        "[]",
        "{}",
        '[{"id":"x"}]',
        '"2026-01-01T00:00:00Z"',
    )
    names = ("id", "text", "number", "list", "map")
    made = [
        "{" + ",".join(f'"{name}":{value}' for name, value in zip(names, values[at:], strict=False)) + "}"
        for at in range(len(values) - 4)
    ]
    form = b"id=1&text=a+b&number=12&list=1&list=2&map=%7B%7D"
    return [*(each.encode() for each in made), form, *_files("webhooks", "*.json")]


def _event(event_id: str) -> dict[str, Any]:
    data = {"account": "web", "amount": 5, "kind": "post", "memo": "case:1"}
    return {
        "specversion": "1.0", "id": event_id, "source": "/fuzz", "type": "ledger.entry.requested", "data": data,
        "time": "2026-01-01T00:00:00Z", "subject": "a/b", "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01",
    }  # fmt: skip


def _requests() -> list[bytes]:
    one = msgspec.json.encode(_event("1"))
    many = msgspec.json.encode([_event("1"), _event("2"), _event("1")])
    events = b"POST /events HTTP/1.1\nhost: a\nauthorization: Bearer {TOKEN}\ncontent-type: application/"
    ce = b"ce-specversion: 1.0\nce-id: 1\nce-source: /a\nce-type: ledger.entry.requested\nce-subject: %C3%A4\n"
    data = msgspec.json.encode(_event("1")["data"])
    hook = b"POST /webhooks/%s HTTP/1.1\nhost: a\ncontent-type: application/json\n"
    entries = msgspec.json.encode({"entries": [{"id": f"p{n}", "account": "a", "amount": n} for n in range(5)]})
    desk = hook % b"desk" + b"x-github-event: issues\nx-hub-signature-256: sha256={GITHUB}\n\n"
    form = hook.replace(b"json", b"x-www-form-urlencoded") % b"json" + b"authorization: Bearer {TOKEN}\n\n"
    signed = b"webhook-id: m\nwebhook-timestamp: {AT}\nwebhook-signature: {STANDARD}\n\n"
    return [
        events + b"cloudevents+json; charset=utf-8\n\n" + one,
        events + b"cloudevents-batch+json\n\n" + many,
        events + b"json\n" + ce + b"\n" + data,
        hook % b"payments" + b"stripe-signature: {STRIPE}\n\n" + entries,
        hook % b"standard" + signed + entries,
        form + b"id=1&text=a+b&number=12&list=1&list=2&map=%7B%7D",
        *(desk + body for body in _files("webhooks", "issues.*.json")[:8]),
    ]


_MAIL = (
    b"\n", b"\r\n\r\n", b"\x00", b"=?", b"?=", b"=?utf-8?q?", b"=?utf-7?b?", b"(", b")", b"<", b">", b'"', b"\\", b";",
    b"--", b"begin 644 x\n", b"\nend\n", b"Content-Type: multipart/mixed; boundary=a\n\n--a\n", b"--a--\n", b"On ",
    b" wrote:\n", b"> ", b"charset=utf-16", b"charset=idna", b"charset=hz", b"Content-Transfer-Encoding: base64\n",
    b"<div>", b"<blockquote>", b"<table><tr><td>", b"\xff", b"\xc3", b"&#x0;", b"*0*=", b"filename*=utf-8''%",
    b"From: a@b, ", b"-- \n", b"From: x\nSent: y\nTo: z\n", b"Content-Type: message/delivery-status\n\n", b"_" * 50,
    b"\xe2\x80\xae", b"<!--", b"&#xd800;", b"Authentication-Results: mx.google.com; dmarc=pass\n",
)  # fmt: skip
_XML = (
    b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"&b;", b"&#0;", b"&#xd800;", b"<![CDATA[", b"]]>", b"<!--", b"-->", b"<?x ?>",
    b"<?xml version='1.0' encoding='utf-7'?>", b"<?xml version='1.0' encoding='utf-16'?>", b"<cbc:ID>", b"</cbc:ID>",
    b"<cac:InvoiceLine>", b"<cac:AdditionalDocumentReference><cbc:ID>1</cbc:ID></cac:AdditionalDocumentReference>",
    b"<a>", b"</a>", b" a='b'", b"1E9999", b"NaN", b"1_0", b"\xff", b"\xef\xbf\xbf", b"9" * 60, b"-", b".", b"\xd9\xa1",
    b"<cac:TaxTotal><cbc:TaxAmount currencyID='EUR'>1</cbc:TaxAmount></cac:TaxTotal>",
)  # fmt: skip
_ROWS = (
    b";", b",", b"\t", b"|", b'"', b'""', b"'", b"\n", b"\r", b"\r\n", b"\x00", b"\xff", b"\xff\xfe", b"\xef\xbb\xbf",
    b"{}\n", b"{", b"[", b"[],", b"0,", b"]", b"PK\x03\x04", b"PK\x05\x06", b"PK\x01\x02", b"\x1f\x8b\x08\x00", b"\\",
    b'{"id":"\\ud800"}\n', b"id;id\n", b"=cmd|' /C calc'!A0", b"1e999", b"\xe2\x80\xa8", b"\x85", b"\x1c",
    b"\xed\xa0\x80",
)  # fmt: skip
_JSON = (
    b"[", b"]", b"{", b"}", b'"', b",", b":", b"null", b"1e999", b"-0", b"9" * 40, b"\\ud800", b"\\u0000", b"\x00",
    b"\xff", b'{"id":', b'"text":', b"&", b"=", b"%", b"%ff", b"%00", b"+", b"NaN", b"id=", b"\xed\xa0\x80", b"[0],",
    b'"a":"b",', b'"__proto__":', b'"size":', b"0,", b'"' + b"9" * 400 + b'"',
)  # fmt: skip
_HTTP = (
    *_JSON, b"\n", b"\r\n", b"ce-id: a\n", b"ce-data: 1\n", b"ce-original: a\n", b"ce-channel: a\n", b"content-type: ",
    b"ce-specversion: 1.0\n", b"; charset=utf-16", b"authorization: Bearer \xff\n", b"%zz", b"%0a", b"/../", b"//",
    b"?", b"x-github-event: issues\n", b"cut: 1\n", b"traceparent: x\n", b"x-hub-signature-256: sha256=\xff\n",
    b"v1,", b"t=",
    b"transfer-encoding: chunked\n",
    b"expect: 100-continue\n", b"ce-time: 0\n", b"ce-time: 9999-12-31T23:59:60Z\n",
)  # fmt: skip

MAIL = Target("mail", read_message, lambda: _files("emails", "*.eml"), _MAIL)
TARGETS = {
    target.name: target
    for target in (
        MAIL,
        Target("ubl", read_ubl, lambda: _files("invoices", "*.xml"), _XML),
        Target("rows", read_rows, _rows, _ROWS),
        Target("mapped", read_mapped, _bodies, _JSON),
        Target("http", read_request, _requests, _HTTP),
    )
}
"""By name."""
