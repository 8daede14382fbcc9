"""The page that leads through a site's first week, followed whole: with Prometheus, and a person at a browser."""

import re
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect, sync_playwright

from mesh.ports import free_port
from tests.docs.pages import ROOT
from tests.docs.reader import Reader

PAGE = ROOT / "docs" / "first-site.md"
TASK = "6337h7tvmoku4rhoiupif3lwys"
WAIT_MS = 20_000

expect.set_options(timeout=WAIT_MS)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    ports = {port: str(free_port()) for port in ("9090", "4223")}
    with Reader(PAGE, replaced=ports, env={"WORKMESH_CONSOLE__PORT": str(free_port())}) as found:
        yield found


def test_it_comes_up_and_is_watched(reader: Reader) -> None:
    reader.follow(2)


def test_ann_approves_in_the_browser(reader: Reader) -> None:
    reader.follow(3)
    url = f"http://127.0.0.1:{reader.env['WORKMESH_CONSOLE__PORT']}"
    (token,) = re.findall(r"wmc_\S+", reader.said)
    with (
        sync_playwright() as play,
        play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"]) as browser,
    ):
        page = browser.new_page()
        page.set_default_timeout(WAIT_MS)
        page.goto(url)
        page.fill("#token", token)
        page.click("main button")
        page.get_by_role("link", name="Your key").click()
        expect(page.locator("#key-now")).to_contain_text("There is no key of yours")
        page.set_input_files("#key-file", reader.folder / "people" / "ann.nk")
        expect(page.locator("#key-now")).to_contain_text("can only sign")
        page.get_by_role("link", name="Approvals").click()
        page.click(f'a[href="/approvals/{TASK}"]')
        page.click("#approve")
        expect(page.locator("#state .good")).to_contain_text("allow")
        reader.follow(4)


def test_a_hub_is_joined_cut_off_and_joined_again(reader: Reader) -> None:
    reader.follow(5)
    reader.env["WORKMESH_CONFIG"] = "site.toml"  # as the page says
    reader.follow(7)


def test_what_is_lost_is_restored(reader: Reader) -> None:
    reader.follow(9)


def test_an_upgrade_loses_nothing(reader: Reader) -> None:
    reader.follow(10)
