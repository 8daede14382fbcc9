"""The log: snake_case events on stderr, JSON lines unless stderr is a terminal, secrets hidden.

The rule: everything passes ``hide_secrets`` after tracebacks have become text and before it is rendered.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import msgspec
import structlog

from mesh.redaction import redact
from mesh.settings import LogSettings


def configure(settings: LogSettings, *, role: str, instance: str, stream: TextIO | None = None) -> None:
    """Set up structlog for this process, ``role`` and ``instance`` on every line; libraries' warnings go there too."""
    out = stream or sys.stderr
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    as_json = settings.format == "json" or (settings.format == "auto" and not out.isatty())
    renderer: structlog.typing.Processor = _json_line if as_json else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            hide_secrets,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(role=role, instance=instance)
    bridge = _Bridge()
    bridge.setFormatter(logging.Formatter("%(message)s"))
    logging.basicConfig(handlers=[bridge], level=max(level, logging.WARNING), force=True)


def hide_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The structlog processor that redacts values; what is no plain value is shown, and searched, as its ``repr``."""
    shown: MutableMapping[str, Any] = redact({key: _plain(value) for key, value in event.items()})
    return shown


class _Bridge(logging.Handler):
    """Brings the standard library's log records (nats-py, uvicorn) into the one log."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(record.name)
        log.log(record.levelno, "library_log", library=record.name, message=self.format(record))


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    return msgspec.to_builtins(value, enc_hook=repr, str_keys=True)


def _json_line(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    return msgspec.json.encode(event).decode()
