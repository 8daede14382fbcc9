"""The shop's tools as the executor runs them: retries that are safe, doubts that are settled, letters written once."""

import asyncio
import email
import email.policy
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import msgspec
import pytest

from mesh.errors import NotSentError, SettingsError, ToolError, ToolRefusedError, UncertainError
from mesh.records import Json
from mesh.toolbox import Toolbox
from mesh.tools import Recovery
from packs.retail.arguments import ARGUMENTS, NotifyArgs
from packs.retail.client import Shop
from packs.retail.outbox import FolderOutbox, SmtpOutbox, SmtpServer
from packs.retail.pack import RetailOptions, connect, pack, tools
from packs.retail.shop.faults import Faults
from packs.retail.shop.process import ShopProcess
from tests.packs.retail.storefront import toolbox

# mesh.toolbox gives tenacity a parameter that is deprecated since 9.1.3; to be taken out once it does not.
pytestmark = pytest.mark.filterwarnings("ignore:The 'initial' parameter is deprecated:DeprecationWarning")

StartShop = Callable[..., ShopProcess]

LETTER = {
    "order_id": "#W1234567",
    "user_id": "ann_1",
    "email": "ann.o'hara+shop@example.com",
    "subject": "Your return from order #W1234567",
    "body": "Dear Zoë,\n\nall is well.\n.\nYour shop\n",
}


def _json(value: Any) -> Json:
    return msgspec.Raw(msgspec.json.encode(value))


def _export(url: str) -> dict[str, Any]:
    exported: dict[str, Any] = httpx2.get(f"{url}/export", trust_env=False).json()
    return exported


def _keys(url: str) -> list[str]:
    return [change["key"] for change in httpx2.get(f"{url}/changes", trust_env=False).json()["changes"]]


def _set(url: str, **faults: Any) -> None:
    httpx2.put(f"{url}/faults", json=faults, trust_env=False).raise_for_status()


def _cancellation(url: str) -> Json:
    order = next(order for order in _export(url)["orders"].values() if order["status"] == "pending")
    paid = round(order["payment_history"][0]["amount"] * 100)
    args = {"order_id": order["order_id"], "user_id": order["user_id"], "reason": "no longer needed"}
    return _json(args | {"expect_amount": paid})


async def _call(box: Toolbox, tool: str, args: Json, key: str = "wm-t-change") -> dict[str, Any]:
    answer = await box.call(box.find(tool), args, key=key, epoch=1, call_by=time.time() + 30)
    decoded: dict[str, Any] = msgspec.json.decode(answer)
    return decoded


async def _verify(box: Toolbox, tool: str, args: Json, key: str = "wm-t-change") -> dict[str, Any] | None:
    answer = await box.verify(box.find(tool), args, key=key, epoch=1)
    decoded: dict[str, Any] | None = None if answer is None else msgspec.json.decode(answer)
    return decoded


@asynccontextmanager
async def _box(url: str, **options: Any) -> AsyncIterator[Toolbox]:
    async with Shop.open(url) as shop:
        yield toolbox({"shop": shop}, **options)


def test_every_tool_of_the_pack_says_how_its_effects_are_settled() -> None:
    by_name = {tool.name: tool for tool in tools(RetailOptions())}
    assert by_name.keys() == ARGUMENTS.keys() | {"retail.quote"}
    for name, kind in ARGUMENTS.items():
        assert by_name[name].args is kind
        assert by_name[name].recovery is Recovery.IDEMPOTENT
        assert by_name[name].verify is not None
    assert by_name["retail.quote"].read_only
    verifiable = {tool.name: tool.recovery for tool in tools(RetailOptions(recovery="verifiable"))}
    assert verifiable["retail.return"] is verifiable["retail.undo"] is Recovery.VERIFIABLE
    by_smtp = {tool.name: tool for tool in tools(RetailOptions(smtp_url="smtp://mail"))}
    assert by_smtp["retail.notify"].recovery is Recovery.MANUAL


async def test_an_error_after_the_commit_is_settled_by_the_same_key(start_shop: StartShop) -> None:
    url = start_shop(faults=Faults(error_after_rate=1.0)).url
    async with _box(url) as box:
        answer = await _call(box, "retail.cancel", _cancellation(url))
    assert answer["replayed"] is True
    assert _keys(url) == ["wm-t-change"]


async def test_an_error_before_anything_was_done_stays_in_doubt_until_the_shop_is_asked(start_shop: StartShop) -> None:
    url = start_shop(faults=Faults(error_rate=1.0)).url
    args = _cancellation(url)
    async with _box(url) as box:
        with pytest.raises(UncertainError):
            await _call(box, "retail.cancel", args)
        assert await _verify(box, "retail.cancel", args) is None
    assert _keys(url) == []


async def test_a_shop_that_ignores_keys_is_asked_instead_of_called_again(start_shop: StartShop) -> None:
    url = start_shop(faults=Faults(error_after_rate=1.0, keys="ignore")).url
    args = _cancellation(url)
    async with _box(url, recovery="verifiable") as box:
        with pytest.raises(UncertainError):
            await _call(box, "retail.cancel", args)
        answer = await _verify(box, "retail.cancel", args)
        assert answer is not None and answer["order_id"] == msgspec.json.decode(args)["order_id"]
    assert _keys(url) == ["wm-t-change"]


async def test_a_shop_that_answers_too_late_is_asked_what_it_did(start_shop: StartShop) -> None:
    url = start_shop(faults=Faults(delay_ms=2_100)).url
    args = _cancellation(url)
    async with _box(url, recovery="verifiable") as box:
        with pytest.raises(UncertainError):
            await _call(box, "retail.cancel", args)
        async with asyncio.timeout(5):
            while (answer := await _verify(box, "retail.cancel", args)) is None:
                pass  # the shop is still at it: each turn is a request to it
    assert answer["kind"] == "cancel"
    assert _keys(url) == ["wm-t-change"]


async def test_a_crash_after_the_commit_is_settled_once_the_shop_is_back(start_shop: StartShop) -> None:
    dying = start_shop(faults=Faults(crash_after_commit=1))
    args = _cancellation(dying.url)
    async with _box(dying.url) as box:
        with pytest.raises(UncertainError):
            await _call(box, "retail.cancel", args)
        dying.wait()
        with pytest.raises(NotSentError):
            await _verify(box, "retail.cancel", args)
    back = start_shop(port=urlsplit(dying.url).port)
    async with _box(back.url) as box:
        found = await _verify(box, "retail.cancel", args)
        assert found is not None
        assert await _call(box, "retail.cancel", args) == found
    assert _keys(back.url) == ["wm-t-change"]


async def test_a_shop_that_is_down_was_never_sent_anything(start_shop: StartShop) -> None:
    running = start_shop()
    args = _cancellation(running.url)
    running.stop()
    async with _box(running.url) as box:
        with pytest.raises(NotSentError):
            await _call(box, "retail.cancel", args)


async def test_a_price_that_differs_from_the_plans_is_refused(start_shop: StartShop) -> None:
    url = start_shop().url
    args = msgspec.json.decode(_cancellation(url))
    async with _box(url) as box:
        with pytest.raises(ToolRefusedError) as refused:
            await _call(box, "retail.cancel", _json(args | {"expect_amount": args["expect_amount"] - 1}))
        assert refused.value.code == "amount_differs"
        with pytest.raises(ToolRefusedError) as refused:
            await _call(box, "retail.cancel", _json({k: v for k, v in args.items() if k != "expect_amount"}))
        assert refused.value.code == "invalid_arguments"


async def test_a_refusal_by_the_shop_is_not_tried_again(start_shop: StartShop) -> None:
    url = start_shop(faults=Faults(refuse_kinds=("cancel",))).url
    async with _box(url) as box:
        with pytest.raises(ToolRefusedError) as refused:
            await _call(box, "retail.cancel", _cancellation(url))
    assert refused.value.code == "refused_by_fault"


@pytest.mark.parametrize("recovery", ["idempotent", "verifiable"])
async def test_an_undo_takes_back_what_happened_under_the_key_it_names(start_shop: StartShop, recovery: str) -> None:
    url = start_shop(faults=Faults()).url
    before, args = _export(url), _cancellation(url)
    order_id = msgspec.json.decode(args)["order_id"]
    undo = _json({"order_id": order_id, "change_key": "wm-t-change"})
    async with _box(url, recovery=recovery) as box:
        with pytest.raises(ToolRefusedError) as refused:
            await _call(box, "retail.undo", undo, "wm-t-change~undo")
        assert refused.value.code == "unknown_key"
        await _call(box, "retail.cancel", args)
        with pytest.raises(ToolRefusedError) as refused:
            other = _json({"order_id": "#W0000000", "change_key": "wm-t-change"})
            await _call(box, "retail.undo", other, "wm-t-change~undo")
        assert refused.value.code == "other_order"
        assert await _verify(box, "retail.undo", undo, "wm-t-change~undo") is None
        done = await _call(box, "retail.undo", undo, "wm-t-change~undo")
        assert await _verify(box, "retail.undo", undo, "wm-t-change~undo") == done | {"replayed": True}
    assert (done["kind"], done["order_id"]) == ("undo", order_id)
    assert _export(url) == before


async def test_a_quote_of_an_order_that_is_not_there_has_every_field(start_shop: StartShop) -> None:
    async with _box(start_shop().url) as box:
        args = {"kind": "retail.return", "order_id": "#W0000000", "user_id": "nobody", "item_ids": ["1"]}
        answer = await _call(box, "retail.quote", _json(args))
    assert answer == {
        "order_found": False,
        "customer_found": False,
        "owner_matches": False,
        "order_status": "",
        "amount": 0,
        "amount_usd": "0.00",
        "email": "",
        "first_name": "",
        "method": "payment method",
        "items": "",
    }


async def test_a_quote_tells_nothing_of_what_is_in_another_customers_order(start_shop: StartShop) -> None:
    url = start_shop().url
    exported = _export(url)
    order = next(iter(exported["orders"].values()))
    other = next(user_id for user_id in exported["users"] if user_id != order["user_id"])
    args = {"kind": "retail.cancel", "order_id": order["order_id"], "user_id": other}
    async with _box(url) as box:
        answer = await _call(box, "retail.quote", _json(args))
        own = await _call(box, "retail.quote", _json(args | {"user_id": order["user_id"]}))
    assert (answer["order_found"], answer["owner_matches"], answer["items"]) == (True, False, "")
    assert answer["email"] == exported["users"][other]["email"]
    assert own["items"] == ", ".join(item["name"] for item in order["items"])


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
    assert body is not None and body.get_content() == LETTER["body"]
    assert data.count(b"\n") == data.count(b"\r\n")


async def test_a_letter_is_written_once_however_often_and_at_once_it_is_asked_for(tmp_path: Path) -> None:
    box = _folder(tmp_path)
    answers = await asyncio.gather(*(_call(box, "retail.notify", _json(LETTER), "wm-t-notify") for _ in range(16)))
    assert [answer["replayed"] for answer in answers].count(False) == 1
    first = (tmp_path / "wm-t-notify.eml").read_bytes()
    other = await _call(box, "retail.notify", _json(LETTER | {"body": "another"}), "wm-t-notify")
    assert other["replayed"] is True
    assert (tmp_path / "wm-t-notify.eml").read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["wm-t-notify.eml"]  # no temporary file is left


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
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["", "..", "../up", ".hidden", "a/b", "a\0b", "a\nb", "k" * 201])
async def test_a_key_is_never_a_path(tmp_path: Path, key: str) -> None:
    outbox = FolderOutbox(tmp_path / "out", "orders@shop.example")
    args = msgspec.convert(LETTER, NotifyArgs)
    for asked in (outbox.send(args, key), outbox.find(key)):
        with pytest.raises(ToolRefusedError):
            await asked
    assert list(tmp_path.iterdir()) == []


class MailServer:
    """A small SMTP server; ``answers`` replaces the answer to a command, None hangs up instead."""

    def __init__(self, answers: dict[str, str | None]) -> None:
        self.port = 0
        self.letters: list[bytes] = []
        self._answers = {"EHLO": "250 mail", "QUIT": "221 bye", "DATA": "354 go on", ".": "250 taken"} | answers

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


async def test_the_pack_opens_what_its_tools_talk_to(tmp_path: Path, start_shop: StartShop) -> None:
    options = pack.read_options(_json({"shop_url": start_shop().url, "outbox_dir": str(tmp_path / "out")}))
    async with connect(options) as systems:
        assert systems.keys() == {tool.target for tool in tools(options)}
        assert (await systems["shop"].lookup("#W0000000", "nobody")).order is None
        assert isinstance(systems["outbox"], FolderOutbox)
    async with connect(RetailOptions(smtp_url="smtps://mail.example", smtp_password="hush")) as systems:
        assert isinstance(systems["outbox"], SmtpOutbox)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"shop": "http://x"},
        {"shop_url": "127.0.0.1:80"},
        {"shop_url": "http://user:hush@x"},
        {"shop_url": "http://x:99999"},
        {"recovery": "manual"},
        {"smtp_url": "http://x"},
        {"smtp_url": "smtp://user:hush@mail.example"},
        {"sender": "Shop <a@b>"},
    ],
)
def test_a_wrong_setting_is_refused_by_name_and_shows_no_password(options: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as refused:
        pack.read_options(_json(options))
    assert next(iter(options)) in str(refused.value)
    assert "hush" not in str(refused.value)


def test_a_password_does_not_show_in_what_is_printed_of_a_server() -> None:
    server = RetailOptions(smtp_url="smtp://mail.example", smtp_user="shop", smtp_password="hush").smtp_server()
    assert server is not None and server.port == 587
    assert "hush" not in repr(server)
