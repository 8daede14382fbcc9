"""Where spans go and what a collector's answers mean: taken, refused, too large, or to come again."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agents.tracer.collector import BadBatchError, Collector, Taken, TooLargeError, WaitError, collector
from agents.tracer.span import Naming, Span, request
from agents.tracer.target import Target, target_of
from console.up import role_spec
from mesh.certificates import Authority
from mesh.errors import SettingsError
from mesh.settings import TRACE_SECRETS, Settings, TraceSettings
from tests.agents.tracer.receiving import Answer, Receiver, receiving
from tests.mesh.samples import AT

NAMING = Naming("workmesh")
SPAN = Span(trace="ab" * 16, id="cd" * 8, parent="", name="plan", start=AT, end=AT, writer="planner/1")
BATCH = request([SPAN], NAMING)


@asynccontextmanager
async def sending(*answers: Answer, **target: Any) -> AsyncIterator[tuple[Collector, Receiver]]:
    """A collector that answers so, and what speaks to it."""
    with receiving() as receiver:
        receiver.answers = list(answers)
        async with collector(Target(f"{receiver.url}/v1/traces", NAMING, **target), 5.0) as sink:
            yield sink, receiver


async def test_a_batch_that_is_taken_arrives_as_it_was_sent() -> None:
    async with sending(headers={"x-key": "k1"}) as (sink, receiver):
        assert await sink.send(BATCH) == Taken()
    [span] = receiver.spans
    assert (span.trace, span.id, span.service) == (SPAN.trace, SPAN.id, "workmesh-planner")
    assert receiver.headers[0]["x-key"] == "k1" and receiver.paths == ["/v1/traces"]
    assert receiver.headers[0]["content-type"] == "application/x-protobuf"


async def test_it_may_be_compressed() -> None:
    async with sending(compress=True) as (sink, receiver):
        await sink.send(BATCH)
    assert receiver.headers[0]["content-encoding"] == "gzip" and receiver.spans[0].id == SPAN.id


async def test_a_success_in_part_says_how_many_it_refused() -> None:
    async with sending(Answer(refused=3, said="too old"), Answer(said="mind the clock")) as (sink, _):
        assert await sink.send(BATCH) == Taken(3, "too old")
        assert await sink.send(BATCH) == Taken(0, "mind the clock")


@pytest.mark.parametrize(
    ("answer", "why", "after_s"),
    [
        (Answer(429, headers={"retry-after": "7"}), "busy", 7.0),
        (Answer(429, headers={"retry-after": "99999"}), "busy", 300.0),
        (Answer(503, headers={"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}), "busy", None),
        (Answer(502), "busy", None),
        (Answer(504), "busy", None),
        (Answer(401), "settings", None),
        (Answer(403), "settings", None),
        (Answer(404), "settings", None),
        (Answer(302, headers={"location": "http://127.0.0.1:1/"}), "settings", None),
    ],
)
async def test_what_is_not_the_batchs_fault_lets_it_come_again(answer: Answer, why: str, after_s: float | None) -> None:
    async with sending(answer) as (sink, receiver):
        with pytest.raises(WaitError) as raised:
            await sink.send(BATCH)
    assert (raised.value.why, raised.value.after_s, receiver.requests) == (why, after_s, 1)


@pytest.mark.parametrize(("status", "error"), [(400, BadBatchError), (422, BadBatchError), (500, BadBatchError)])
async def test_what_no_collector_will_take_does_not_come_again(status: int, error: type[BadBatchError]) -> None:
    async with sending(Answer(status)) as (sink, _):
        with pytest.raises(error) as raised:
            await sink.send(BATCH)
    assert not isinstance(raised.value, TooLargeError)


async def test_a_batch_that_is_too_large_is_told_as_such() -> None:
    async with sending(Answer(413)) as (sink, _):
        with pytest.raises(TooLargeError):
            await sink.send(BATCH)


async def test_nobody_there_and_nobody_answering_are_waited_for() -> None:
    with receiving() as receiver:
        pass
    async with collector(Target(f"{receiver.url}/v1/traces", NAMING), 0.3) as sink:
        with pytest.raises(WaitError, match="ConnectError"):
            await sink.send(BATCH)
        with receiving(receiver):
            receiver.free.clear()
            with pytest.raises(WaitError, match="Timeout"):
                await sink.send(BATCH)
            receiver.free.set()


@pytest.mark.parametrize(
    ("settings", "env", "url"),
    [
        ({"endpoint": "http://c:4318"}, {}, "http://c:4318/v1/traces"),
        ({"endpoint": "http://c:4318/"}, {}, "http://c:4318/v1/traces"),
        ({"endpoint": "https://g/otlp"}, {}, "https://g/otlp/v1/traces"),
        ({"endpoint": "https://g/v1/traces"}, {}, "https://g/v1/traces"),
        ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "http://c:4318/v1/traces"),
        ({}, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/in"}, "http://c/in"),
        ({"endpoint": "http://own"}, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/in"}, "http://own/v1/traces"),
    ],
)
def test_the_address_is_that_of_the_settings_and_else_of_opentelemetrys_variables(
    settings: dict[str, Any], env: dict[str, str], url: str
) -> None:
    assert target_of(TraceSettings(**settings), env).url == url


def test_the_other_variables_of_opentelemetry_are_heard() -> None:
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-all=no",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "authorization=Basic%20abc,x-scope = one ",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=blue,service.name=shop",
    }
    target = target_of(TraceSettings(), env)
    assert target.headers == {"authorization": "Basic abc", "x-scope": "one"} and target.compress
    assert target.naming.resource("planner/p-1") == {
        "deployment.environment.name": "blue",
        "service.name": "shop",
        "service.namespace": "workmesh",
        "service.instance.id": "p-1",
        "service.version": NAMING.resource("planner/1")["service.version"],
    }
    assert target_of(TraceSettings(), {**env, "OTEL_SERVICE_NAME": "ours"}).naming.name == "ours"
    assert "Basic" not in repr(target)


@pytest.mark.parametrize("env", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_they_can_turn_it_off(env: dict[str, str]) -> None:
    settings = TraceSettings(endpoint="http://c")
    assert settings.is_on({}) and not settings.is_on(env) and not TraceSettings().is_on({})
    with pytest.raises(SettingsError, match="no collector"):
        target_of(settings, env)


@pytest.mark.parametrize(
    ("settings", "env", "told"),
    [
        ({"endpoint": "collector:4318"}, {}, "no address"),
        ({"endpoint": "http://me:pw@c"}, {}, "holds a password"),
        ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf"),
        ({"endpoint": "http://c"}, {"OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"}, "gzip or none"),
        ({"endpoint": "http://c"}, {"OTEL_EXPORTER_OTLP_HEADERS": "secret"}, "pair 1 is no key=value"),
        ({"endpoint": "http://c", "headers_file": "/nowhere/h"}, {}, "cannot read"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(settings: dict[str, Any], env: dict[str, str], told: str) -> None:
    with pytest.raises(SettingsError, match=told) as raised:
        target_of(TraceSettings(**settings), env)
    assert "pw" not in str(raised.value) and "secret" not in str(raised.value)


def test_headers_come_from_a_file_of_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "headers"
    path.write_text("# for the gateway\nAuthorization: Bearer t:1\n\nX-Scope-OrgID: one\n", encoding="utf-8")
    settings = TraceSettings(endpoint="http://c", headers_file=str(path))
    path.chmod(0o640)
    with pytest.raises(SettingsError, match="others can read"):
        target_of(settings, {})
    path.chmod(0o600)
    assert target_of(settings, {}).headers == {"Authorization": "Bearer t:1", "X-Scope-OrgID": "one"}
    path.write_text("no header\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="line 1"):
        target_of(settings, {})


def test_the_authority_of_the_settings_is_the_one_that_is_trusted(tmp_path: Path) -> None:
    target = target_of(TraceSettings(endpoint="https://c", tls_ca=str(tmp_path / "none.pem")), {})
    with pytest.raises(SettingsError, match=r"none\.pem"):
        target.tls()
    assert target_of(TraceSettings(endpoint="https://c"), {}).tls().verify_mode is ssl.CERT_REQUIRED


async def test_over_tls_only_the_collector_of_the_authority_is_told_and_only_who_shows_a_certificate(
    tmp_path: Path,
) -> None:
    authority = Authority.opened(tmp_path / "tls")
    authority.issue("collector", ["127.0.0.1"], server=True, days=30)
    authority.issue("tracer", [], server=False, days=30)
    ca, stranger = str(tmp_path / "tls" / "ca.pem"), str(Authority.opened(tmp_path / "other").folder / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(tmp_path / "tls" / "collector.pem", tmp_path / "tls" / "collector.key")
    with receiving(tls=context) as receiver:
        shown: dict[str, Any] = {
            "certificate": str(tmp_path / "tls" / "tracer.pem"),
            "key": str(tmp_path / "tls" / "tracer.key"),
        }
        address = f"https://127.0.0.1:{receiver.port}/v1/traces"
        for wrong in (Target(address, NAMING, authority=stranger, **shown), Target(address, NAMING, authority=ca)):
            async with collector(wrong, 5.0) as sink:
                with pytest.raises(WaitError):
                    await sink.send(BATCH)
        assert receiver.requests == 0
        async with collector(Target(address, NAMING, authority=ca, **shown), 5.0) as sink:
            assert await sink.send(BATCH) == Taken()
    assert [span.id for span in receiver.spans] == [SPAN.id]


def test_only_the_tracer_is_told_what_a_collector_is_shown(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    for role in ("tracer", "planner", "console"):
        env = role_spec(settings, role, None, {}).env
        assert {env.get(name) for name in TRACE_SECRETS} == ({None} if role == "tracer" else {""})
