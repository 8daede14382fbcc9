"""A hostile sender at intake: over the wire, in a watched folder, in quarantine. What holds is read from the bus."""

import asyncio
import base64
import hmac
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
import pytest_asyncio

from agents.intake.arrival import Arrival
from agents.intake.configured import mapping_path
from agents.intake.documents import folder as watching
from agents.intake.documents.folder import watch_folder
from agents.intake.door import ARRIVAL_HEADER
from agents.intake.mail.reader import mail_reader
from agents.intake.mapping import load_mapping
from agents.intake.signatures import UnsignedError, check
from mesh import quarantine, streams, subjects
from mesh.admission import Accepted, read
from mesh.clock import now
from mesh.expressions import Variables
from mesh.lifetime import background
from mesh.originals import PART_BYTES, Originals
from mesh.quarantine import Reason
from mesh.site import stream_specs
from mesh.sources import Folder, Maildir
from packs.retail.pack import RetailOptions, pack
from tests.agents.intake.reception import SECRET, Reception, entry, reception_in
from tests.ledger_pack.running import until
from tests.ledger_pack.world import BUS
from tests.redteam.catalogue import attack

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(90)]

ISSUES = {"x-github-event": "issues"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Reception]:
    """A whole site but the learner, with webhooks."""
    async with reception_in(tmp_path_factory.mktemp("i"), "perception", "planner", "policy", "executor") as found:
        yield found


@asynccontextmanager
async def line(site: Reception) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A bare connection."""
    url = urlsplit(str(site.client.base_url))
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def said(site: Reception, data: bytes) -> bytes:
    """All that is answered to these bytes, until the other side closes or is silent."""
    found = bytearray()
    async with line(site) as (reader, writer):
        writer.write(data)
        try:
            async with asyncio.timeout(3):
                while part := await reader.read(65_536):
                    found += part
        except (TimeoutError, ConnectionError):
            pass
    return bytes(found)


def head(site: Reception, *fields: str, path: str = "/events") -> bytes:
    """The head of a request."""
    own = ("Host: a", f"Authorization: Bearer {site.token}", "Content-Type: application/cloudevents+json")
    return "\r\n".join([f"POST {path} HTTP/1.1", *own, *fields, "", ""]).encode()


async def stands(site: Reception, *words: str) -> list[str]:
    """Which of these words stand in an event."""
    events = b"\n".join(message.data for message in await site.events())
    return [word for word in words if f'"{word}"'.encode() in events]


@attack(
    "inputs",
    "a sender with a token, behind a proxy",
    "hides a second request in the body of the first: a length and a transfer coding, two lengths, odd codings",
    "refused, and the connection closed: the hidden request is not read",
    "the answers, and the events",
    "ASI07",
)
@pytest.mark.parametrize("how", ["CL.TE", "TE.CL", "CL.CL", "list", "TE twice", "odd TE", "space", "sign", "bare LF"])
async def test_no_request_is_hidden_in_another(site: Reception, how: str) -> None:
    event = msgspec.json.encode(entry(f"smuggled-{how}"))
    inner = head(site, f"Content-Length: {len(event)}") + event
    fields = {
        "CL.TE": (f"Content-Length: {5 + len(inner)}", "Transfer-Encoding: chunked"),
        "TE.CL": ("Transfer-Encoding: chunked", "Content-Length: 5"),
        "CL.CL": ("Content-Length: 5", f"Content-Length: {5 + len(inner)}"),
        "list": (f"Content-Length: 5, {5 + len(inner)}",),
        "TE twice": ("Transfer-Encoding: chunked", "Transfer-Encoding: identity", "Content-Length: 5"),
        "odd TE": ("Transfer-Encoding: xchunked", "Content-Length: 5"),
        "space": ("Content-Length : 5", f"Content-Length: {5 + len(inner)}"),
        "sign": ("Content-Length: +5",),
        "bare LF": (f"X: a\nContent-Length: {5 + len(inner)}", "Content-Length: 5"),
    }[how]
    answers = await said(site, head(site, *fields) + b"0\r\n\r\n" + inner)
    assert answers.count(b"HTTP/1.1 ") == 1
    assert answers.startswith((b"HTTP/1.1 4", b"HTTP/1.1 501"))
    assert await stands(site, f"smuggled-{how}") == []


@attack(
    "inputs",
    "a stranger",
    "sends a head that never ends: in one line, in many, byte by byte",
    "refused at 64 KiB, or the connection closed; others are answered meanwhile",
    "the connection, and the answer to an honest sender",
    "ASI08",
)
@pytest.mark.parametrize("how", ["one line", "many lines", "no line"])
async def test_a_head_without_end_is_refused(site: Reception, how: str) -> None:
    start = b"" if how == "no line" else b"POST /events HTTP/1.1\r\nHost: a\r\n"
    more = b"X: a\r\n" * 40_000 if how == "many lines" else b"a" * 240_000
    answer = await said(site, start + more)
    assert answer.startswith(b"HTTP/1.1 400") or answer == b""
    assert (await site.event(entry(f"beside-{how}".replace(" ", "-")))).status_code == 202


@attack(
    "inputs",
    "a stranger",
    "opens connections that say nothing, or begin a request and go on slowly",
    "others are answered meanwhile; the slow ones are closed after 10 s",
    "the answers to an honest sender, and the connections",
    "ASI08",
)
@pytest.mark.parametrize("begin", [b"", b"POST /events HTT", b"POST /events HTTP/1.1\r\nHost: a\r\nX: "])
async def test_who_is_slow_holds_up_nobody_and_is_not_kept(site: Reception, begin: bytes) -> None:
    lines = [line(site) for _ in range(100)]
    opened = [await each.__aenter__() for each in lines]
    try:
        for _, writer in opened:
            writer.write(begin)
        assert (await site.event(entry(f"beside-slow-{len(begin)}"))).status_code == 202
        async with asyncio.timeout(40):
            for reader, _ in opened:
                try:
                    assert await reader.read() == b""
                except ConnectionError:
                    pass
    finally:
        for each in lines:
            await each.__aexit__(None, None, None)


@attack(
    "inputs",
    "a stranger",
    "begins the bodies of many signed webhooks, which are checked at their end, and never ends them",
    "senders with a token are answered meanwhile",
    "the answers to an honest sender",
    "ASI08",
)
async def test_unsigned_bodies_that_never_end_take_nobodys_place(tmp_path: Path) -> None:
    async with reception_in(tmp_path, more="in_flight_max = 20") as site:
        lines = [line(site) for _ in range(60)]
        opened = [await each.__aenter__() for each in lines]
        try:
            for _, writer in opened:
                writer.write(head(site, "Content-Length: 1000", path="/webhooks/desk") + b"{")
            await asyncio.sleep(0.5)
            for number in range(5):
                assert (await site.event(entry(f"place-{number}"))).status_code == 202
        finally:
            for each in lines:
                await each.__aexit__(None, None, None)


@attack(
    "inputs",
    "a sender with a token",
    "sends many requests on one connection without waiting for the answers",
    "each is answered, in order, once",
    "the answers, and the events",
    "ASI08",
)
async def test_requests_in_one_pipe_are_each_answered_once(site: Reception) -> None:
    data = b""
    for number in range(50):
        event = msgspec.json.encode(entry(f"pipe-{number}"))
        data += head(site, f"Content-Length: {len(event)}", *(["Connection: close"] if number == 49 else [])) + event
    async with line(site) as (reader, writer):
        writer.write(data)
        async with asyncio.timeout(60):
            answers = await reader.read()
    assert answers.count(b"HTTP/1.1 202") == 50
    assert len(await stands(site, *(f"pipe-{n}" for n in range(50)))) == 50


@attack(
    "inputs",
    "who has seen one signed delivery",
    "uses its signature at another source, for another body, later, or cut in another place",
    "refused: a signature is of one body, by a secret of that source, for its window",
    "what the check says",
    "ASI03",
)
@pytest.mark.parametrize("how", ["another source", "another body", "late", "early", "another place"])
async def test_a_signature_counts_for_what_was_signed(how: str) -> None:
    secret, other = base64.b64encode(b"one").decode(), base64.b64encode(b"two").decode()
    at = 1_800_000_000
    # A customer's own words in it would be a body of their own, signed at a time of their choice.
    body = b'{"memo":".1900000000.account=mine&amount=100&rest="}'

    def signed(name: str, body: bytes, made: str) -> dict[str, str]:
        said = f"{name}.{made}.".encode() + body
        signature = "v1," + base64.b64encode(hmac.digest(b"one", said, sha256)).decode()
        return {"webhook-id": name, "webhook-timestamp": made, "webhook-signature": signature}

    headers = signed("msg_1", body, str(at))
    check("standard", body, headers, [secret], at=at, window_s=300)
    match how:
        case "another source":
            case_of: tuple[bytes, dict[str, str], str, int] = (body, headers, other, at)
        case "another body":
            case_of = (body + b" ", headers, secret, at)
        case "late":
            case_of = (body, headers, secret, at + 301)
        case "early":
            case_of = (body, headers, secret, at - 301)
        case _:
            before, _, after = body.partition(b".1900000000.")
            moved = {**headers, "webhook-id": f"msg_1.{at}." + before.decode(), "webhook-timestamp": "1900000000"}
            case_of = (after, moved, secret, 1_900_000_000)
    with pytest.raises(UnsignedError):
        check("standard", case_of[0], case_of[1], [case_of[2]], at=case_of[3], window_s=300)


@attack(
    "inputs",
    "a sender with a token for one domain",
    "names another domain, `channel`, `original`, a type that is another subject, in each mode",
    "refused with the place; nothing is published",
    "the answers, and the events",
    "ASI03",
    "ASI07",
)
@pytest.mark.parametrize(
    "fields",
    [
        {"channel": "desk"},
        {"original": "0" * 64},
        {"type": "ledger.>"},
        {"type": "ledger.*"},
        {"type": "ledger..entry"},
        {"type": "ledger.entry.requested\r\nNats-Msg-Id: x"},
        {"type": "ledger.entry requested"},
        {"type": "$JS.API.STREAM.DELETE.EVENTS"},
        {"type": "../ledger.entry.requested"},
        {"type": "LEDGER.entry.requested"},
        {"id": "a\x00b"},
        {"id": "\ud800"},
        {"source": "a\nb"},
        {"subject": "a\rb"},
        {"subject": "x" * 1025},
    ],
)
async def test_an_event_is_what_its_sender_may_say(site: Reception, fields: dict[str, str]) -> None:
    before = len(await site.events())
    event = entry("spoof", **{name: value for name, value in fields.items() if name not in ("id", "source", "type")})
    event |= fields
    body = json.dumps(event).encode()
    answer = await site.event(body)
    assert answer.status_code in (400, 403), answer.text
    kept = {name: value.encode("unicode_escape").decode() for name, value in fields.items()}
    headers = {"content-type": "application/json", "ce-specversion": "1.0", "ce-id": "s", "ce-source": "/s"}
    headers |= {"ce-type": "ledger.entry.requested"} | {f"ce-{name}": value for name, value in kept.items()}
    if "\\" not in str(kept):
        assert (await site.post("/events", event["data"], headers)).status_code in (400, 403)
    assert len(await site.events()) == before


@attack(
    "inputs",
    "a stranger",
    "guesses tokens: prefixes of a real one, its hash, other spellings, empty ones",
    "401 for each, in the same words",
    "the answers",
    "ASI03",
)
async def test_a_token_is_not_guessed_in_parts(site: Reception) -> None:
    token = site.token
    digest = sha256(token.encode()).hexdigest()
    guesses = [token[:-1], token + " x", token.upper(), digest, "wmt_", "%00", token[:20], f"{token},{token}"]
    answers = {(await site.post("/events", b"{}", {"authorization": f"Bearer {guess}"})).text for guess in guesses}
    assert len(answers) == 1
    assert "send a token" in answers.pop()


@attack(
    "inputs",
    "a sender of a form with a token",
    "writes CEL, paths and huge values into fields that expressions and look-ups read",
    "it is text: the event holds it as it came, or it waits in quarantine",
    "the events, quarantine, and the ledger's log",
    "ASI01",
    "ASI05",
)
@pytest.mark.parametrize(
    "account",
    ["%22%2Bsource%2B%22", "..%2Fentries", "a%2F..%2F..%2Fadmin", "a%3Fx%3D1%23", "%7B%7Bsource%7D%7D", "a" * 5000, ""],
)
async def test_a_value_is_never_an_expression_or_a_path(site: Reception, account: str) -> None:
    kind = {"content-type": "application/x-www-form-urlencoded"}
    answer = await site.hook("form", f"account={account}&amount=1".encode(), kind)
    assert answer.status_code in (202, 503), answer.text
    if answer.status_code == 202 and answer.json()["events"]:
        (event,) = answer.json()["events"]
        found = [message.data for message in await site.events() if message.seq == event["seq"]]
        assert b'"balance before: 0"' in found[0]
    again = await site.hook("form", b"account=honest&amount=1", kind)
    while again.status_code == 503:  # the breaker is open for a moment
        again = await site.hook("form", b"account=honest&amount=1", kind)
    assert len(again.json()["events"]) == 1


@attack(
    "inputs",
    "a sender whose signature counts",
    "sends one body of a million elements, each an event",
    "in quarantine as a whole: 1,000 are taken, as in a batch; others are answered meanwhile",
    "quarantine, and the answer to an honest sender",
    "ASI08",
)
async def test_one_body_is_not_a_million_events(site: Reception) -> None:
    body = b'{"entries":[' + b"0," * 400_000 + b"0]}"
    at = f"{time.time():.0f}"
    signature = hmac.digest(SECRET.encode(), f"{at}.".encode() + body, sha256).hex()
    large = asyncio.create_task(site.hook("payments", body, {"stripe-signature": f"t={at},v1={signature}"}))
    assert (await site.event(entry("beside-a-million"))).status_code == 202
    (name,) = (await large).json()["quarantined"]
    (item,) = [each for each in await quarantine.waiting(site.world.bus) if each.id == name]
    assert "400001 elements; 1000 are taken" in item.detail


@attack(
    "inputs",
    "a sender whose signature counts",
    "sends secrets of its own in headers, and a header that says that the body is cut",
    "no such header is kept, shown or believed",
    "quarantine, and the log",
    "ASI03",
)
async def test_no_secret_of_a_sender_is_kept(site: Reception) -> None:
    headers = dict.fromkeys(("x-gitlab-token", "x-api-key", "cookie", "x-client-secret", "cut"), "hush-hush")
    answer = await site.hook("desk", b'{"action":"secret"}', ISSUES | headers)
    (name,) = answer.json()["quarantined"]
    (item,) = [each for each in await quarantine.waiting(site.world.bus) if each.id == name]
    assert "hush-hush" not in str(item.headers)
    assert item.reason is Reason.UNKNOWN_TYPE
    assert site.token not in str(item) and SECRET not in str(item)


@attack(
    "inputs",
    "operator (the site's machine key)",
    "releases arrivals of sources that there are not, twice at once, or with headers that are none",
    "set aside again, or taken once; intake goes on",
    "quarantine, the events, and the ledger's log",
    "ASI03",
    "ASI08",
)
async def test_a_release_does_no_harm(site: Reception) -> None:
    told = {"source": "nobody", "key": "k", "content_type": "application/json", "received_at": "2026-01-01T00:00:00Z"}
    for header in (msgspec.json.encode(told).decode(), "{", "[]", "", '{"source":1}'):
        item = msgspec.convert(
            {
                "stage": "intake", "reason": "malformed", "detail": "", "stream": "", "subject": f"x/{header}",
                "seq": 0, "original": "e30=", "headers": {ARRIVAL_HEADER: header}, "attempts": 1,
                "at": "2026-01-01T00:00:00Z",
            },
            quarantine.Quarantined,
        )  # fmt: skip
        await quarantine.release(site.world.committer, item, person="olga")
    real = msgspec.json.encode(told | {"source": "form", "content_type": "application/x-www-form-urlencoded"}).decode()
    item = msgspec.structs.replace(
        item,
        subject="form/k",
        original=base64.b64encode(b"account=released&amount=1").decode(),
        headers={ARRIVAL_HEADER: real},
    )
    await asyncio.gather(*(quarantine.release(site.world.committer, item, person="olga") for _ in range(3)))

    async def is_told() -> bool:
        found = [each for each in await quarantine.waiting(site.world.bus) if "source 'nobody'" in each.detail]
        return len(found) == 1

    await until(is_told)

    async def is_taken() -> bool:
        return len(site.world.applied(account="released")) == 1

    await until(is_taken)
    await site.world.settled("intake")
    await site.world.settled("executor")
    # What is released in the same moment may come several times: it is one event, and done once.
    assert len({each.data for each in await site.events() if b'"released"' in each.data}) == 1
    assert len(site.world.applied(account="released")) == 1


class Folderful:
    """A watched folder whose arrivals are counted."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.found: list[Arrival] = []
        self.during: Any = None
        self._setting = Folder(mapping="m.yaml", folder=str(folder), settle_s=0, poll_s=0.05, **settings)

    async def take(self, arrival: Arrival) -> None:
        """As a door does."""
        self.found.append(arrival)
        if self.during is not None:
            self.during()

    async def until_taken(self, count: int) -> None:
        """Watch until so many came."""

        async def is_so() -> bool:
            return len(self.found) >= count

        async with background(watch_folder("erp", self._setting, self.take), "watch"):
            await until(is_so)
            await asyncio.sleep(0.2)

    def put(self, name: str | bytes, data: bytes = b"x") -> Path:
        """A file that nobody has written to for a minute."""
        path = os.path.join(os.fsencode(self.folder), os.fsencode(name))
        with open(path, "wb") as file:
            file.write(data)
        os.utime(path, (time.time() - 60, time.time() - 60))
        return Path(os.fsdecode(path))


@attack(
    "inputs",
    "who may write into a watched folder",
    "swaps a file for a pipe, a link or a device after it was seen",
    "not opened, or not read: the files beside it are taken",
    "what is taken, and the folder",
    "ASI05",
    "ASI08",
)
@pytest.mark.parametrize("what", ["pipe", "link", "another"])
async def test_a_file_that_is_swapped_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    folder = Folderful(tmp_path / "in")
    folder.folder.mkdir()
    path = folder.put("a.csv", b"seen")
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    read = watching._read

    def swapping(path: Path, *more: Any) -> Any:
        if path.name == "a.csv" and not swapped:
            swapped.append(True)
            path.unlink()
            {"pipe": lambda: os.mkfifo(path), "link": lambda: path.symlink_to(secret)}.get(
                what, lambda: path.write_bytes(b"another one")
            )()
        return read(path, *more)

    swapped: list[bool] = []
    monkeypatch.setattr(watching, "_read", swapping)
    folder.put("b.csv", b"honest")
    await folder.until_taken(2 if what == "another" else 1)
    taken = {arrival.data for arrival in folder.found}
    assert taken == ({b"honest", b"another one"} if what == "another" else {b"honest"})
    assert path.is_fifo() if what == "pipe" else path.is_symlink() == (what == "link")


@attack(
    "inputs",
    "who may write into a watched folder",
    "puts another file in the place of one that is being taken",
    "the other is taken too, not moved away unread",
    "what is taken, and the folder",
    "ASI08",
)
async def test_a_file_that_comes_in_the_place_of_another_is_not_lost(tmp_path: Path) -> None:
    folder = Folderful(tmp_path)
    folder.put("a.csv", b"one")

    def replace() -> None:
        folder.during = None
        os.replace(folder.put("b.part", b"two"), tmp_path / "a.csv")

    folder.during = replace
    await folder.until_taken(2)
    assert [arrival.data for arrival in folder.found] == [b"one", b"two"]


@attack(
    "inputs",
    "who may write into a watched folder",
    "names a file by bytes that are no text, by a path, by markup for a terminal; makes it one that cannot be moved",
    "taken under a name that can be written down; the folder is watched on",
    "what is taken, and the next file",
    "ASI05",
    "ASI08",
)
@pytest.mark.parametrize(
    "name", [b"\xff\xfe.csv", b"a\n\x1b[2J.csv", b"x\\..\\..\\x.csv", b"%2e%2e%2f.csv", b"x" * 240]
)
async def test_no_name_of_a_file_ends_the_watch(tmp_path: Path, name: bytes) -> None:
    folder = Folderful(tmp_path)
    folder.put(name)
    await folder.until_taken(1)
    msgspec.json.encode(folder.found[0].key)
    assert len(list((tmp_path / "taken").iterdir())) == 1


async def test_a_file_that_cannot_be_moved_is_taken_once_and_the_others_go_on(tmp_path: Path) -> None:
    folder = Folderful(tmp_path)
    monkey = pytest.MonkeyPatch()

    def refuse(path: Path, *_: Any) -> None:
        raise PermissionError(13, "no")

    with monkey.context() as patch:
        patch.setattr(watching, "_move", refuse)
        folder.put("a.csv", b"one")
        folder.put("b.csv", b"two")
        await folder.until_taken(2)
    assert sorted(arrival.data for arrival in folder.found) == [b"one", b"two"]


@attack(
    "inputs",
    "a sender of large bodies",
    "fills the stream of originals",
    "503 until there is room: nothing is said to be durable; then each is taken once, and read back whole",
    "the answers, the stream, and the events",
    "ASI08",
)
@pytest.mark.timeout(180)
async def test_when_originals_are_full_nothing_is_said_to_be_durable(tmp_path: Path) -> None:
    async with reception_in(tmp_path) as site:

        async def sized(most: int) -> None:
            async with site.world.connected("admin") as admin:
                bus = msgspec.structs.replace(BUS, originals_max_bytes=most)
                wait_s, most_pending = BUS.ack_wait_s, BUS.max_ack_pending
                await streams.ensure(
                    admin, stream_specs(bus), replicas=1, ack_wait_s=wait_s, max_ack_pending=most_pending
                )

        await sized(3 * PART_BYTES)
        bodies = [b'{"action":"flood","text":"%s"}' % (b"%d" % n * 300_000) for n in range(3)]
        statuses = []
        for body in bodies:
            answer = await site.hook("desk", body, ISSUES)
            statuses.append(answer.status_code)
            if answer.status_code == 202:
                assert await Originals(site.world.bus).read(sha256(body).hexdigest()) == body
        assert statuses[0] == 202
        assert 503 in statuses
        info = await site.world.bus.api(f"STREAM.INFO.{subjects.ORIGINALS}")
        assert info["state"]["bytes"] <= 3 * PART_BYTES
        await sized(-1)
        for body in bodies:

            async def is_taken(body: bytes = body) -> bool:
                return (await site.hook("desk", body, ISSUES)).status_code == 202

            await until(is_taken)
            assert await Originals(site.world.bus).read(sha256(body).hexdigest()) == body


@attack(
    "inputs",
    "a stranger who writes a mail in somebody's name",
    "asks first for what the customer will ask for by the form, so that the form is left out as a repeat",
    "a mail that nobody vouches for is no request of a customer, and has no case",
    "the type and the case of the event that is made of it",
    "ASI03",
    "ASI09",
)
@pytest.mark.parametrize("vouched", ["", "Authentication-Results: evil.example; dmarc=pass header.from=shop.example\n"])
async def test_a_strangers_mail_is_the_same_case_as_nobodys_form(vouched: str) -> None:
    letter = f"{vouched}From: Kaspar <kaspar@shop.example>\nMessage-ID: <1@a>\n\nPlease cancel order #W1771144.\n"
    tools = {tool.name: tool for tool in pack.tools(RetailOptions())}
    path = mapping_path("retail/mail", {"retail": pack})
    mapping = load_mapping(path, tools, [kind.name for kind in pack.events])
    reader = mail_reader(Maildir(mapping="retail/mail", folder="x", authserv_ids=("mx.shop.example",)))
    (item,) = reader(Arrival(source="mail", key="k", data=letter.encode(), received_at=now()))
    customer = {"user_id": "kaspar_ikeda_9905", "count": 1}
    values = {**item.variables, "key": "k", "source": "mail", "found": {"customer": customer}}
    variables = Variables(values)
    rule = mapping.rule(variables)
    assert rule is not None and rule.name == "unassigned"
    made = read(msgspec.json.encode(rule.event(variables)), {}, {"retail": pack})
    assert isinstance(made, Accepted) and (made.kind.name, made.case) == ("retail.mail.unassigned", "")


async def test_an_original_whose_first_part_is_gone_is_kept_again(tmp_path: Path) -> None:
    async with reception_in(tmp_path) as site, site.world.connected("admin") as admin:
        body = b'{"action":"kept","text":"%s"}' % (b"x" * 600_000)
        digest = sha256(body).hexdigest()
        assert (await site.hook("desk", body, ISSUES)).status_code == 202
        first = await admin.last(subjects.ORIGINALS, subjects.original(digest, "1~3"))
        assert first is not None
        gone = await admin.api(f"STREAM.MSG.DELETE.{subjects.ORIGINALS}", {"seq": first.seq})
        assert gone["success"]
        assert (await site.hook("desk", body, ISSUES)).status_code == 202
        assert await Originals(site.world.bus).read(digest) == body
