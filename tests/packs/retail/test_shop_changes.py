"""What a client of the shop may rely on: keys, deadlines, undo, the log, and a shop that dies."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from packs.retail.sample.generate import FOLDER as SAMPLE
from packs.retail.shop.faults import Faults
from packs.retail.shop.process import ShopProcess

StartShop = Callable[..., ShopProcess]


def _export(shop: httpx2.Client) -> dict[str, Any]:
    exported: dict[str, Any] = shop.get("/export").json()
    return exported


def _pending(shop: httpx2.Client, paid_with: str = "") -> list[dict[str, Any]]:
    orders = _export(shop)["orders"].values()
    return [
        order
        for order in orders
        if order["status"] == "pending" and order["payment_history"][0]["payment_method_id"].startswith(paid_with)
    ]


def _cancel(order: dict[str, Any], **more: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"kind": "cancel", "order_id": order["order_id"], "user_id": order["user_id"]}
    return body | {"reason": "no longer needed"} | more


def _move(order: dict[str, Any], street: str = "1 Kiln Row") -> dict[str, Any]:
    address: dict[str, Any] = order["address"]
    body: dict[str, Any] = {"kind": "change-address", "order_id": order["order_id"], "user_id": order["user_id"]}
    return body | address | {"address1": street}


def _post(shop: httpx2.Client, key: str, body: dict[str, Any], **headers: str) -> httpx2.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return shop.post("/changes", json=body, headers={"Idempotency-Key": key} | named)


def _keys(shop: httpx2.Client) -> list[str]:
    return [change["key"] for change in shop.get("/changes").json()["changes"]]


def test_the_same_key_twice_changes_once_and_answers_the_same(shop: httpx2.Client) -> None:
    body = _cancel(_pending(shop, "gift_card")[0])
    first = _post(shop, "a", body)
    after = _export(shop)
    second = _post(shop, "a", body)
    assert first.status_code == second.status_code == 200
    assert first.json() | {"replayed": True} == second.json() == shop.get("/changes/a").json()
    assert _export(shop) == after
    assert _keys(shop) == ["a"]


def test_many_at_once_with_the_same_key_change_once(shop: httpx2.Client) -> None:
    body = _cancel(_pending(shop)[0])
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: _post(shop, "a", body).json(), range(24)))
    assert sum(not answer["replayed"] for answer in answers) == 1
    assert _keys(shop) == ["a"]


def test_a_key_used_with_another_body_is_refused(shop: httpx2.Client) -> None:
    one, other = _pending(shop)[:2]
    _post(shop, "a", _cancel(one))
    reused = _post(shop, "a", _cancel(other))
    assert (reused.status_code, reused.json()) == (422, {"error": "key_reused"})
    assert _keys(shop) == ["a"]


def test_a_refusal_leaves_its_key_free(shop: httpx2.Client) -> None:
    order = _pending(shop)[0]
    assert _post(shop, "a", _cancel(order, user_id="nobody")).json()["error"] == "not_owner"
    assert shop.get("/changes/a").json() == {"error": "unknown_key"}
    assert _post(shop, "a", _cancel(order)).status_code == 200


def test_ignored_keys_apply_the_change_again_and_the_log_shows_both(shop: httpx2.Client) -> None:
    shop.put("/faults", json={"keys": "ignore"})
    body = _move(_pending(shop)[0])
    assert [_post(shop, "a", body).json()["replayed"] for _ in range(2)] == [False, False]
    assert _keys(shop) == ["a", "a"]
    assert shop.get("/changes/a").json()["seq"] == 2


def test_a_change_past_its_deadline_changes_nothing(shop: httpx2.Client) -> None:
    before, body = _export(shop), _cancel(_pending(shop)[0])
    late = _post(shop, "a", body, Request_Deadline=str(time.time() - 1))
    assert (late.status_code, late.json()) == (408, {"error": "deadline_passed"})
    assert _export(shop) == before
    assert _keys(shop) == []
    assert _post(shop, "a", body, Request_Deadline=str(time.time() + 60)).status_code == 200


def test_a_delay_in_the_shop_counts_against_the_deadline(shop: httpx2.Client) -> None:
    shop.put("/faults", json={"delay_ms": 300})
    late = _post(shop, "a", _cancel(_pending(shop)[0]), Request_Deadline=str(time.time() + 0.1))
    assert late.status_code == 408
    assert _keys(shop) == []


def test_an_amount_other_than_expected_is_refused(shop: httpx2.Client) -> None:
    order = _pending(shop)[0]
    paid = round(order["payment_history"][0]["amount"] * 100)
    assert _post(shop, "a", _cancel(order, expect_amount=paid + 1)).json()["error"] == "amount_differs"
    assert _post(shop, "a", _cancel(order, expect_amount=paid)).json()["amount"] == paid


@pytest.mark.parametrize("paid_with", ["gift_card", "credit_card"])
def test_undo_restores_order_and_gift_cards_exactly(shop: httpx2.Client, paid_with: str) -> None:
    before = _export(shop)
    _post(shop, "a", _cancel(_pending(shop, paid_with)[0]))
    assert _export(shop) != before
    undone = [shop.post("/changes/a/undo", headers={"Idempotency-Key": "undo-a"}).json() for _ in range(2)]
    assert [answer["replayed"] for answer in undone] == [False, True]
    assert _export(shop) == before
    assert [change["kind"] for change in shop.get("/changes").json()["changes"]] == ["cancel", "undo"]


def test_undo_is_refused_once_the_order_has_changed_since(shop: httpx2.Client) -> None:
    order = _pending(shop)[0]
    _post(shop, "a", _move(order))
    _post(shop, "b", _move(order, "2 Kiln Row"))
    refused = shop.post("/changes/a/undo", headers={"Idempotency-Key": "undo-a"})
    assert (refused.status_code, refused.json()["error"]) == (409, "changed_since")
    assert shop.post("/changes/none/undo", headers={"Idempotency-Key": "u"}).json() == {"error": "unknown_key"}


def test_undo_moves_a_gift_card_by_its_own_change_only_and_never_below_zero(
    start_shop: StartShop, tmp_path: Path
) -> None:
    orders = json.loads((SAMPLE / "orders.json").read_text())
    paid_by_card = next(o for o in orders.values() if o["status"] == "pending" and _dear_by_gift_card(o))
    users = json.loads((SAMPLE / "users.json").read_text())
    methods = users[paid_by_card["user_id"]]["payment_methods"]
    gift, credit = (next(m for m in methods if m.startswith(source)) for source in ("gift_card", "credit_card"))
    twin = json.loads(json.dumps(paid_by_card)) | {"order_id": "#W0000002"}
    twin["payment_history"][0]["payment_method_id"] = credit
    data = tmp_path / "data"
    shutil.copytree(SAMPLE, data, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (data / "orders.json").write_text(json.dumps(orders | {"#W0000002": twin}))
    with httpx2.Client(base_url=start_shop(data=data).url, trust_env=False) as shop:
        before = _export(shop)
        _post(shop, "a", _cancel(paid_by_card))
        pay = {"kind": "change-payment", "order_id": "#W0000002", "user_id": twin["user_id"], "payment_method_id": gift}
        assert _post(shop, "b", pay).json()["gift_cards"] == {gift: methods[gift]["balance"]}
        refused = shop.post("/changes/a/undo", headers={"Idempotency-Key": "undo-a"})
        assert (refused.status_code, refused.json()["error"]) == (409, "insufficient_gift_card")
        for key in ("b", "a"):
            assert shop.post(f"/changes/{key}/undo", headers={"Idempotency-Key": f"undo-{key}"}).status_code == 200
        assert _export(shop) == before


def _dear_by_gift_card(order: dict[str, Any]) -> bool:
    payment: dict[str, Any] = order["payment_history"][0]
    return payment["payment_method_id"].startswith("gift_card") and bool(payment["amount"] > 500)


def test_a_crash_after_the_commit_keeps_the_change_and_its_answer(start_shop: StartShop) -> None:
    dying = start_shop(faults=Faults(crash_after_commit=2))
    with httpx2.Client(base_url=dying.url, trust_env=False) as shop:
        one, other = _pending(shop)[:2]
        assert _post(shop, "a", _cancel(one)).status_code == 200
        with pytest.raises(httpx2.TransportError):
            _post(shop, "b", _cancel(other))
    assert dying.wait() == -signal.SIGKILL
    with httpx2.Client(base_url=start_shop().url, trust_env=False) as shop:
        assert shop.get("/changes/b").json()["order_id"] == other["order_id"]
        assert _post(shop, "b", _cancel(other)).json()["replayed"] is True
        assert _keys(shop) == ["a", "b"]


@pytest.mark.parametrize("point", ["crash_on_request", "crash_before_commit"])
def test_a_crash_before_the_commit_leaves_nothing_of_the_change(start_shop: StartShop, point: str) -> None:
    dying = start_shop(faults=msgspec.convert({point: 2}, Faults))
    with httpx2.Client(base_url=dying.url, trust_env=False) as shop:
        one, other = _pending(shop)[:2]
        assert _post(shop, "a", _cancel(one)).status_code == 200
        with pytest.raises(httpx2.TransportError):
            _post(shop, "b", _cancel(other))
    assert dying.wait() == -signal.SIGKILL
    with httpx2.Client(base_url=start_shop().url, trust_env=False) as shop:
        assert _keys(shop) == ["a"]
        assert _post(shop, "b", _cancel(other)).json()["replayed"] is False


def test_a_frozen_shop_answers_when_it_is_let_go_on(start_shop: StartShop) -> None:
    frozen = start_shop(faults=Faults(crash_before_commit=1, freeze=True))
    with httpx2.Client(base_url=frozen.url, trust_env=False) as shop, ThreadPoolExecutor() as pool:
        answer = pool.submit(_post, shop, "a", _cancel(_pending(shop)[0]))
        while Path(f"/proc/{frozen.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.01)
        assert not answer.done()
        os.kill(frozen.pid, signal.SIGCONT)
        assert answer.result().status_code == 200
        assert _keys(shop) == ["a"]


def test_a_stopped_shop_ends_well_and_a_restarted_one_keeps_its_state(start_shop: StartShop) -> None:
    running = start_shop()
    with httpx2.Client(base_url=running.url, trust_env=False) as shop:
        _post(shop, "a", _cancel(_pending(shop)[0]))
        before = _export(shop)
    assert running.stop() == 0
    with httpx2.Client(base_url=start_shop().url, trust_env=False) as shop:
        assert _export(shop) == before
        assert _keys(shop) == ["a"]


def test_injected_errors_strike_before_or_after_the_commit(shop: httpx2.Client) -> None:
    one, other, third = _pending(shop)[:3]
    shop.put("/faults", json={"error_rate": 1.0})
    assert _post(shop, "before", _cancel(one)).status_code == 500
    shop.put("/faults", json={"error_after_rate": 1.0})
    assert _post(shop, "after", _cancel(other)).status_code == 500
    shop.put("/faults", json={"refuse_kinds": ["cancel"]})
    assert _post(shop, "refused", _cancel(third)).json()["error"] == "refused_by_fault"
    assert _keys(shop) == ["after"]


def test_the_same_seed_draws_the_same_errors(shop: httpx2.Client) -> None:
    body, runs = _move(_pending(shop)[0]), []
    for run in range(2):
        shop.put("/faults", json={"error_rate": 0.5, "seed": 7})
        runs.append([_post(shop, f"{run}-{n}", body).status_code for n in range(20)])
    assert runs[0] == runs[1]
    assert set(runs[0]) == {200, 500}


def test_a_shop_that_is_not_to_be_faulty_has_no_faults_page(start_shop: StartShop) -> None:
    with httpx2.Client(base_url=start_shop().url, trust_env=False) as shop:
        assert shop.get("/faults").status_code == 404
        assert shop.put("/faults", json={}).status_code == 404


def test_lookup_answers_whole_documents_and_null_for_what_is_not_there(shop: httpx2.Client) -> None:
    order = _pending(shop)[0]
    item = order["items"][0]
    query = {"order": order["order_id"], "user": "nobody", "variant": [item["item_id"], "0"]}
    found = shop.get("/lookup", params=query).json()
    assert (found["order"], found["user"], found["variants"]["0"]) == (order, None, None)
    assert set(found["variants"][item["item_id"]]) == set(item) | {"available"}
    assert shop.get("/lookup").json() == {"order": None, "user": None, "variants": {}}


def test_the_log_is_read_in_pages(shop: httpx2.Client) -> None:
    order = _pending(shop)[0]
    for n in range(5):
        _post(shop, f"k{n}", _move(order, f"{n + 1} Kiln Row"))
    page = shop.get("/changes", params={"after": 2, "limit": 2}).json()["changes"]
    assert [(change["seq"], change["key"]) for change in page] == [(3, "k2"), (4, "k3")]
    assert shop.get("/changes", params={"after": "x"}).status_code == 400


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"\xff\xfe", b'{"kind":"teleport"}', b'{"kind":"cancel"}', b" " * 70_000]
)
def test_a_malformed_body_is_invalid(shop: httpx2.Client, body: bytes) -> None:
    answer = shop.post("/changes", content=body, headers={"Idempotency-Key": "a"})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid")


def test_a_key_and_a_readable_deadline_are_required(shop: httpx2.Client) -> None:
    body = _cancel(_pending(shop)[0])
    assert shop.post("/changes", json=body).status_code == 400
    assert _post(shop, "a", body, Request_Deadline="soon").status_code == 400
    assert _keys(shop) == []
