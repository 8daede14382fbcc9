"""The CMS: revisions by If-Match, every change once under its key, nothing overwritten."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from packs.content.cms.faults import Faults
from packs.content.sample.catalogue import brief
from tests.packs.content.conftest import StartCms

PAGE = {"kind": "page", "slug": "lamp", "locale": "en", "author": "bob"}


@pytest.fixture
def cms(start_cms: StartCms) -> Iterator[httpx2.Client]:
    """A client of a CMS with one article."""
    with httpx2.Client(base_url=start_cms().url, trust_env=False) as client:
        body = {"kind": "brief", "slug": "lamp", "brief": msgspec.to_builtins(brief("lamp", 1)), "requested_by": "ann"}
        assert change(client, "k0", body).status_code == 200
        yield client


def change(client: httpx2.Client, key: str, body: Any, **headers: str) -> httpx2.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post("/changes", json=body, headers={"idempotency-key": key, **names})


def put(client: httpx2.Client, key: str, text: str, on: int, **more: Any) -> httpx2.Response:
    return change(client, key, {**PAGE, "text": text, **more}, if_match=f'"{on}"')


def test_a_page_is_put_on_the_revision_that_stands(cms: httpx2.Client) -> None:
    assert put(cms, "k1", "one\n", 0).json()["revision"] == 1
    stale = put(cms, "k2", "two\n", 0)
    assert (stale.status_code, stale.headers["etag"], stale.json()["error"]) == (412, '"1"', "stale")
    assert put(cms, "k2", "two\n", 1).json()["revision"] == 2
    head = cms.get("/articles/lamp/en")
    assert (head.headers["etag"], head.json()["text"]) == ('"2"', "two\n")
    assert cms.get("/articles/lamp/en/1").json()["text"] == "one\n"


@pytest.mark.parametrize("if_match", ["", "1", '"x"', "*", '"-1"', 'W/"1"'])
def test_a_page_is_never_put_without_a_revision(cms: httpx2.Client, if_match: str) -> None:
    headers = {"if_match": if_match} if if_match else {}
    assert change(cms, "k1", {**PAGE, "text": "one\n"}, **headers).status_code == 400


def test_a_key_changes_something_once(cms: httpx2.Client) -> None:
    first = put(cms, "k1", "one\n", 0).json()
    again = put(cms, "k1", "one\n", 0).json()
    assert (again.pop("replayed"), first.pop("replayed"), again) == (True, False, first)
    assert cms.get("/changes/k1").json()["revision"] == 1
    assert [entry["key"] for entry in cms.get("/changes").json()] == ["k0", "k1"]
    assert cms.get("/changes/k9").status_code == 404


def test_a_key_is_not_used_for_something_else(cms: httpx2.Client) -> None:
    body = {"kind": "assign", "slug": "lamp", "people": {"en": "bob"}}
    assert change(cms, "k1", body).status_code == 200
    refused = change(cms, "k1", {**body, "people": {"en": "eve"}})
    assert (refused.status_code, refused.json()["error"]) == (409, "key_reused")


def test_a_late_change_is_refused(cms: httpx2.Client) -> None:
    late = change(cms, "k1", {**PAGE, "text": "x"}, if_match='"0"', request_deadline=str(time.time() - 1))
    assert (late.status_code, cms.get("/articles/lamp/en").status_code) == (408, 404)


def test_the_cms_itself_holds_back_what_is_under_embargo(cms: httpx2.Client) -> None:
    secret = {**msgspec.to_builtins(brief("chair", 2)), "embargo": "2099-01-01T00:00:00Z"}
    change(cms, "k1", {"kind": "brief", "slug": "chair", "brief": secret, "requested_by": "ann"})
    put(cms, "k2", "one\n", 0, slug="chair")
    release = {"kind": "release", "slug": "chair", "release": {"state": "live", "revisions": {"en": 1}}}
    refused = change(cms, "k3", release)
    assert (refused.status_code, refused.json()["error"]) == (409, "embargo")
    assert cms.get("/articles/chair").json()["release"] is None


@pytest.mark.parametrize("fault", ["crash_before_commit", "crash_after_commit"])
def test_a_change_is_there_whole_or_not_at_all_after_a_crash(start_cms: StartCms, fault: str) -> None:
    first = start_cms()
    with httpx2.Client(base_url=first.url, trust_env=False) as client:
        body = {"kind": "brief", "slug": "lamp", "brief": msgspec.to_builtins(brief("lamp", 1)), "requested_by": "ann"}
        change(client, "k0", body)
    first.stop()
    faulty = start_cms(faults=msgspec.convert({fault: 1}, Faults))
    with httpx2.Client(base_url=faulty.url, trust_env=False) as client, pytest.raises(httpx2.RequestError):
        put(client, "k1", "one\n", 0)
    faulty.wait()
    with httpx2.Client(base_url=start_cms().url, trust_env=False) as client:
        known = client.get("/changes/k1").status_code == 200
        assert known is (fault == "crash_after_commit")
        assert (client.get("/articles/lamp/en").status_code == 200) is known
        assert put(client, "k1", "one\n", 0).json()["replayed"] is known


def test_no_revision_and_no_line_of_the_log_can_be_changed(cms: httpx2.Client, tmp_path: Path) -> None:
    put(cms, "k1", "one\n", 0)
    with closing(sqlite3.connect(tmp_path / "cms.db")) as database:
        for statement in ("UPDATE pages SET document = ''", "DELETE FROM pages", "DELETE FROM changes"):
            with pytest.raises(sqlite3.IntegrityError, match="append only"):
                database.execute(statement)
