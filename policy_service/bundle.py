"""A policy bundle: Cedar policies, their schema and their cases, as published and as compiled for evaluation.

The rule: a bundle either compiles whole, every policy named, annotated and typed, or it is refused with one error.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec
from cedarpy import Entities, PolicySet, Schema, policies_to_json_str, validate_policies

from mesh.canonical import digest
from mesh.errors import TerminalError
from mesh.records import Struct
from policy_service import governance
from policy_service.annotations import AnnotationError, Policy, read_policy
from policy_service.governance import Governance, GovernanceError

SCHEMA_FILE = "schema.cedarschema"
PATTERNS = ("*.cedar", SCHEMA_FILE, "cases/*.yaml", *governance.FILES)
MAX_BYTES = 512 * 1024  # in a DSSE envelope (base64, a third more) it must fit NATS's default max_payload, 1 MiB

# What policies see of a request only if their schema declares it in the context, with a value of its type in Cedar.
EXTRAS = {
    "total": "0",
    "agent": '""',
    "domain": '""',
    "entity": '""',
    "playbook": '""',
    "origin": '""',
    "stage": '""',
    "now": "0",
    "hour": "0",
    "weekday": "0",
    "compensation": "false",
    "related": "0",
    "hub_silent_s": "0",
}


class BundleError(TerminalError):
    """A bundle cannot be used; the message names the file, the policy if there is one, and what to do."""

    def __init__(self, file: str, problem: str, *, policy: str = "") -> None:
        where = f"{file}: policy {policy}" if policy else file
        super().__init__(f"{where}: {problem}")
        self.file = file
        self.policy = policy


class BundleContents(Struct, frozen=True, kw_only=True):
    """A bundle as it is published: the sorted (name, text) of its files; names are relative, with slashes."""

    domain: str
    files: tuple[tuple[str, str], ...]

    @property
    def digest(self) -> str:
        """``sha256:<hex>`` of the domain and all files."""
        return digest(self)

    @classmethod
    def read(cls, folder: Path, domain: str) -> Self:
        """The bundle in a folder; raises ``BundleError`` when it is no folder, not UTF-8, or too large."""
        if not folder.is_dir():
            raise BundleError(str(folder), "is no folder: give the one that holds the .cedar files")
        paths = sorted({path for pattern in PATTERNS for path in folder.glob(pattern)})
        files = tuple((path.relative_to(folder).as_posix(), _read_text(path)) for path in paths)
        size = sum(len(text.encode()) for _, text in files)
        if size > MAX_BYTES:
            raise BundleError(str(folder), f"holds {size} bytes, more than {MAX_BYTES}: split the domain")
        return cls(domain=domain, files=tuple(sorted(files)))


@dataclass(frozen=True, slots=True)
class Bundle:
    """A compiled bundle. ``policies`` is by id; Cedar's diagnostics name policies by the same ids."""

    contents: BundleContents
    digest: str
    policies: Mapping[str, Policy]
    governance: Governance
    schema: Schema
    extras: frozenset[str]
    judges_people: bool
    no_entities: Entities
    _slices: Mapping[str, PolicySet]
    _unscoped: PolicySet
    _uneven: frozenset[str]

    @classmethod
    def load(cls, contents: BundleContents, *, sliced: bool = True) -> Self:
        """Compile a bundle; raises ``BundleError``. ``sliced=False`` evaluates every policy for every tool."""
        schema_text, schema = _schema(contents)
        policies: dict[str, Policy] = {}
        sources: dict[str, msgspec.Raw] = {}
        for name, text in contents.files:
            if name.endswith(".cedar"):
                _add_file(name, text, policies, sources)
                _validate(name, text, schema_text, schema)
        if not policies:
            raise BundleError(contents.domain, "holds no policy: add a .cedar file")
        values = policies.values()
        try:
            beside = Governance.read(dict(contents.files), values)
        except GovernanceError as error:
            raise BundleError(error.file, str(error)) from error
        tools = {policy.tool for policy in values if policy.tool} if sliced else set()
        return cls(
            contents=contents,
            digest=contents.digest,
            policies=policies,
            governance=beside,
            schema=schema,
            extras=frozenset(name for name, value in EXTRAS.items() if _declares(schema, name, value)),
            judges_people=_is_valid(_ON_APPROVE, schema),
            no_entities=Entities.from_json_str("[]"),
            _slices={tool: _compile(sources, _slice(values, tool)) for tool in tools},
            _unscoped=_compile(sources, _slice(values, "") if sliced else policies),
            _uneven=frozenset(policy.tool for policy in values if _is_uneven(policy)),
        )

    @property
    def domain(self) -> str:
        """The domain that the bundle decides for."""
        return self.contents.domain

    def policies_for(self, tool: str) -> PolicySet:
        """The policies whose head names this tool, and those that name none: all that can concern it."""
        return self._slices.get(tool, self._unscoped)

    def settled(self, tool: str, permits: Iterable[Policy]) -> tuple[Policy, ...]:
        """Of the permits that determined ``propose``, those that settle ``execute`` too, without asking again.

        There are some when no forbid on this tool tells the actions apart, and one of the permits does not either.
        Then what was not asked could only add a permit, one that obliges to nothing.
        """
        if self._uneven & {"", tool}:
            return ()
        return tuple(permit for permit in permits if permit.both)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BundleError(str(path), f"is not UTF-8 text ({error}): save it as UTF-8") from error


def _schema(contents: BundleContents) -> tuple[str, Schema]:
    text = dict(contents.files).get(SCHEMA_FILE)
    if text is None:
        raise BundleError(SCHEMA_FILE, f"is missing in the bundle of {contents.domain}: policies need a schema")
    try:
        return text, Schema.from_str(text)
    except ValueError as error:
        raise BundleError(SCHEMA_FILE, f"does not parse: {error}") from error


class _PolicyFile(msgspec.Struct, rename="camel"):
    """Cedar's JSON form of one file of policies; Cedar itself numbers them policy0, policy1 and so on."""

    templates: dict[str, msgspec.Raw]
    static_policies: dict[str, msgspec.Raw]


def _add_file(name: str, text: str, policies: dict[str, Policy], sources: dict[str, msgspec.Raw]) -> None:
    """Read one file's policies into both maps, by their ``@id``."""
    try:
        file = msgspec.json.decode(policies_to_json_str(text), type=_PolicyFile)
    except ValueError as error:
        raise BundleError(name, f"does not parse: {error}") from error
    if file.templates:
        raise BundleError(name, "holds a template (?principal or ?resource): write each policy out")
    for place, source in file.static_policies.items():
        try:
            policy = read_policy(bytes(source), name)
        except AnnotationError as error:
            raise BundleError(name, str(error), policy=error.policy or _ordinal(place)) from error
        if policy.id in policies:
            first = policies[policy.id].file
            raise BundleError(name, f"its @id occurs before, in {first}: give it one of its own", policy=policy.id)
        policies[policy.id] = policy
        sources[policy.id] = source


def _ordinal(place: str) -> str:
    return f"number {int(place.removeprefix('policy')) + 1} of the file"


def _validate(name: str, text: str, schema_text: str, schema: Schema) -> None:
    result = validate_policies(text, schema)
    if not result.validation_passed:
        first = result.errors[0]
        policy = str(result.id_annotations_by_policy_id.get(first.policy_id, ""))
        more = f" (and {len(result.errors) - 1} more)" if len(result.errors) > 1 else ""
        raise BundleError(name, f"does not fit {SCHEMA_FILE}: {first.error}{more}", policy=policy)


_ON_APPROVE = 'permit (principal is Person, action == Action::"approve", resource) when { principal.roles.isEmpty() };'
_ON_PROPOSE = 'permit (principal, action == Action::"propose", resource) when {{ {} }};'


def _declares(schema: Schema, name: str, value: str) -> bool:
    """Whether the context has this attribute of this type, required or optional: asked of Cedar's own validator."""
    required = _ON_PROPOSE.format(f"context.{name} == {value}")
    optional = _ON_PROPOSE.format(f"context has {name} && context.{name} == {value}")
    # Of an attribute that is not there the second part is never looked at, so even nonsense would be valid.
    nonsense = _ON_PROPOSE.format(f"context has {name} && context.{name}.isEmpty()")
    return _is_valid(required, schema) or (_is_valid(optional, schema) and not _is_valid(nonsense, schema))


def _is_valid(text: str, schema: Schema) -> bool:
    return bool(validate_policies(text, schema).validation_passed)


def _slice(policies: Iterable[Policy], tool: str) -> list[str]:
    return [policy.id for policy in policies if policy.tool in ("", tool)]


def _is_uneven(policy: Policy) -> bool:
    """Whether it says more of ``execute`` than of ``propose``, beyond permitting it."""
    return not policy.both and (policy.effect == "forbid" or bool(policy.obligations))


def _compile(sources: Mapping[str, msgspec.Raw], ids: Iterable[str]) -> PolicySet:
    """One evaluation handle, in which Cedar knows each policy by its ``@id``."""
    document = {"staticPolicies": {name: sources[name] for name in ids}, "templates": {}, "templateLinks": []}
    return PolicySet.from_json_str(msgspec.json.encode(document).decode())
