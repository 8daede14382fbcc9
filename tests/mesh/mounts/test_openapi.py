"""Operations of an HTTP service as tools: what is sent, and what each answer says of how far a call got."""

import base64
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from starlette.responses import JSONResponse, PlainTextResponse, Response

from mesh.errors import NotSentError, SettingsError, ToolError, ToolRefusedError, UncertainError
from mesh.mounts.folder import read_mount
from mesh.mounts.review import accept
from tests.mesh.mounts.billing import BODY, CREATE, DOCUMENT, MODERN, Billing, mount_file, service
from tests.mesh.mounts.mounting import mounted


@pytest.mark.parametrize("version", ["3.0.3", "3.1.0"])
async def test_an_operation_is_called_with_its_arguments_key_and_deadline(tmp_path: Path, version: str) -> None:
    document = DOCUMENT if version == "3.0.3" else MODERN
    async with service(tmp_path, document=document) as (billing, box):
        answer = await box.call("billing.create", "wm-t1", body={**BODY, "note": None})
        assert (answer["status"], answer["data"]) == (201, {"invoices": 1})
        for wrong in ({"cents": 5}, {**BODY, "cents": 0}, {**BODY, "more": 1}, {**BODY, "note": 5}):
            with pytest.raises(ToolRefusedError) as caught:
                await box.call("billing.create", "wm-t2", body=wrong)
            assert caught.value.code == "invalid_arguments"
        own: dict[str, Any] = {"body": BODY, "Idempotency-Key": "mine"}
        with pytest.raises(ToolRefusedError):  # the key is the runtime's to give
            await box.call("billing.create", "wm-t2", **own)
    (request,) = billing.requests
    assert billing.invoices == {"wm-t1": {**BODY, "note": None}}
    assert request.headers["request-deadline"].endswith("GMT") and "elsewhere" not in str(request.url)


async def test_parts_of_paths_queries_and_headers_go_where_they_belong_and_nowhere_else(tmp_path: Path) -> None:
    async with service(tmp_path) as (billing, box):
        args: dict[str, Any] = {"id": "a/../b?c=1#d", "X-Language": "de"}
        answer = await box.call("billing.get", **args)
        assert answer["data"]["id"] == "a/../b?c=1#d"
        assert billing.requests[0].headers["x-language"] == "de" and not billing.requests[0].url.query
        await box.call("billing.find", key="k&x=1", tag=["a", "b"])
        assert billing.requests[1].query_params.multi_items() == [("key", "k&x=1"), ("tag", "a"), ("tag", "b")]
        wrong: list[dict[str, Any]] = [{"id": ".."}, {"id": "a", "X-Language": "de\r\nX-Admin: yes"}]
        for args in wrong:
            with pytest.raises(ToolRefusedError):
                await box.call("billing.get", **args)
    assert len(billing.requests) == 2


async def test_what_came_of_a_key_is_asked_by_the_declared_get(tmp_path: Path) -> None:
    async with service(tmp_path) as (billing, box):
        assert await box.verify("billing.create", "wm-t1", body=BODY) is None
        billing.hang = True
        with pytest.raises(UncertainError):
            await box.call("billing.create", "wm-t1", body=BODY)
        billing.hang = False
        found = await box.verify("billing.create", "wm-t1", body=BODY)
        assert found["data"] == {"items": [BODY]}
        billing.answer = PlainTextResponse("no such thing", status_code=404)
        assert await box.verify("billing.create", "wm-t1", body=BODY) is None
        billing.answer = PlainTextResponse("oops", status_code=500)
        with pytest.raises(NotSentError):
            await box.verify("billing.create", "wm-t1", body=BODY)


STATUSES: list[tuple[int, dict[str, str], type[ToolError]]] = [
    (400, {}, ToolRefusedError),
    (404, {}, ToolRefusedError),
    (408, {}, UncertainError),
    (409, {}, UncertainError),  # a call with this key is under way
    (422, {}, ToolRefusedError),
    (425, {}, NotSentError),
    (429, {}, NotSentError),
    (500, {}, UncertainError),
    (503, {}, UncertainError),
    (503, {"retry-after": "1"}, NotSentError),
    (302, {"location": "http://127.0.0.1:1/steal"}, UncertainError),
    (307, {"location": "http://127.0.0.1:1/steal"}, ToolRefusedError),
]


async def test_a_status_says_how_far_a_call_got(tmp_path: Path) -> None:
    async with service(tmp_path) as (billing, box):
        for status, headers, error in STATUSES:
            billing.answer = PlainTextResponse("because " * 200, status_code=status, headers=headers)
            with pytest.raises(error, match=f"answered {status}: because") as caught:
                await box.call("billing.create", body=BODY)
            assert len(str(caught.value)) < 500
            billing.answer = None
            await box.call("billing.create", body=BODY)  # the breaker stays closed
    assert len(billing.requests) == 2 * len(STATUSES)


async def test_a_conflict_without_a_key_is_a_refusal(tmp_path: Path) -> None:
    async with service(tmp_path) as (billing, box):
        billing.answer = PlainTextResponse("paid already", status_code=409)
        with pytest.raises(ToolRefusedError, match="paid already"):
            await box.call("billing.delete", id="a")


async def test_a_service_that_is_away_was_sent_nothing(tmp_path: Path) -> None:
    async with service(tmp_path) as (_, box):
        pass
    billing = Billing()
    path = mount_file(tmp_path / "mounts", billing)
    async with mounted(path) as box:
        with pytest.raises(NotSentError, match="billing cannot be reached"):
            await box.call("billing.create", body=BODY)


async def test_an_answer_that_is_too_large_or_compressed_is_not_taken(tmp_path: Path) -> None:
    async with service(tmp_path, max_bytes=1000) as (billing, box):
        billing.answer = PlainTextResponse("x" * 1001)
        with pytest.raises(UncertainError, match="larger"):
            await box.call("billing.create", body=BODY)
        billing.answer = PlainTextResponse("x" * 1000)
        assert len((await box.call("billing.create", body=BODY))["text"]) == 1000
        billing.answer = Response(b"\x1f\x8b", headers={"content-encoding": "gzip"})
        with pytest.raises(UncertainError, match="compressed"):
            await box.call("billing.create", body=BODY)
        billing.answer = Response(b"{no json", media_type="application/json")
        with pytest.raises(UncertainError, match="no JSON"):
            await box.call("billing.create", body=BODY)


@pytest.mark.parametrize("kind", ["bearer", "basic", "header", "query"])
async def test_a_secret_comes_from_its_file_and_stands_in_no_error(tmp_path: Path, kind: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cr3t\n")
    secret.chmod(0o600)
    auth = {"kind": kind, "file": str(secret), "name": "X-Api-Key", "user": "ann"}
    async with service(tmp_path, auth=auth) as (billing, box):
        await box.call("billing.get", id="a")
        request = billing.requests[0]
        basic = "Basic " + base64.b64encode(b"ann:s3cr3t").decode()
        expected = {"bearer": "Bearer s3cr3t", "basic": basic}
        if kind in expected:
            assert request.headers["authorization"] == expected[kind]
        else:
            assert (request.headers if kind == "header" else request.query_params)["X-Api-Key"] == "s3cr3t"
        billing.answer = JSONResponse({"you sent": [*dict(request.headers).values(), str(request.url)]})
        said = str(await box.call("billing.get", id="a"))
        assert "s3cr3t" not in said and base64.b64encode(b"ann:s3cr3t").decode() not in said and "[redacted]" in said
        billing.answer = PlainTextResponse("wrong key s3cr3t", status_code=403)
        with pytest.raises(ToolRefusedError, match=r"wrong key \[redacted\]"):
            await box.call("billing.get", id="a")
        secret.chmod(0o640)
        with pytest.raises(NotSentError, match="make it 0600"):
            await box.call("billing.get", id="a")
    with pytest.raises(NotSentError) as caught:
        secret.chmod(0o600)
        async with mounted(tmp_path / "mounts" / "billing.yaml") as box:
            await box.call("billing.get", id="a")
    assert "s3cr3t" not in str(caught.value)


async def test_a_document_that_is_not_the_reviewed_one_stops_the_start(tmp_path: Path) -> None:
    path = mount_file(tmp_path, Billing())
    with pytest.raises(SettingsError, match=r"billing\.pins\.json has nothing.*workmesh tools pin"):
        read_mount(path, {}).tools()
    await accept(read_mount(path, {}))
    assert len(read_mount(path, {}).tools()) == 4
    (tmp_path / "billing.openapi.yaml").write_text(yaml.safe_dump({**DOCUMENT, "info": {"title": "x", "version": "2"}}))
    with pytest.raises(SettingsError, match="is not the document that was reviewed"):
        read_mount(path, {}).tools()


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        ({"operation": "nothing"}, "0 operations"),
        ({"read_only": True}, "read_only is for GET"),
        ({"key_header": ""}, "needs a key_header"),
        ({"verify": {"operation": "deleteInvoice", "key": "id"}}, "no GET"),
        ({"verify": {"operation": "findInvoices", "key": "id"}}, "no parameter 'id'"),
        ({"recovery": "verifiable", "verify": None}, "no verify function"),
    ],
)
async def test_a_declaration_that_does_not_fit_the_document_stops_the_start(
    tmp_path: Path, tool: dict[str, Any], words: str
) -> None:
    path = mount_file(tmp_path, Billing(), tools=[{**CREATE, **tool}])
    with pytest.raises(SettingsError, match=words):
        await accept(read_mount(path, {}))
        read_mount(path, {}).tools()


@pytest.mark.parametrize("reference", ["https://evil.example/x.yaml#/a", "other.yaml#/a", "#/components/schemas/None"])
async def test_references_out_of_the_document_are_not_followed(tmp_path: Path, reference: str) -> None:
    text = yaml.safe_dump(DOCUMENT).replace("#/components/schemas/Invoice", reference)
    path = mount_file(tmp_path, Billing(), document=msgspec.yaml.decode(text))
    await accept(read_mount(path, {}))
    with pytest.raises(SettingsError, match="reference"):
        read_mount(path, {}).tools()
