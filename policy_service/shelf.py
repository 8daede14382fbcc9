"""What is on the shelf: the bundles in the bucket, which of them are in force, and which one was before."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec

from mesh import subjects
from mesh.activation import Activation, Standing, bundle_key, standing
from mesh.bus import Bus
from mesh.errors import SignatureError, WorkmeshError
from mesh.signing import BUNDLE_TYPE, open_envelope
from mesh.trust import TrustDirectory, read_directory
from policy_service.bundle import BundleContents

_STREAM = f"KV_{subjects.POLICY_BUCKET}"
_PREFIX = "sha256:"
_SHORTEST = 6

State = Literal["active", "accepted", "shadow", "published"]


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle on the shelf; ``since``, ``activated_by`` and ``comment`` are of the activation that names it."""

    domain: str
    digest: str
    state: State
    published_at: datetime
    published_by: str
    since: datetime | None = None
    activated_by: str = ""
    comment: str = ""


async def published(bus: Bus, domain: str = "") -> list[tuple[str, str]]:
    """The domain and digest of each bundle on the shelf; no contents are read."""
    prefix = f"$KV.{subjects.POLICY_BUCKET}.bundle."
    info = await bus.api(f"STREAM.INFO.{_STREAM}", {"subjects_filter": f"{prefix}{domain or '*'}.*"})
    if "error" in info:
        raise WorkmeshError(f"the bucket {subjects.POLICY_BUCKET} cannot be read: {info['error']}")
    names = (subject.removeprefix(prefix).split(".") for subject in info["state"].get("subjects") or {})
    return sorted((name, f"{_PREFIX}{digest}") for name, digest in names)


async def resolve(bus: Bus, domain: str, start: str) -> str:
    """The one published digest that begins so, with or without ``sha256:``; else raises ``WorkmeshError``."""
    wanted = start.removeprefix(_PREFIX)
    shelf = [digest for _, digest in await published(bus, domain)]
    found = [digest for digest in shelf if digest.removeprefix(_PREFIX).startswith(wanted)]
    if len(found) != 1 or len(wanted) < _SHORTEST:
        what = "no bundle" if not found else f"{len(found)} bundles"
        raise WorkmeshError(
            f"{what} of {domain} begin with {wanted!r} (at least {_SHORTEST} characters): publish it first, or see "
            f"`workmesh policy list {domain}`"
        )
    return found[0]


async def listing(bus: Bus, root_key: str, domain: str = "") -> list[Listed]:
    """The shelf, what is in force first, then the newest."""
    trust = await read_directory(bus, root_key)
    shelf = await published(bus, domain)
    stand = {name: await _standing(bus, name) for name in {name for name, _ in shelf}}
    each = [await _listed(bus, trust, name, digest, stand[name]) for name, digest in shelf]
    found = [item for item in each if item is not None]
    order = ("active", "shadow", "accepted", "published")
    found.sort(key=lambda item: item.published_at, reverse=True)
    return sorted(found, key=lambda item: (item.domain, order.index(item.state)))


async def contents_of(bus: Bus, domain: str, digest: str) -> BundleContents:
    """The bundle of this digest, for looking at it: it is held against its digest, its signer's role is not asked."""
    message = await bus.last(_STREAM, bundle_key(domain, digest))
    if message is None or not message.data:
        raise WorkmeshError(
            f"the bundle {digest} of {domain} is not in the bucket {subjects.POLICY_BUCKET} any more: what was decided "
            "under it can be seen with `workmesh trace`, and cannot be explained or decided again"
        )
    contents, _ = open_envelope(message.data, BUNDLE_TYPE, BundleContents, lambda key: None)
    if contents.digest != digest:
        raise WorkmeshError(f"what stands under {digest} has the digest {contents.digest}: it is not that bundle")
    return contents


def revert(
    start: Activation, stands: Standing | None, record: Sequence[Standing], *, accept_old: bool = False
) -> Activation:
    """The activation that goes back by one bundle; raises ``WorkmeshError`` when there is none to go back to.

    Going back again goes further: ``previous`` is what the bundle it goes back to had itself come after.
    """
    if stands is None or not stands.activation.previous:
        raise WorkmeshError(f"no bundle was in force in {start.domain} before: see `workmesh policy list`")
    left, target = stands.activation.digest, stands.activation.previous
    before = [each.activation for each in record if each.activation.digest == target]
    return msgspec.structs.replace(
        start,
        digest=target,
        accepted=(left,) if accept_old else (),
        previous=before[-1].previous if before and before[-1].previous != left else "",
        shadow="" if start.shadow == target else start.shadow,
    )


async def _standing(bus: Bus, name: str) -> Standing | None:
    try:
        return await standing(bus, name)
    except SignatureError:
        return None  # what nobody signed is in force nowhere


async def _listed(bus: Bus, trust: TrustDirectory, name: str, digest: str, stands: Standing | None) -> Listed | None:
    """The bundle; ``None`` when it was taken off the shelf."""
    message = await bus.last(_STREAM, bundle_key(name, digest))
    if message is None or not message.data:
        return None
    state, act = _state(digest, stands)
    return Listed(
        domain=name,
        digest=digest,
        state=state,
        published_at=datetime.fromisoformat(message.time),
        published_by=_publisher(trust, message.data),
        since=act.activated_at if act else None,
        activated_by=_name(trust, stands.keyid) if act and stands else "",
        comment=act.comment if act else "",
    )


def _state(digest: str, stands: Standing | None) -> tuple[State, Activation | None]:
    act = stands.activation if stands else None
    if act is None:
        return "published", None
    if digest == act.digest:
        return "active", act
    if digest == act.shadow:
        return "shadow", act
    return ("accepted", act) if digest in act.accepted else ("published", None)


def _publisher(trust: TrustDirectory, envelope: bytes) -> str:
    try:
        _, keyid = open_envelope(envelope, BUNDLE_TYPE, BundleContents, lambda key: None)
    except SignatureError:
        return "nobody: the signature does not verify"
    return _name(trust, keyid)


def _name(trust: TrustDirectory, keyid: str) -> str:
    """Whose key it is, and whether it still counts."""
    for entry in trust.entries():
        if entry.public_key == keyid:
            return f"{entry.name} (revoked)" if entry.revoked_at else entry.name
    return f"unknown key {keyid}"
