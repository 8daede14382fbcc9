"""The accounts of a NATS server, from the permissions of its users: one for each set of roles, beside the streams' own.

The rule: a server holds what a client publishes against its permissions, but not the reply subject that it names, and
sends its answer there with the rights of the account. So JetStream's account has no user but the root; a role's account
imports what its role may say and hear, one by one, and an answer that was sent astray ends in it (decision 0068).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from mesh.errors import SettingsError
from mesh.permissions import ROLES, BusUser, Permissions, for_site

SYSTEM: Final = "SYS"
MESH: Final = "MESH"
JSZ: Final = "durability.jsz"
"""Where a process asks how JetStream syncs to disk: ``$SYS.REQ.SERVER.PING.JSZ``, imported into its account."""

_JSZ = "$SYS.REQ.SERVER.PING.JSZ"
_ADMIN = "admin"
_SERVICE = "svc."
_MAKES_CONSUMERS = "$JS.API.CONSUMER.CREATE."
# Requests that have many answers, and for how long they may be silent. A pull says something every 2 s (mesh.pump).
_STREAMED = ("$JS.API.CONSUMER.MSG.NEXT.", "$JS.API.DIRECT.GET.", _JSZ)
_SILENT = "15s"
_ANSWER_WITHIN = "30s"


@dataclass(frozen=True, slots=True)
class Quotas:
    """What accounts may take; -1 sets no limit. ``disk_bytes`` counts each replica; ``connections`` are a role's."""

    disk_bytes: int = -1
    streams: int = -1
    consumers: int = -1  # of one stream
    connections: int = -1


@dataclass(slots=True)
class _Account:
    """One account while it is put together; exports by subject, each with the accounts that may import it."""

    users: list[dict[str, Any]] = field(default_factory=list)
    imports: list[dict[str, Any]] = field(default_factory=list)
    services: dict[str, list[str]] = field(default_factory=dict)
    streams: dict[str, list[str]] = field(default_factory=dict)

    def exports(self) -> list[dict[str, Any]]:
        streams = [{"stream": subject, "accounts": accounts} for subject, accounts in sorted(self.streams.items())]
        return [*(_service(subject, accounts) for subject, accounts in sorted(self.services.items())), *streams]


NO_QUOTAS: Final = Quotas()


def accounts(users: Sequence[BusUser], quotas: Quotas = NO_QUOTAS, *, has_store: bool = True) -> dict[str, Any]:
    """The ``accounts`` of a server's configuration, for these users.

    Each role has its account, with a user or without: what an account imports that is new at a reload, the server
    (2.15.1) serves only from its next start. Without a store it only passes on: its accounts import nothing, since
    those of the hub do.
    """
    found: dict[str, _Account] = {SYSTEM: _Account(), MESH: _Account()}
    granted: dict[str, Permissions] = {}
    if has_store:
        for role in (role for role in ROLES if role != _ADMIN):
            granted[role.upper()] = for_site(ROLES[role], "")
            found[role.upper()] = _Account()
    for user in users:
        name = account_of(user)
        found.setdefault(name, _Account()).users.append(user_entry(user))
        own = user.permissions()
        granted[name] = granted[name] | own if name in granted else own
    if not has_store:
        return {name: {"users": account.users} if account.users else {} for name, account in found.items()}
    for name, permissions in granted.items():
        _import_services(name, permissions, granted, found)
    for name, permissions in reversed(granted.items()):
        if name != MESH:
            _import_streams(name, permissions, granted, found)
    return {name: _rendered(name, account, quotas) for name, account in found.items()}


def account_of(user: BusUser) -> str:
    """The account that a user is in: the streams' own for the root, else that of its roles."""
    return MESH if _ADMIN in user.roles else "_".join(sorted(user.roles)).upper()


def user_entry(user: BusUser) -> dict[str, Any]:
    """A user of an account: its key and what it may publish and subscribe to."""
    granted = user.permissions()
    permissions: dict[str, Any] = {
        "publish": {"allow": granted.publish} if granted.publish else {"deny": [">"]},
        "subscribe": {"allow": granted.subscribe},
    }
    if granted.answers:
        permissions["allow_responses"] = {"max": 1, "expires": _ANSWER_WITHIN}
    return {"nkey": user.public_key, "permissions": permissions}


@lru_cache(maxsize=4096)
def _tokens(subject: str) -> tuple[str, ...]:
    return tuple(subject.split("."))


def covers(pattern: str, subject: str) -> bool:
    """Whether every subject that matches the second pattern also matches the first."""
    wide, narrow = _tokens(pattern), _tokens(subject)
    for place, token in enumerate(wide):
        if token == ">":
            return len(narrow) > place
        if place >= len(narrow) or narrow[place] == ">" or token not in ("*", narrow[place]):
            return False
    return len(wide) == len(narrow)


def meets(one: str, other: str) -> bool:
    """Whether there is a subject that matches both patterns."""
    left, right = _tokens(one), _tokens(other)
    for a, b in zip(left, right, strict=False):
        if ">" in (a, b):
            return True
        if "*" not in (a, b) and a != b:
            return False
    return len(left) == len(right)


def _import_services(
    name: str, permissions: Permissions, granted: Mapping[str, Permissions], found: dict[str, _Account]
) -> None:
    for subject in _widest(permissions.publish):
        if subject == JSZ:
            found[SYSTEM].services.setdefault(_JSZ, []).append(name)
            found[name].imports.append({"service": {"account": SYSTEM, "subject": _JSZ}, "to": JSZ})
        elif subject.startswith(_SERVICE):
            for owner, verbs in _offered(subject, granted, found):
                if owner != name:
                    found[owner].services.setdefault(verbs, []).append(name)
                    found[name].imports.append({"service": {"account": owner, "subject": verbs}})
        elif name != MESH:
            found[MESH].services.setdefault(subject, []).append(name)
            found[name].imports.append({"service": {"account": MESH, "subject": subject}})


def _import_streams(
    name: str, permissions: Permissions, granted: Mapping[str, Permissions], found: dict[str, _Account]
) -> None:
    """What is heard, from whoever may say it: a message that came into an account by a service import goes no further.

    The inbox too, where a consumer of the account's own has JetStream deliver to it. Of two accounts that say and hear
    the same one hears the other, since imports form no cycle: what is heard is a hint, and the streams are read anyway.
    """
    makes_consumers = any(subject.startswith(_MAKES_CONSUMERS) for subject in permissions.publish)
    for heard in _widest(permissions.subscribe):
        if heard.startswith(_SERVICE) or (heard.startswith("_INBOX_") and not makes_consumers):
            continue
        sources = [(MESH, heard)]
        for owner, theirs in granted.items():
            said = _widest(theirs.publish) if owner not in (name, MESH) else ()
            back = [subject for subject, hearers in found[name].streams.items() if owner in hearers]
            both = [heard if covers(each, heard) else each for each in said if meets(each, heard)]
            sources += [(owner, each) for each in both if not any(meets(each, subject) for subject in back)]
        for owner, subject in sources:
            found[owner].streams.setdefault(subject, []).append(name)
            found[name].imports.append({"stream": {"account": owner, "subject": subject}})


def _offered(
    wanted: str, granted: Mapping[str, Permissions], found: Mapping[str, _Account]
) -> Iterable[tuple[str, str]]:
    """Who answers this, and by which subject it is asked; raises ``SettingsError`` where two accounts would."""
    first: dict[str, str] = {}
    # One with users before one without; the root's only where there is no other.
    for owner in sorted(granted, key=lambda name: (name == MESH, not found[name].users)):
        for verbs in granted[owner].subscribe:
            if not verbs.startswith(_SERVICE) or not (covers(verbs, wanted) or covers(wanted, verbs)):
                continue
            if (other := first.setdefault(verbs, owner)) == owner:
                yield owner, wanted if covers(verbs, wanted) else verbs
            elif owner != MESH and found[owner].users:
                raise SettingsError(
                    f"the accounts {other} and {owner} both answer {verbs}: give the keys that do the same roles"
                )


@lru_cache(maxsize=64)
def _widest(subjects: tuple[str, ...]) -> tuple[str, ...]:
    """Without those that another one covers: a subject that is imported twice is answered twice."""
    every = tuple(dict.fromkeys(subjects))
    wide = [subject for subject in every if subject.endswith(">") or "*" in subject]
    return tuple(one for one in every if not any(other != one and covers(other, one) for other in wide))


def _service(subject: str, accounts: list[str]) -> dict[str, Any]:
    export: dict[str, Any] = {"service": subject, "accounts": accounts}
    if f"{subject}.".startswith(_STREAMED):
        export |= {"response": "stream", "threshold": _SILENT}
    return export


def _rendered(name: str, account: _Account, quotas: Quotas) -> dict[str, Any]:
    rendered: dict[str, Any] = {}
    if name == MESH:
        limits = {"max_file": quotas.disk_bytes, "max_streams": quotas.streams, "max_consumers": quotas.consumers}
        rendered["jetstream"] = {key: value for key, value in limits.items() if value >= 0} or "enabled"
    if name != SYSTEM and quotas.connections >= 0:
        rendered["limits"] = {"max_connections": quotas.connections}
    parts = {"users": account.users, "exports": account.exports(), "imports": account.imports}
    return rendered | {key: value for key, value in parts.items() if value}
