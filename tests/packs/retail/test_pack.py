"""The retail pack as the processes find it: its settings, its systems, its tools."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mesh.errors import SettingsError
from mesh.pack import load_packs
from mesh.records import Json
from packs.retail.outbox import FolderOutbox, SmtpOutbox
from packs.retail.pack import RetailOptions, connect, pack, tools
from packs.retail.shop.process import ShopProcess

StartShop = Callable[..., ShopProcess]


def _json(value: Any) -> Json:
    return msgspec.Raw(msgspec.json.encode(value))


def test_the_pack_is_found_by_its_entry_point() -> None:
    assert load_packs(("retail",)) == {"retail": pack}
    assert pack.playbooks.is_dir() and pack.policies.is_dir()


async def test_the_pack_opens_what_its_tools_talk_to(tmp_path: Path, start_shop: StartShop) -> None:
    options = pack.read_options(_json({"shop_url": start_shop().url, "outbox_dir": str(tmp_path / "out")}))
    async with connect(options) as systems:
        assert systems.keys() == {tool.target for tool in tools(options)} - {"local"}
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
