"""What a span is here, and how it is put into OTLP (https://opentelemetry.io/docs/specs/otlp/, version 1).

The rule: spans are grouped by who wrote the record, so each role is a service of its own at the collector.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from importlib.metadata import version

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, SpanFlags, Status
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan

Value = str | bool | int | float | tuple[str, ...]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LARGEST = (1 << 63) - 1  # what the format holds; records may hold anything
_LATEST = (1 << 64) - 1
_SAMPLED = 1
_KNOWN = SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_REMOTE = SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK


class Kind(IntEnum):
    """The span kinds of OTLP that occur here."""

    INTERNAL = 1
    CLIENT = 3
    CONSUMER = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A part of a task that has ended. Ids are hexadecimal; ``error`` is why it went wrong, in words of ours.

    The parent of one that is ``from_outside`` is a span of somebody else's process.
    """

    trace: str
    id: str
    parent: str
    name: str
    start: datetime
    end: datetime
    writer: str
    attributes: Mapping[str, Value] = field(default_factory=dict)
    kind: Kind = Kind.INTERNAL
    error: str = ""
    from_outside: bool = False


@dataclass(frozen=True, slots=True)
class Naming:
    """How services are called: ``service-<role>``, or all by one ``name``; ``more`` are attributes of each resource."""

    service: str
    name: str = ""
    more: Mapping[str, str] = field(default_factory=dict)

    def resource(self, writer: str) -> dict[str, Value]:
        """The attributes of the resource that this writer (``role/instance``) is."""
        role, _, instance = writer.partition("/")
        return {
            **self.more,
            "service.name": self.name or f"{self.service}-{role}",
            "service.namespace": self.more.get("service.namespace", self.service),
            "service.instance.id": instance or role,
            "service.version": version("workmesh"),
        }


def request(spans: Iterable[Span], naming: Naming) -> ExportTraceServiceRequest:
    """The request that hands these spans to a collector."""
    by_writer: dict[str, list[Span]] = {}
    for span in spans:
        by_writer.setdefault(span.writer, []).append(span)
    scope = InstrumentationScope(name="workmesh", version=version("workmesh"))
    found = ExportTraceServiceRequest()
    for writer, written in by_writer.items():
        resource = Resource(attributes=_pairs(naming.resource(writer)))
        scoped = ScopeSpans(scope=scope, spans=[_wire(span) for span in written])
        found.resource_spans.append(ResourceSpans(resource=resource, scope_spans=[scoped]))
    return found


def _wire(span: Span) -> WireSpan:
    status = Status(code=Status.STATUS_CODE_ERROR, message=span.error) if span.error else None
    end = min(max(_nanoseconds(span.end), 0), _LATEST)
    return WireSpan(
        trace_id=bytes.fromhex(span.trace),
        span_id=bytes.fromhex(span.id),
        parent_span_id=bytes.fromhex(span.parent),
        flags=_SAMPLED | _KNOWN | (_REMOTE if span.from_outside else 0),
        name=span.name,
        kind=WireSpan.SpanKind.ValueType(span.kind),
        start_time_unix_nano=min(max(_nanoseconds(span.start), 0), end),
        end_time_unix_nano=end,
        attributes=_pairs(span.attributes),
        status=status,
    )


def _nanoseconds(at: datetime) -> int:
    return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND * 1000


def _pairs(attributes: Mapping[str, Value]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in attributes.items()]


def _value(value: Value) -> AnyValue:
    match value:
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=max(-_LARGEST, min(value, _LARGEST)))
        case float():
            return AnyValue(double_value=value)
        case str():
            return AnyValue(string_value=value)
        case _:
            return AnyValue(array_value=ArrayValue(values=[AnyValue(string_value=each) for each in value]))
