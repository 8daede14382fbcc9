"""Notices on a real disk and to a real server: there once, whole, and refused only for good."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mesh.errors import NotSentError, SettingsError, ToolRefusedError, UncertainError
from mesh.notices import TOOL, NoticeArgs, noticing
from mesh.ports import free_port
from mesh.settings import NoticeSettings, Settings

ARGS = NoticeArgs(
    who="treasury",
    task_id="t1",
    domain="shop",
    step="pay",
    tool="shop.pay",
    amount=120,
    currency="USD",
    policies=("p",),
)
KEY = "wm-t1-pay~notify"


class Receiver:
    """An HTTP server that remembers what it was sent, and answers as told."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.heard: list[tuple[dict[str, str], dict[str, Any]]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.heard.append(({k.lower(): v for k, v in self.headers.items()}, json.loads(body)))
                self.send_response(receiver.answers.pop(0) if receiver.answers else 204)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/told?token=secret"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    thread = threading.Thread(target=found.server.serve_forever, daemon=True)
    thread.start()
    yield found
    found.server.shutdown()
    found.server.server_close()
    thread.join()


async def tell(settings: Settings, key: str = KEY, times: int = 1) -> dict[str, Any]:
    """Deliver a notice through its toolbox; what the tool answers."""
    async with noticing(settings) as toolbox:
        tool = toolbox.find(TOOL)
        raw = msgspec.Raw(msgspec.json.encode(ARGS))
        calls = [toolbox.call(tool, raw, key=key, epoch=1, call_by=time.time() + 5) for _ in range(times)]
        answers = await asyncio.gather(*calls)
    answer: dict[str, Any] = json.loads(bytes(answers[0]))
    return answer


def to(url: str) -> Settings:
    return Settings(notices=NoticeSettings(url=url))


async def test_a_notice_is_one_file_however_often_it_is_told(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    answer = await tell(settings, times=8)
    (path,) = (tmp_path / "notices").iterdir()
    first = path.read_bytes()
    await tell(settings)
    assert [str(path)] == [str(each) for each in (tmp_path / "notices").iterdir()] == [answer["to"]]
    assert path.read_bytes() == first
    assert path.stat().st_mode & 0o777 == 0o600
    event = json.loads(first)
    assert event["type"] == TOOL and event["id"] == KEY
    assert event["data"] == json.loads(msgspec.json.encode(ARGS))


async def test_a_folder_that_cannot_be_written_may_be_mended(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = Settings(notices=NoticeSettings(folder=str(tmp_path / "file" / "notices")))
    with pytest.raises(NotSentError, match="was not written"):
        await tell(settings)


async def test_a_notice_goes_to_a_url_as_a_cloud_event_with_its_key(receiver: Receiver) -> None:
    answer = await tell(to(receiver.url))
    ((headers, event),) = receiver.heard
    assert headers["idempotency-key"] == KEY == event["id"]
    assert headers["content-type"] == "application/cloudevents+json"
    assert event["specversion"] == "1.0" and event["source"] == "/workmesh/shop" and event["subject"] == "t1"
    assert event["data"]["who"] == "treasury"
    assert "secret" not in answer["to"]


@pytest.mark.parametrize("status", [400, 404, 410])
async def test_a_client_error_is_a_refusal_for_good(receiver: Receiver, status: int) -> None:
    receiver.answers = [status]
    with pytest.raises(ToolRefusedError, match=str(status)):
        await tell(to(receiver.url))
    assert len(receiver.heard) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_what_may_pass_is_tried_again_under_the_same_key(receiver: Receiver, status: int) -> None:
    receiver.answers = [status, status, 204]
    await tell(to(receiver.url))
    assert {headers["idempotency-key"] for headers, _ in receiver.heard} == {KEY}
    receiver.answers = [status] * 3
    with pytest.raises(UncertainError):
        await tell(to(receiver.url))


async def test_nobody_there_is_not_sent() -> None:
    with pytest.raises(NotSentError):
        await tell(to(f"http://127.0.0.1:{free_port()}"))


@pytest.mark.parametrize("notices", [NoticeSettings(url="smtp://x"), NoticeSettings(url="http://x", folder="y")])
async def test_a_place_that_is_none_is_refused_at_the_start(notices: NoticeSettings) -> None:
    with pytest.raises(SettingsError, match="notices"):
        await tell(Settings(notices=notices))
