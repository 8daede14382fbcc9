"""Where spans go: from the settings, and from OpenTelemetry's own variables where the settings are silent
(https://opentelemetry.io/docs/specs/otel/protocol/exporter/).

The rule: a header is a secret: it is in a file of its owner's alone, or in the environment, and never in a log.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from agents.tracer.span import Naming
from mesh import files
from mesh.errors import SettingsError
from mesh.settings import TraceSettings

_PATH = "/v1/traces"
_PREFIX = "OTEL_EXPORTER_OTLP_"


@dataclass(frozen=True, slots=True)
class Target:
    """A collector's address, and what it is to be shown."""

    url: str
    naming: Naming
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    authority: str = ""
    certificate: str = ""
    key: str = ""
    compress: bool = False

    def tls(self) -> ssl.SSLContext:
        """How it is spoken to by ``https``; raises ``SettingsError`` for files that cannot be used."""
        try:
            context = ssl.create_default_context(cafile=self.authority or None)
            if self.certificate or self.key:
                context.load_cert_chain(self.certificate, self.key or None)
        except (OSError, ssl.SSLError) as error:
            names = ", ".join(filter(None, (self.authority, self.certificate, self.key)))
            raise SettingsError(f"traces: cannot use the TLS files {names}: {error}") from error
        return context


def target_of(settings: TraceSettings, env: Mapping[str, str]) -> Target:
    """The collector of these settings under this environment; raises ``SettingsError`` where it cannot be spoken to."""
    if not settings.is_on(env):
        raise SettingsError("there is no collector: set traces.endpoint, such as http://127.0.0.1:4318")
    protocol = _of(env, "PROTOCOL")
    if not settings.endpoint and protocol not in ("", "http/protobuf"):
        raise SettingsError(f"{_PREFIX}PROTOCOL is {protocol!r}: spans are sent by http/protobuf (port 4318)")
    compression = _of(env, "COMPRESSION")
    if compression not in ("", "none", "gzip"):
        raise SettingsError(f"{_PREFIX}COMPRESSION is {compression!r}: it is gzip or none")
    more = _pairs(env.get("OTEL_RESOURCE_ATTRIBUTES", ""), "OTEL_RESOURCE_ATTRIBUTES")
    name = env.get("OTEL_SERVICE_NAME", "") or more.pop("service.name", "")
    return Target(
        url=_url(settings, env),
        naming=Naming(settings.service, name, more),
        headers=_headers(settings, env),
        authority=settings.tls_ca or _of(env, "CERTIFICATE"),
        certificate=settings.tls_cert or _of(env, "CLIENT_CERTIFICATE"),
        key=settings.tls_key or _of(env, "CLIENT_KEY"),
        compress=compression == "gzip",
    )


def _of(env: Mapping[str, str], name: str) -> str:
    """A variable of the exporter: the one for traces goes before the one for all signals."""
    return env.get(f"{_PREFIX}TRACES_{name}", "") or env.get(f"{_PREFIX}{name}", "")


def _url(settings: TraceSettings, env: Mapping[str, str]) -> str:
    """The whole address. Only the variable for traces alone is taken as it is: the others lack the path."""
    url = settings.endpoint or env.get(f"{_PREFIX}TRACES_ENDPOINT", "")
    is_whole = not settings.endpoint and bool(url)
    url = url or env.get(f"{_PREFIX}ENDPOINT", "")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError("traces.endpoint is no address such as http://127.0.0.1:4318")
    if parts.username or parts.password:
        raise SettingsError("traces.endpoint holds a password: put a header into traces.headers_file")
    return url if is_whole or parts.path.endswith(_PATH) else url.rstrip("/") + _PATH


def _headers(settings: TraceSettings, env: Mapping[str, str]) -> dict[str, str]:
    if not settings.headers_file:
        return _pairs(_of(env, "HEADERS"), f"{_PREFIX}HEADERS")
    path = Path(settings.headers_file).expanduser()
    found = {}
    for number, line in enumerate(files.read_private(path, "traces.headers_file").splitlines(), 1):
        name, colon, value = line.partition(":")
        if not line.strip() or line.startswith("#"):
            continue
        if not colon or not _is_token(name.strip()):
            raise SettingsError(f"traces.headers_file: line {number} of {path} is no `name: value`")
        found[name.strip()] = value.strip()
    return found


def _pairs(text: str, variable: str) -> dict[str, str]:
    """``key=value,key=value``, values percent-encoded (W3C Baggage)."""
    found = {}
    for number, pair in enumerate(filter(str.strip, text.split(",")), 1):
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise SettingsError(f"{variable}: pair {number} is no key=value")
        found[name.strip()] = unquote(value.strip())
    return found


def _is_token(name: str) -> bool:
    return bool(name) and name.isascii() and all(char.isalnum() or char in "!#$%&'*+-.^_`|~" for char in name)
