"""The settings of every process: defaults here, a TOML file over them, the environment over both.

The rule: nothing unknown is passed over; a wrong key or value is refused by name, with the nearest right one.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from mesh.errors import SettingsError
from mesh.identity import is_public_key
from mesh.records import Json
from mesh.redaction import redact
from mesh.sources import SourceSettings
from mesh.tls import TlsFiles

PREFIX = "WORKMESH_"
CONFIG_VARIABLE = "WORKMESH_CONFIG"
# Read elsewhere: the person's key (console.approvals), what a test arms (mesh.faultpoints).
_NO_SETTINGS = {CONFIG_VARIABLE, "WORKMESH_KEY", "WORKMESH_FAULTPOINT"}

Seconds = Annotated[float, msgspec.Meta(gt=0, le=31_536_000)]
Age = Annotated[float, msgspec.Meta(ge=0)]
Size = Annotated[int, msgspec.Meta(ge=-1)]
Count = Annotated[int, msgspec.Meta(ge=1, le=65_536)]
DAY_S = 86_400.0
MODEL_SECRETS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
TRACE_SECRETS = ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")
_COLLECTORS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the sections."""


class BusSettings(_Section, frozen=True):
    """The bus. ``url`` "" is the embedded server; several joined by commas are the servers of one cluster.

    ``identity`` "" is ``<state_dir>/keys/<role>.nk``. With ``tls_ca``, the authorities of the bus, or an address
    ``tls://``, nothing is said in plain text; ``tls_cert`` and ``tls_key`` are what this process shows.

    Ages are in seconds, 0 keeps for ever; ``*_max_bytes`` -1 sets no limit.
    """

    url: str = ""
    identity: str = ""
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    durability: Literal["strict", "relaxed"] = "strict"
    replicas: Annotated[int, msgspec.Meta(ge=1, le=5)] = 1
    connect_timeout_s: Seconds = 5.0
    request_timeout_s: Seconds = 3.0
    ack_wait_s: Annotated[float, msgspec.Meta(ge=1, le=300)] = 2.0  # the time to recover from a killed process
    max_ack_pending: Count = 65_536  # what is halted counts too, and more than this starves others (decision 0023)
    max_file_store_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0  # embedded server; 0 = what the disk has
    events_max_age_s: Age = 90 * DAY_S
    journal_max_age_s: Age = 0.0  # the journal is the record of every decision: kept until somebody decides
    quarantine_max_age_s: Age = 0.0  # nothing that waits for a person expires (invariant 6)
    memory_max_age_s: Age = 0.0
    audit_max_age_s: Age = 0.0
    originals_max_age_s: Age = 90 * DAY_S
    events_max_bytes: Size = -1
    journal_max_bytes: Size = -1
    quarantine_max_bytes: Size = -1
    memory_max_bytes: Size = -1
    audit_max_bytes: Size = -1
    originals_max_bytes: Size = -1

    @property
    def tls(self) -> TlsFiles | None:
        """The files for TLS, or ``None`` where no setting asks for it: the embedded server is on loopback."""
        if self.url and (self.tls_ca or self.tls_cert or self.tls_key):
            return TlsFiles(self.tls_ca, self.tls_cert, self.tls_key)
        return None


class RuntimeSettings(_Section, frozen=True):
    """A stage's runtime: how much at once, how long, how often again."""

    concurrency: Count = 256  # as much as one batch: a stage that waits for commits fills the next one meanwhile
    fetch_batch: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 256  # DESIGN 4: refills of 256 to 500
    batch_max: Annotated[int, msgspec.Meta(ge=1, le=1000)] = (
        256  # DESIGN 4: 256 records in 3 to 4 ms; 1,000 is NATS's limit
    )
    drain_timeout_s: Seconds = 10.0
    handler_timeout_s: Seconds = 30.0
    max_attempts: Count = 20
    nak_delay_s: Seconds = 0.2  # doubles with each attempt
    nak_delay_max_s: Seconds = 5.0


class PolicySettings(_Section, frozen=True):
    """policy_service: how long a permit and a request for approval stand."""

    permit_ttl_s: Seconds = 3600.0  # an executor that is away for less costs nothing
    approval_ttl_s: Seconds = 3 * DAY_S  # a weekend and a night


class RecallSettings(_Section, frozen=True):
    """The cache of memory's answers in an agent: how old one may be, and how many there may be."""

    fresh_s: Seconds = 30.0  # every change is heard; this bounds what a lost message could do
    stale_max_s: Seconds = 300.0
    timeout_s: Seconds = 0.5
    cache_answers: Count = 4096
    cache_bytes: Annotated[int, msgspec.Meta(ge=0)] = 16 * 1024 * 1024  # as JSON; in the process about four times that


class BudgetSettings(_Section, frozen=True):
    """What a domain may spend on models in a day (UTC), and what is done when a call would go beyond it.

    ``small`` asks a cheaper model as far as that fits, and then a person, as ``person`` does at once; ``refuse`` ends
    the task. Where ``slo`` is ``batch`` nobody waits for answers: questions go in batches, at half the price.
    """

    usd_per_day: Annotated[float, msgspec.Meta(ge=0, le=1_000_000)] = 10.0
    at_limit: Literal["small", "person", "refuse"] = "small"
    slo: Literal["interactive", "batch"] = "interactive"


class ModelSettings(_Section, frozen=True):
    """Models, asked through the Messages API. ``use`` ``auto`` is where ``ANTHROPIC_API_KEY`` or a base URL is set.

    ``base_url`` "" is ``ANTHROPIC_BASE_URL``, else the public API; ``key_file`` "" is ``ANTHROPIC_API_KEY``. A
    domain without an entry in ``domains`` has ``budget``. ``prices`` "" is the table that ships. ``plain`` is for
    servers that know neither ``strict`` tools nor ``cache_control``.
    """

    use: Literal["auto", "yes", "no"] = "auto"
    base_url: str = ""
    key_file: str = ""
    small: str = "claude-haiku-5-5"
    large: str = "claude-opus-5-5"
    judge: str = "claude-sonnet-5-5"
    prices: str = ""
    plain: bool = False
    timeout_s: Seconds = 20.0
    answer_within_s: Seconds = 120.0
    attempts: Annotated[int, msgspec.Meta(ge=1, le=10)] = 3
    requests_per_minute: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 50
    tokens_per_minute: Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)] = 50_000
    reuse_s: Annotated[float, msgspec.Meta(ge=0)] = 86_400.0  # 0 never
    batch_wait_s: Seconds = 5.0
    batch_max: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1000
    batch_poll_s: Seconds = 30.0
    batch_expires_s: Seconds = 90_000.0  # the provider's day, and an hour
    budget: BudgetSettings = BudgetSettings()
    domains: dict[str, BudgetSettings] = {}

    def is_on(self, env: Mapping[str, str]) -> bool:
        """Whether models may be asked."""
        if self.use == "auto":
            return bool(self.base_url or self.key_file or env.get("ANTHROPIC_API_KEY") or env.get("ANTHROPIC_BASE_URL"))
        return self.use == "yes"

    def budget_of(self, domain: str) -> BudgetSettings:
        """The budget of a domain."""
        return self.domains.get(domain, self.budget)


class NoticeSettings(_Section, frozen=True):
    """Where notices go that policies oblige to: a ``folder`` ("" is ``<state_dir>/notices``), or a ``url``."""

    folder: str = ""
    url: str = ""
    timeout_s: Seconds = 5.0


class LearnerSettings(_Section, frozen=True):
    """The learner: how often it looks, on how many past tasks at most, and what chance may explain (decision 0035)."""

    every_s: Seconds = 5.0
    tasks: Annotated[int, msgspec.Meta(ge=10, le=2000)] = 200
    propose_below: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.05
    roll_back_below: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.01


class AuditSettings(_Section, frozen=True):
    """The auditor. ``checkpoint_file`` "" is ``<state_dir>/audit/checkpoints``: keep it where the broker is not."""

    checkpoint_s: Seconds = 5.0  # what a record may wait for until a signature covers it
    checkpoint_file: str = ""
    recheck_s: Seconds = DAY_S  # a million records are read again in seven minutes, at a tenth of a processor


class MemorySettings(_Section, frozen=True):
    """memory_service's retrieval: the embedding model (``none``: words alone) and where its vectors are.

    ``qdrant_url`` "" is the variable ``QDRANT_URL``; a key for it is taken from ``QDRANT_API_KEY``.
    """

    embedder: Literal["minilm", "none"] = "minilm"
    embedder_threads: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    index: Literal["edge", "qdrant"] = "edge"
    qdrant_url: str = ""
    qdrant_timeout_s: Seconds = 5.0
    lexical_weight: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5  # chosen on LoCoMo: docs/retrieval.md
    vector_weight: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    probe_s: Annotated[float, msgspec.Meta(ge=0)] = 300.0  # 0 never
    probes: str = ""  # a file of JSON lines; "" probes a sample of the facts alone


class IntakeSettings(_Section, frozen=True):
    """What comes in but by the bus: the HTTP server (``port`` -1 is none, 0 takes a free one) and the sources.

    ``tokens`` "" is ``<state_dir>/intake/tokens``. ``tls_clients`` is the file of the authorities whose clients may
    connect, and none without a certificate of theirs may. Over ``backlog_max`` events that perception has not yet
    taken, senders are asked to come again.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=-1, le=65_535)] = -1
    tokens: str = ""
    tls_certificate: str = ""
    tls_key: str = ""
    tls_clients: str = ""
    max_body_bytes: Annotated[int, msgspec.Meta(ge=1024, le=64 * 1024 * 1024)] = 1024 * 1024
    in_flight_max: Count = 1024
    backlog_max: Annotated[int, msgspec.Meta(ge=1, le=100_000_000)] = 100_000
    sources: dict[str, SourceSettings] = {}

    @property
    def is_on(self) -> bool:
        """Whether there is anything to take in."""
        return self.port >= 0 or bool(self.sources)


class HubSettings(_Section, frozen=True):
    """The hub of a hybrid site. ``site`` is how the hub names this one (`workmesh bus site` there prints it); "" is a
    site without a hub: policies then see nothing of a link, and nothing that is addressed to a site is taken."""

    site: str = ""


class ConsoleSettings(_Section, frozen=True):
    """The web console: ``port`` 0 takes a free one, -1 has `workmesh up` start none.

    ``proxy_header`` is where an OIDC proxy in front puts the person's name; it counts only beside the content of
    ``proxy_secret_file`` in ``X-Workmesh-Proxy-Secret``. ``origin`` is the address that browsers see, behind a proxy.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=-1, le=65_535)] = 8420
    origin: str = ""
    tls_certificate: str = ""
    tls_key: str = ""
    tokens: str = ""
    session_s: Annotated[float, msgspec.Meta(ge=60, le=604_800)] = 43_200.0
    proxy_header: str = ""
    proxy_secret_file: str = ""
    prometheus_url: str = ""


class TraceSettings(_Section, frozen=True):
    """Traces by OTLP over HTTP. ``endpoint`` "" is that of the ``OTEL_EXPORTER_OTLP_*`` variables; without one there
    are none. ``headers_file`` holds lines ``name: value``. ``share`` of the tasks are sent, chosen by their trace ids.

    ``look_back_s`` is where a tracer begins that finds no place of its own.
    """

    endpoint: str = ""
    headers_file: str = ""
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    service: str = "workmesh"
    share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    batch_max: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 512
    timeout_s: Seconds = 10.0
    look_back_s: Age = 3600.0

    def is_on(self, env: Mapping[str, str]) -> bool:
        """Whether there is a collector to send to; OpenTelemetry's own variables can turn it off again."""
        off = env.get("OTEL_SDK_DISABLED", "").lower() == "true" or env.get("OTEL_TRACES_EXPORTER") == "none"
        return bool(self.endpoint or any(env.get(name) for name in _COLLECTORS)) and not off


class MetricsSettings(_Section, frozen=True):
    """The metrics server: ``port`` 0 takes a free one, -1 turns it off.

    ``address`` is the host by which others reach it, where that is not ``host``: in a container ``host`` is 0.0.0.0.
    """

    host: str = "127.0.0.1"
    address: str = ""
    port: Annotated[int, msgspec.Meta(ge=-1, le=65_535)] = 0


class LogSettings(_Section, frozen=True):
    """The log on stderr: ``auto`` is console on a terminal and JSON elsewhere."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


class Settings(_Section, frozen=True):
    """All settings. ``packs`` holds each pack's options as JSON, checked by the pack against its own struct."""

    state_dir: Path = Path(".workmesh")
    role_instance: str = ""  # "" = host name and process id
    trust_root: str = ""  # "" = read from <state_dir>/trust_root
    enabled_packs: str = ""  # names joined by commas; "" = all that are installed
    bus: BusSettings = BusSettings()
    runtime: RuntimeSettings = RuntimeSettings()
    policy: PolicySettings = PolicySettings()
    recall: RecallSettings = RecallSettings()
    models: ModelSettings = ModelSettings()
    notices: NoticeSettings = NoticeSettings()
    audit: AuditSettings = AuditSettings()
    memory: MemorySettings = MemorySettings()
    learner: LearnerSettings = LearnerSettings()
    intake: IntakeSettings = IntakeSettings()
    hub: HubSettings = HubSettings()
    console: ConsoleSettings = ConsoleSettings()
    metrics: MetricsSettings = MetricsSettings()
    traces: TraceSettings = TraceSettings()
    log: LogSettings = LogSettings()
    packs: dict[str, Json] = {}

    @property
    def pack_names(self) -> tuple[str, ...]:
        """The packs that processes load; none named is all that are installed."""
        return tuple(name.strip() for name in self.enabled_packs.split(",") if name.strip())

    @property
    def instance(self) -> str:
        """What tells this process from its copies; one subject token."""
        return self.role_instance or f"{os.uname().nodename.partition('.')[0]}-{os.getpid()}"

    def identity_path(self, role: str) -> Path:
        """Where the identity of a process of this role is."""
        return Path(self.bus.identity) if self.bus.identity else self.state_dir / "keys" / f"{role}.nk"

    def root_key(self) -> str:
        """The public key of the trust root; raises ``SettingsError`` when there is none."""
        path = self.state_dir / "trust_root"
        try:
            key = self.trust_root or path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SettingsError(f"no trust root: set trust_root, or put the root's public key in {path}") from error
        if not is_public_key(key):
            raise SettingsError(f"the trust root {key!r} is not a public key ('U...', 56 characters)")
        return key


def load(path: Path | None = None, env: Mapping[str, str] | None = None) -> Settings:
    """The settings of ``path`` (or of the file that ``WORKMESH_CONFIG`` names) under the environment.

    A variable is ``WORKMESH_<KEY>`` or ``WORKMESH_<SECTION>__<KEY>``, its value plain text or JSON; packs are
    ``WORKMESH_PACKS__<PACK>__<KEY>``. Raises ``SettingsError`` naming the key and what was expected.
    """
    env = os.environ if env is None else env
    if path is None and env.get(CONFIG_VARIABLE):
        path = Path(env[CONFIG_VARIABLE])
    values = _read_file(path) if path else {}
    _refuse_unknown(values, str(path))
    for name in sorted(env):
        if name.startswith(PREFIX) and name not in _NO_SETTINGS:
            _set(values, name, env[name])
    packs = values.get("packs")
    if isinstance(packs, dict):
        values["packs"] = {name: _raw(name, options) for name, options in packs.items()}
    try:
        return msgspec.convert(values, Settings, dec_hook=_from_text)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$.")
        raise SettingsError(f"setting {where.rstrip('`') or '?'}: {what} (from {path or 'the environment'})") from error


def redacted(settings: Settings) -> dict[str, Any]:
    """The settings as plain values for showing, secrets hidden."""
    plain: dict[str, Any] = redact(msgspec.to_builtins(settings, enc_hook=_to_plain))
    return plain


def _read_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise SettingsError(f"cannot read the settings {path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"the settings {path} are no TOML: {error}") from error


def _refuse_unknown(values: Mapping[str, Any], source: str) -> None:
    for key, value in values.items():
        field = _field(Settings, key, key, source)
        if _is_section(field.type) and isinstance(value, dict):
            for inner in value:
                _field(field.type, inner, f"{key}.{inner}", source)


def _set(values: dict[str, Any], variable: str, text: str) -> None:
    """Put one variable of the environment where it belongs."""
    parts = [part.lower() for part in variable.removeprefix(PREFIX).split("__")]
    field = _field(Settings, parts[0], ".".join(parts), variable)
    if parts[0] == "packs" and len(parts) == 3:
        options = values.setdefault("packs", {}).setdefault(parts[1], {})
        options[parts[2]] = _plain_or_json(text)
    elif _is_section(field.type) and len(parts) == 2:
        kind = _field(field.type, parts[1], ".".join(parts), variable).type
        values.setdefault(parts[0], {})[parts[1]] = _typed(text, kind, variable)
    elif len(parts) == 1 and field.type in (str, Path):
        values[parts[0]] = text
    else:
        raise SettingsError(f"{variable} names no single setting: use {PREFIX}<SECTION>__<KEY>")


def _typed(text: str, kind: Any, variable: str) -> Any:
    value = _plain_or_json(text) if text.startswith('"') else text
    try:
        return msgspec.to_builtins(msgspec.convert(value, kind, strict=False))
    except msgspec.ValidationError as error:
        raise SettingsError(f"{variable}={text!r}: {error}") from error


def _plain_or_json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _field(model: type[msgspec.Struct], key: str, where: str, source: str) -> msgspec.structs.FieldInfo:
    fields = {field.name: field for field in msgspec.structs.fields(model)}
    if key in fields:
        return fields[key]
    close = difflib.get_close_matches(key, fields, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(fields)}"
    raise SettingsError(f"unknown setting {where} in {source}: {hint}")


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, _Section)


def _raw(pack: str, options: Any) -> Json:
    if not isinstance(options, dict):
        raise SettingsError(f"setting packs.{pack}: expected a table of options")
    return msgspec.Raw(msgspec.json.encode(options))


def _from_text(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value).expanduser()
    raise NotImplementedError(f"{kind} from {type(value).__name__}")


def _to_plain(value: Any) -> Any:
    if isinstance(value, msgspec.Raw):
        return msgspec.json.decode(value)
    return str(value)
