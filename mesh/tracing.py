"""W3C trace context: one trace is one task, from the publisher's event on (https://www.w3.org/TR/trace-context/).

The rule: identifiers are functions of the task and the record, so a redelivery writes the same ones.
"""

import hashlib
import re

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def is_valid(traceparent: str) -> bool:
    """Whether this is a version-00 ``traceparent``."""
    return _TRACEPARENT.fullmatch(traceparent) is not None


def root(task_id: str, publisher: str = "") -> str:
    """The task's trace: the publisher's where it gave a valid one, else one made from the task."""
    trace = publisher.split("-")[1] if is_valid(publisher) else hashlib.sha256(task_id.encode()).hexdigest()[:32]
    return f"00-{trace}-{_span(task_id, 'root')}-01"


def child(traceparent: str, *of: str) -> str:
    """A span under ``traceparent``, named by what it is of (the record's kind and step, say)."""
    if not is_valid(traceparent):
        return ""
    version, trace, parent, flags = traceparent.split("-")
    return f"{version}-{trace}-{_span(parent, *of)}-{flags}"


def trace_of(traceparent: str) -> str:
    """The trace's id, 32 hexadecimal digits; "" of what is no ``traceparent``."""
    return traceparent.split("-")[1] if is_valid(traceparent) else ""


def span_of(traceparent: str) -> str:
    """The span's id, 16 hexadecimal digits; "" of what is no ``traceparent``."""
    return traceparent.split("-")[2] if is_valid(traceparent) else ""


def _span(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
