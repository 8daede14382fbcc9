"""A collector: takes spans by OTLP over HTTP, decodes them, and can be slow, choosy, or away."""

import gzip
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from mesh.ports import free_port


@dataclass(frozen=True)
class Received:
    """One span as it came; ids are hexadecimal, times nanoseconds."""

    trace: str
    id: str
    parent: str
    name: str
    start: int
    end: int
    kind: int
    error: str
    service: str
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]


@dataclass
class Answer:
    """What a collector says to a request."""

    status: int = 200
    refused: int = 0
    said: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Receiver:
    """What was received. ``answers`` are given first, one a request; then each is taken. ``largest`` is in bytes."""

    port: int
    answers: list[Answer] = field(default_factory=list)
    always: Answer = field(default_factory=Answer)
    bodies: list[bytes] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    spans: list[Received] = field(default_factory=list)
    requests: int = 0
    largest: int = 1 << 30
    free: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.free.set()

    @property
    def url(self) -> str:
        """Its address, as settings have it."""
        return f"http://127.0.0.1:{self.port}"

    def named(self, name: str) -> list[Received]:
        """The spans of this name."""
        return [span for span in self.spans if span.name == name]

    def of(self, task: str) -> list[Received]:
        """The spans of a task, each id once, as it came last."""
        own = [span for span in self.spans if span.attributes.get("workmesh.task") == task]
        return list({span.id: span for span in own}.values())

    def take(self, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """One request."""
        self.requests += 1
        self.paths.append(path)
        headers = {name.lower(): value for name, value in headers.items()}
        self.headers.append(headers)
        self.free.wait(60)
        plain = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
        if len(plain) > self.largest:
            return Answer(413)
        answer = self.answers.pop(0) if self.answers else self.always
        if answer.status == 200:
            self.bodies.append(plain)
            self.spans += received(plain)
        return answer


def received(body: bytes) -> Iterator[Received]:
    """The spans in a request's body."""
    for group in ExportTraceServiceRequest.FromString(body).resource_spans:
        resource = {pair.key: plain(pair.value) for pair in group.resource.attributes}
        for scoped in group.scope_spans:
            for span in scoped.spans:
                yield Received(
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    name=span.name,
                    start=span.start_time_unix_nano,
                    end=span.end_time_unix_nano,
                    kind=span.kind,
                    error=span.status.message,
                    service=resource["service.name"],
                    attributes={pair.key: plain(pair.value) for pair in span.attributes},
                    resource=resource,
                )


def plain(value: AnyValue) -> Any:
    """A value as Python has it."""
    which = value.WhichOneof("value")
    if which == "array_value":
        return tuple(plain(each) for each in value.array_value.values)
    return getattr(value, which) if which else None


@contextmanager
def receiving(receiver: Receiver | None = None, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A collector that runs; given one, the same one again, on its port. With ``tls`` it speaks nothing else."""
    taken = receiver or Receiver(free_port())

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if server.away:  # a connection that was kept alive has ended too
                self.close_connection = True
                return
            answer = taken.take(self.path, dict(self.headers.items()), body)
            said = ExportTraceServiceResponse()
            if answer.refused or answer.said:
                partial = ExportTracePartialSuccess(rejected_spans=answer.refused, error_message=answer.said)
                said.partial_success.CopyFrom(partial)
            told = said.SerializeToString() if answer.status == 200 else b"no"
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, format: str, *args: Any) -> None:
            """Requests are kept in the receiver."""

    server = _Server(("127.0.0.1", taken.port), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield taken
    finally:
        server.away = True
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    away = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed in the middle is nothing unusual here."""
