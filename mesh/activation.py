"""Which policy bundle is in force in a domain: signed pointers and signed contents in the ``POLICY`` bucket.

The rule: a permit made under a bundle that is no longer accepted permits nothing. An activation is put on record in the
journal first (``control.bundle.<domain>``), then into the bucket, each only over what it was made to replace.
"""

import asyncio
from datetime import datetime
from typing import TypeVar

import msgspec
import structlog

from mesh import subjects
from mesh.bus import Bus, StoredMessage
from mesh.errors import BusUnavailableError, ConflictError, SignatureError, TerminalError
from mesh.signing import ACTIVATION_TYPE, BUNDLE_TYPE, open_envelope
from mesh.trust import TrustDirectory, TrustEntry

T = TypeVar("T", bound=msgspec.Struct)

SIGNER_ROLE = "policy_admin"
_STREAM = f"KV_{subjects.POLICY_BUCKET}"
# How long a change of bundle can stay unseen in a process.
REREAD_S = 1.0

log = structlog.get_logger(__name__)


class Activation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bundle in force, older ones whose permits are still accepted, and one that is tried beside it.

    ``after`` is the sequence of the one on record before it, so that an envelope counts once. A rollback goes back to
    ``previous``. ``chosen`` says that a person chose the bundle: a newer pack does not replace it then. One that was
    signed at a hub for a ``site`` counts there alone, and follows on ``previous``: that site's sequences are not known.
    """

    domain: str
    digest: str
    activated_at: datetime
    accepted: tuple[str, ...] = ()
    shadow: str = ""
    previous: str = ""
    after: int = 0
    by: str = ""
    comment: str = ""
    chosen: bool = False
    site: str = ""


class PublishRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A bundle for the bucket: the DSSE envelope over its contents."""

    signed: msgspec.Raw


class PublishAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What was published, and how much of it there is."""

    domain: str
    digest: str
    policies: int
    cases: int


class ActivateRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change of what is in force: the DSSE envelope over an ``Activation``."""

    signed: msgspec.Raw


class ActivateAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What is in force now; ``seq`` is where the journal has it."""

    domain: str
    digest: str
    seq: int


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """An activation as it stands in the bucket, or in the journal: its sequence there, and the key that signed it."""

    activation: Activation
    seq: int
    keyid: str


def _key(*parts: str) -> str:
    return f"$KV.{subjects.POLICY_BUCKET}." + ".".join(parts)


def active_key(domain: str) -> str:
    """The subject of a domain's activation."""
    return _key("active", domain)


def bundle_key(domain: str, digest: str) -> str:
    """The subject of a bundle's contents."""
    return _key("bundle", domain, digest.removeprefix("sha256:"))


def control_key(domain: str) -> str:
    """Where the activations of a domain are on record, in the journal."""
    return subjects.control("bundle", domain)


async def store_bundle(bus: Bus, domain: str, digest: str, signed: bytes) -> None:
    """Put the envelope of a bundle into the bucket, under its digest."""
    await _put(bus, bundle_key(domain, digest), signed)


async def enact(bus: Bus, activation: Activation, signed: bytes) -> int:
    """Put an activation on record, then in force; the sequence that it has in the journal.

    Raises ``ConflictError`` when another came first. A crash between the two leaves one on record that never was in
    force, and in force what was: the next activation follows on it. One from a hub comes again then, and is on record
    once.
    """
    replaced = await bus.last(_STREAM, active_key(activation.domain))
    last = await bus.last(subjects.JOURNAL, control_key(activation.domain)) if activation.site else None
    if last is not None and last.data == signed:
        seq = last.seq
    else:
        after = (last.seq if last else 0) if activation.site else activation.after
        seq = await _put(bus, control_key(activation.domain), signed, after)
    await _put(bus, active_key(activation.domain), signed, replaced.seq if replaced else 0)
    return seq


async def last_on_record(bus: Bus, domain: str) -> int:
    """The sequence of a domain's last activation in the journal; 0 for none."""
    message = await bus.last(subjects.JOURNAL, control_key(domain))
    return message.seq if message else 0


async def standing(bus: Bus, domain: str) -> Standing | None:
    """What the bucket says is in force; whether its signer is trusted is for the caller to ask."""
    return _read_standing(await bus.last(_STREAM, active_key(domain)))


async def recorded(bus: Bus, domain: str) -> list[Standing]:
    """Every activation of a domain that is on record, oldest first."""
    found: list[Standing] = []
    start = 1
    while page := await bus.read(subjects.JOURNAL, start, 256, control_key(domain)):
        for message in page:
            try:
                found += filter(None, [_read_standing(message)])
            except SignatureError as error:
                log.error("activation_on_record_refused", seq=message.seq, reason=str(error))
        start = page[-1].seq + 1
    return found


def require_admin(trust: TrustDirectory, keyid: str) -> TrustEntry:
    """The policy admin whose key this is: a person, or the site's root; else raises ``SignatureError``."""
    entry = trust.require(keyid, SIGNER_ROLE)
    if entry.kind != "person" and keyid != trust.root_public_key:
        raise SignatureError(f"{entry.name} is a {entry.kind}: only a person or the root key may change policy")
    return entry


def _read_standing(message: StoredMessage | None) -> Standing | None:
    if message is None or not message.data:
        return None
    activation, keyid = open_envelope(message.data, ACTIVATION_TYPE, Activation, lambda key: None)
    return Standing(activation=activation, seq=message.seq, keyid=keyid)


async def _put(bus: Bus, subject: str, data: bytes, expected: int | None = None) -> int:
    """Store one message; its sequence. ``expected`` is the sequence that the subject must stand at."""
    try:
        return await bus.store(subject, data, expected)
    except ConflictError as error:
        changed = "somebody else changed it meanwhile: look again (`workmesh policy list`)"
        raise ConflictError(subject, changed) from error


class Activations:
    """Reads activations and bundles, checks their signatures, and remembers them for a second."""

    def __init__(self, bus: Bus, trust: TrustDirectory) -> None:
        self._bus = bus
        self._trust = trust
        self._known: dict[str, tuple[float, Activation]] = {}

    async def current(self, domain: str, *, fresh: bool = False) -> Activation:
        """The activation of a domain; raises ``SignatureError`` when it is not signed by a policy admin.

        While the bus does not answer, the last one stays in force.
        """
        now = asyncio.get_running_loop().time()
        known = self._known.get(domain)
        if known and not fresh and now - known[0] < REREAD_S:
            return known[1]
        try:
            activation = await self._read(active_key(domain), ACTIVATION_TYPE, Activation)
        except BusUnavailableError:
            if known is None:
                raise
            return known[1]
        if activation.domain != domain:
            raise SignatureError(f"the activation of {domain} is one of {activation.domain}")
        if known and activation.activated_at < known[1].activated_at:
            log.error("activation_older_than_known", domain=domain, digest=activation.digest)
            activation = known[1]
        self._known[domain] = (now, activation)
        return activation

    async def accepts(self, domain: str, digest: str) -> bool:
        """Whether permits under this bundle are accepted now."""
        activation = await self.current(domain)
        if digest in (activation.digest, *activation.accepted):
            return True
        activation = await self.current(domain, fresh=True)
        return digest in (activation.digest, *activation.accepted)

    def shadow(self, domain: str) -> str:
        """The digest of the bundle that is tried beside the one in force, as last read; mostly none."""
        known = self._known.get(domain)
        return known[1].shadow if known else ""

    async def contents(self, domain: str, digest: str, model: type[T]) -> T:
        """The bundle of this digest; the caller holds it against the digest."""
        return await self._read(bundle_key(domain, digest), BUNDLE_TYPE, model)

    async def _read(self, subject: str, payload_type: str, model: type[T]) -> T:
        message = await self._bus.last(_STREAM, subject)
        if message is None:
            raise TerminalError(f"{subject} is not in the bucket {subjects.POLICY_BUCKET}: publish the bundle first")
        message.require_published()
        payload, _ = open_envelope(
            msgspec.Raw(message.data), payload_type, model, lambda keyid: self._require_signer(keyid)
        )
        return payload

    def _require_signer(self, keyid: str) -> None:
        self._trust.require(keyid, SIGNER_ROLE)
