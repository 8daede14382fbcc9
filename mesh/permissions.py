"""What each role may say and hear on the bus, as data: the least that its part of the flow needs (DESIGN 2).

The rule: streams and durable consumers are made by ``admin`` alone; a role reads its replies under a prefix of its own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from mesh import subjects
from mesh.errors import SettingsError
from mesh.identity import inbox_prefix
from mesh.records import REPLANS_MAX, REVISIONS_MAX, WHOLE_TASK, revised

STREAMS: Final = (
    subjects.EVENTS,
    subjects.JOURNAL,
    subjects.QUARANTINE,
    subjects.MEMORY,
    subjects.AUDIT,
    subjects.ORIGINALS,
)
BUCKETS: Final = (
    subjects.POLICY_BUCKET,
    subjects.TRUST_BUCKET,
    subjects.WORKING_BUCKET,
    subjects.SESSION_BUCKET,
    subjects.REGISTRY_BUCKET,
    subjects.MODELS_BUCKET,
    subjects.INTAKE_BUCKET,
)
DURABLES: Final = {
    "perception": subjects.EVENTS,
    "planner": subjects.JOURNAL,
    "model": subjects.JOURNAL,
    "policy": subjects.JOURNAL,
    "executor": subjects.JOURNAL,
    "learner": subjects.JOURNAL,
    "intake": subjects.JOURNAL,
}
"""The durable consumer of each stage: its name is the stage's, and this is its stream."""


@dataclass(frozen=True, slots=True)
class Permissions:
    """Subjects that one user may publish and subscribe to; ``answers`` lets it reply, once, to what it was asked."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    answers: bool = False

    def __or__(self, other: "Permissions") -> "Permissions":
        publish = tuple(dict.fromkeys(self.publish + other.publish))
        subscribe = tuple(dict.fromkeys(self.subscribe + other.subscribe))
        return Permissions(publish, subscribe, self.answers or other.answers)


@dataclass(frozen=True, slots=True)
class BusUser:
    """A key that may connect to the bus, and the roles whose subjects it may use."""

    public_key: str
    roles: tuple[str, ...]
    name: str = ""

    def permissions(self) -> Permissions:
        """The subjects of all its roles, and its own inbox."""
        return for_roles(self.roles, self.public_key)


def kv_stream(bucket: str) -> str:
    """The stream behind a KV bucket."""
    return f"KV_{bucket}"


def for_roles(roles: Iterable[str], public_key: str) -> Permissions:
    """What a user of these roles may do; raises ``SettingsError`` for a role that is none."""
    total = Permissions((), (f"{inbox_prefix(public_key)}.>",))
    for role in roles:
        if role not in ROLES:
            raise SettingsError(f"there is no role {role!r}: the roles are {', '.join(ROLES)}")
        total |= ROLES[role]
    return for_site(total, subjects.site_name(public_key))


def for_site(permissions: Permissions, site: str) -> Permissions:
    """The same with the name of the user's site in its place; without a name, without the subjects that have one."""
    said = (subject.replace(OWN_SITE, site) for subject in permissions.publish if site or OWN_SITE not in subject)
    return Permissions(tuple(said), permissions.subscribe, permissions.answers)


OWN_SITE: Final = "OWN_SITE"
"""Stands in a role's subjects for the name of the site whose key the user has."""


def _reads(*streams: str) -> tuple[str, ...]:
    """Direct gets and the description of streams."""
    found = [f"$JS.API.DIRECT.GET.{stream}{rest}" for stream in streams for rest in ("", ".>")]
    return (*found, *(f"$JS.API.STREAM.INFO.{stream}" for stream in streams))


def _watches(*buckets: str) -> tuple[str, ...]:
    """Reads of KV buckets, and the short-lived ordered consumers of their watchers."""
    streams = [kv_stream(bucket) for bucket in buckets]
    found = [
        subject
        for stream in streams
        for subject in (
            f"$JS.API.CONSUMER.CREATE.{stream}",
            f"$JS.API.CONSUMER.CREATE.{stream}.>",
            f"$JS.API.CONSUMER.INFO.{stream}.*",
            f"$JS.API.CONSUMER.DELETE.{stream}.*",
            f"$JS.FC.{stream}.>",
        )
    ]
    return (*_reads(*streams), *found)


def _writes(bucket: str, prefix: str = "") -> tuple[str, ...]:
    return (f"$KV.{bucket}.{prefix}>", f"$JS.API.STREAM.INFO.{kv_stream(bucket)}")


def _member(role: str) -> tuple[str, ...]:
    """What every process of the system has: limits of the account, trust, its entry in the registry, the journal."""
    return (
        "$JS.API.INFO",
        "durability.jsz",
        *_watches(subjects.TRUST_BUCKET),
        *_writes(subjects.REGISTRY_BUCKET, f"{role}."),
        *_reads(subjects.JOURNAL),
    )


def _stage(role: str, *kinds: str) -> tuple[str, ...]:
    """A stage: it pulls and acks its durable consumer, writes its kinds of records, quarantines what it refuses."""
    stream = DURABLES[role]
    return (
        *_member(role),
        f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{role}",
        f"$JS.API.CONSUMER.INFO.{stream}.{role}",
        f"$JS.ACK.{stream}.{role}.>",
        *(subjects.kind(kind) for kind in kinds),
        subjects.quarantine(role, ">"),
        *_reads(subjects.QUARANTINE),
    )


_OPERATOR_API = ("STREAM.NAMES", "STREAM.LIST", "CONSUMER.NAMES.*", "CONSUMER.LIST.*", "CONSUMER.INFO.*.*")

ROLES: Final[Mapping[str, Permissions]] = {
    "perception": Permissions(
        (*_stage("perception", "context", "outcome"), *_reads(subjects.EVENTS)),
        ("event.>",),
    ),
    "planner": Permissions(
        (
            *_stage("planner", "prompt"),
            subjects.record_filter("plan"),
            *(subjects.record_filter("plan", revised(WHOLE_TASK, n, "v")) for n in range(1, REPLANS_MAX + 1)),
            subjects.service("memory", "recall"),
        ),
        (subjects.kind("outcome"), "control.>", subjects.CHANGES),
    ),
    "model": Permissions(
        (
            *_stage("model", "completion"),
            "spend.>",
            *_watches(subjects.MODELS_BUCKET),
            *_writes(subjects.MODELS_BUCKET),
        ),
        ("control.>",),
    ),
    "policy": Permissions(
        (
            *_stage("policy", "decision", "approval", "outcome"),
            *(subjects.record_filter("plan", revised(WHOLE_TASK, n)) for n in range(1, REVISIONS_MAX + 1)),
            *_watches(subjects.POLICY_BUCKET),
            *_writes(subjects.POLICY_BUCKET),
            "control.autonomy.>",
            "control.bundle.>",
            "limit.>",
            subjects.released("planner"),
            subjects.service("memory", "standing"),
        ),
        ("task.>", "control.>", subjects.service("policy", ">")),
        answers=True,
    ),
    "executor": Permissions(
        (*_stage("executor", "effect", "result", "outcome"), *_watches(subjects.POLICY_BUCKET)),
        ("control.>",),
    ),
    "learner": Permissions(
        (
            *_stage("learner", "lesson"),
            subjects.service("memory", "remember"),
            subjects.service("memory", "retract"),
            subjects.service("memory", "facts"),
            subjects.service("policy", "stages"),
            "control.learned.>",
            "control.proposal.>",
        ),
        ("control.>", subjects.service("learner", ">")),
        answers=True,
    ),
    "memory": Permissions(
        (
            *_member("memory"),
            "fact.>",
            subjects.CHANGES,
            *_reads(subjects.MEMORY),
            f"$JS.API.STREAM.MSG.DELETE.{subjects.MEMORY}",
            *_watches(subjects.WORKING_BUCKET, subjects.SESSION_BUCKET),
            *_writes(subjects.WORKING_BUCKET),
            *_writes(subjects.SESSION_BUCKET),
        ),
        ("fact.>", subjects.service("memory", ">")),
        answers=True,
    ),
    "auditor": Permissions(
        (
            *_member("auditor"),
            *_reads(subjects.AUDIT),
            f"$JS.API.STREAM.MSG.GET.{subjects.JOURNAL}",
            "audit.>",
        ),
        (),
    ),
    "intake": Permissions(
        (
            *_stage("intake"),
            "event.>",
            "original.>",
            *_reads(subjects.EVENTS, subjects.ORIGINALS),
            "$JS.API.CONSUMER.INFO.EVENTS.perception",
            *_watches(subjects.INTAKE_BUCKET),
            *_writes(subjects.INTAKE_BUCKET),
        ),
        ("event.>",),
    ),
    "operator": Permissions(
        (
            "$JS.API.INFO",
            "durability.jsz",
            *_reads(*STREAMS, subjects.SITES),
            *_watches(*BUCKETS),
            *(f"$JS.API.{name}" for name in _OPERATOR_API),
            subjects.down("*", "bundle", "*"),
            subjects.down("*", "active", "*"),
            *_writes(subjects.REGISTRY_BUCKET, "operator."),
            "svc.>",
            "event.>",
            "release.>",
            "control.halt.>",
            "control.restored.>",
            subjects.quarantine("released", ">"),
        ),
        ("event.>", "task.>", "fact.>", "quarantine.>", "control.>"),
    ),
    "console": Permissions(
        (
            *_member("console"),
            *_reads(subjects.EVENTS, subjects.QUARANTINE, kv_stream(subjects.POLICY_BUCKET)),
            *_reads(kv_stream(subjects.REGISTRY_BUCKET)),
            *(subjects.service("policy", verb) for verb in ("list", "show", "say", "stages", "stage")),
            *(subjects.service("memory", verb) for verb in ("facts", "why", "history", "resolve")),
            *(subjects.service("learner", verb) for verb in ("list", "show", "say", "drift")),
            "control.halt.>",
            "event.>",
            "release.>",
            subjects.quarantine("released", ">"),
        ),
        ("task.>", "fact.>", "quarantine.>", "control.>"),
    ),
    "tracer": Permissions(_member("tracer"), ()),
    "publisher": Permissions(("event.>",), ()),
    "uplink": Permissions(
        (
            "$JS.API.INFO",
            *(
                subject
                for stream in subjects.UPLINKED
                for subject in (
                    subjects.site_subject(OWN_SITE, stream, ">"),
                    *_reads(subjects.site_stream(OWN_SITE, stream)),
                )
            ),
            *(
                subject
                for stream in (subjects.SITES, subjects.MEMORY)
                for subject in (
                    f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{OWN_SITE}",
                    f"$JS.API.CONSUMER.INFO.{stream}.{OWN_SITE}",
                    f"$JS.ACK.{stream}.{OWN_SITE}.>",
                )
            ),
            subjects.told(OWN_SITE, "*"),
        ),
        (),
    ),
    "admin": Permissions(
        (
            "$JS.API.>",
            "$JS.FC.>",
            "$JS.SNAPSHOT.>",
            *(f"$KV.{bucket}.>" for bucket in (subjects.TRUST_BUCKET, subjects.POLICY_BUCKET)),
            "control.bundle.>",
            "control.restored.>",
        ),
        (),
    ),
}
"""Permissions by role. ``admin`` is the root key: it makes streams and consumers, and writes trust and policy.
``policy`` may write what a policy admin signed; the others read it, and check that signature. ``console`` passes on
what people signed, and releases from quarantine what they mend: so it may write events."""
