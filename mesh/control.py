"""Acts of governance: signed envelopes in the journal at ``control.<what>.<scope>``, and the reader that follows them.

The rule: the last valid act on a scope is in force. It is valid when the bus stored it while its signer was trusted to
do it, and when it is newer than the one before; so neither a replay nor a later change of trust alters what it says.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Generic, TypeVar, cast

import msgspec
import structlog
from nats.aio.msg import Msg

from mesh import subjects, trust
from mesh.bus import Bus, StoredMessage
from mesh.clock import now
from mesh.errors import BusUnavailableError, ConflictError, SignatureError, TerminalError
from mesh.identity import Identity
from mesh.journal import CREATE, Committer, Message
from mesh.lifetime import background
from mesh.signing import CONTROL_TYPE, open_envelope, sign
from mesh.trust import TrustDirectory, TrustEntry

log = structlog.get_logger(__name__)

REREAD_S = 0.5
"""How long an act can stay unseen when the message that tells of it was lost."""

SIGNED_S = 120.0
"""How old an act may be that was signed elsewhere, or how far ahead the signer's clock."""

_ALL = "control.>"
_PAGE = 256
# A message is heard before it is stored, which takes milliseconds: look again soon, for as long as REREAD_S.
_LOOK_AGAIN_S = 0.02
_INSTANT = timedelta(microseconds=1)
_ALWAYS = datetime.max.replace(tzinfo=UTC)


class Act(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person decided, and why; ``at`` is aware UTC and grows from act to act on one scope."""

    person: str
    at: Annotated[datetime, msgspec.Meta(tz=True)]
    reason: str = ""


A = TypeVar("A", bound=Act)


@dataclass(frozen=True, slots=True)
class Kind(Generic[A]):
    """One kind of act: the token of its subjects, its struct, where it stands, and who may do it.

    ``subject(act)`` is a function of its scope. ``check(act, entry)`` raises ``SignatureError`` when ``entry``, which
    the signer had when the act was stored, does not allow it. ``word(act)`` is the key, name and role of a person whose
    signed word the act holds and needs: that person is held against the trust of that time too. ``follows(act, before,
    at)`` raises ``SignatureError`` when it may not come after the one in force (or none) at the time of the bus.
    """

    what: str
    model: type[A]
    subject: Callable[[A], str]
    check: Callable[[A, TrustEntry], None]
    word: Callable[[A], tuple[str, str, str] | None] = lambda act: None
    follows: Callable[[A, A | None, datetime], None] = lambda act, before, at: None


@dataclass(frozen=True, slots=True)
class Standing(Generic[A]):
    """An act in force, and where it stands in the journal."""

    act: A
    subject: str
    seq: int
    stored_at: datetime


class Controls:
    """The acts in force of some kinds, folded from the journal. Opened by ``controlling``.

    While the bus is away the last ones stay in force.
    """

    def __init__(self, bus: Bus, root_public_key: str, *kinds: Kind[Any]) -> None:
        self._bus = bus
        self._trust = _PastTrust(bus, root_public_key)
        self._kinds = {kind.what: kind for kind in kinds}
        self._standing: dict[str, dict[str, Standing[Any]]] = {what: {} for what in self._kinds}
        self._listeners: list[tuple[str, Callable[[Any], None]]] = []
        self._seq = 0
        self._reading = asyncio.Lock()
        self._heard = asyncio.Event()

    def standing(self, kind: Kind[A]) -> tuple[Standing[A], ...]:
        """The act in force on each scope of this kind, oldest first."""
        found = cast("dict[str, Standing[A]]", self._standing[kind.what])
        return tuple(sorted(found.values(), key=lambda item: item.seq))

    def on_change(self, kind: Kind[A], listener: Callable[[tuple[Standing[A], ...]], None]) -> None:
        """Tell ``listener`` all that stands of this kind, now and after each change."""
        self._listeners.append((kind.what, listener))
        listener(self.standing(kind))

    async def refresh(self) -> None:
        """Take in what was stored since the last time; raises ``BusUnavailableError``."""
        async with self._reading:
            last = await self._bus.last(subjects.JOURNAL, _ALL)
            if last is None or last.seq <= self._seq:
                return
            while page := await self._bus.read(subjects.JOURNAL, self._seq + 1, _PAGE, _ALL):
                await self._trust.load()  # after the page: whoever signed it was enrolled before
                changed = {self._take(message) for message in page}
                self._seq = page[-1].seq
                for what, listener in self._listeners:
                    if what in changed:
                        listener(self.standing(self._kinds[what]))

    async def put(self, committer: Committer, kind: Kind[A], act: A, signer: Identity) -> Standing[A]:
        """Sign an act and put it on record; returns when it is in force.

        ``at`` is set anew, behind that of the act before it. Raises ``SignatureError`` when the signer may not do it,
        and ``TerminalError`` when somebody else was faster: look again.
        """
        await self.refresh()
        before = self._standing[kind.what].get(kind.subject(act))
        act = msgspec.structs.replace(act, at=max(now(), before.act.at + _INSTANT) if before else now())
        return await self._put(committer, kind, act, bytes(sign(act, CONTROL_TYPE, signer)), signer.public_key)

    async def put_signed(self, committer: Committer, kind: Kind[A], signed: bytes) -> Standing[A]:
        """Put on record an act that its signer has signed elsewhere, just now; judged and raising as in ``put``."""
        act, keyid = open_envelope(signed, CONTROL_TYPE, kind.model, lambda key: None)
        if abs((now() - act.at).total_seconds()) > SIGNED_S:
            raise SignatureError(f"the act was signed at {act.at.isoformat()}, not just now: sign it again")
        await self.refresh()
        return await self._put(committer, kind, act, signed, keyid)

    async def _put(self, committer: Committer, kind: Kind[A], act: A, signed: bytes, keyid: str) -> Standing[A]:
        await self._trust.load()
        subject = kind.subject(act)
        self._judge(kind, act, subject, keyid, _ALWAYS)
        last = await self._bus.last(subjects.JOURNAL, subject)
        expected = last.seq if last else CREATE
        try:
            (seq,) = await committer.commit([Message(subject, signed, expected=expected)])
        except ConflictError as error:
            raise TerminalError(f"somebody else acted on {subject} in this moment: look again, then repeat") from error
        await self.refresh()
        standing = self._standing[kind.what].get(subject)
        if standing is None or standing.seq < seq:
            raise TerminalError(f"the act on {subject} stands at {seq}, but is not in force: see the log")
        return cast("Standing[A]", standing)

    async def run(self) -> None:
        """Follow the journal until cancelled."""
        loop = asyncio.get_running_loop()
        heard_at = 0.0
        while True:
            pause_s = _LOOK_AGAIN_S if loop.time() - heard_at < REREAD_S else REREAD_S
            try:
                async with asyncio.timeout(pause_s):
                    await self._heard.wait()
            except TimeoutError:
                pass
            else:
                self._heard.clear()
                heard_at = loop.time()
            try:
                await self.refresh()
            except BusUnavailableError as error:
                log.warning("controls_not_refreshed", error=str(error))
                await asyncio.sleep(REREAD_S)

    async def hear(self) -> None:
        """Be woken by acts as they are published, and by a new connection."""
        await self._bus.client.subscribe(_ALL, cb=self._on_message)
        self._bus.on_reconnect(self._on_reconnect)

    async def _on_message(self, message: Msg) -> None:
        self._heard.set()

    async def _on_reconnect(self) -> None:
        self._heard.set()

    def _take(self, message: StoredMessage) -> str:
        """Take one message in; the kind that it changed, or nothing."""
        what = message.subject.split(".")[1]
        kind = self._kinds.get(what)
        if kind is None:
            return ""
        try:
            standing = self._open(kind, message)
        except SignatureError as error:
            log.error("act_refused", subject=message.subject, seq=message.seq, reason=str(error))
            return ""
        self._standing[what][message.subject] = standing
        log.info("act_in_force", subject=message.subject, seq=message.seq, person=standing.act.person)
        return what

    def _open(self, kind: Kind[A], message: StoredMessage) -> Standing[A]:
        if message.is_forwarded:
            raise SignatureError("it was not published there, but sent there by the server's answer to a read")
        stored_at = datetime.fromisoformat(message.time)
        act, keyid = open_envelope(message.data, CONTROL_TYPE, kind.model, lambda key: None)
        self._judge(kind, act, message.subject, keyid, stored_at)
        return Standing(act, message.subject, message.seq, stored_at)

    def _judge(self, kind: Kind[A], act: A, subject: str, keyid: str, at: datetime) -> None:
        entry = self._trust.entry(keyid, act.person, at)
        if kind.subject(act) != subject:
            raise SignatureError(f"an act on {kind.subject(act)} stands at {subject}")
        kind.check(act, entry)
        if (word := kind.word(act)) is not None:
            keyid, person, role = word
            speaker = self._trust.entry(keyid, person, at)
            if speaker.kind != "person" or role not in speaker.roles:
                raise SignatureError(f"{person} is a {speaker.kind} without the role {role}: the word does not count")
        before = self._standing[kind.what].get(subject)
        if before is not None and act.at <= before.act.at:
            raise SignatureError(f"it is from {act.at.isoformat()}, not after the one in force: a replay")
        kind.follows(act, before.act if before else None, now() if at is _ALWAYS else at)


@asynccontextmanager
async def controlling(bus: Bus, root_public_key: str, *kinds: Kind[Any]) -> AsyncIterator[Controls]:
    """Controls that follow the journal while the block runs, entered with all acts read.

    Raises ``BusUnavailableError`` when they cannot be read: a process that does not know them must not begin.
    """
    controls = Controls(bus, root_public_key, *kinds)
    await controls.hear()
    await bus.settle()
    await controls.refresh()
    async with background(controls.run(), "controls"):
        yield controls


class _PastTrust:
    """Who was trusted when, by the bus's own clock: the versions of each name that the bucket keeps."""

    def __init__(self, bus: Bus, root_public_key: str) -> None:
        self._bus = bus
        self._root = root_public_key
        self._versions: list[tuple[datetime, str, TrustEntry | None]] = []
        self._seq = 0

    async def load(self) -> None:
        """Take in the versions that are new."""
        while page := await self._bus.read(trust.STREAM, self._seq + 1, _PAGE, f"{trust.PREFIX}>"):
            for message in page:
                if message.is_forwarded:
                    log.error("trust_entry_refused", seq=message.seq, reason="it was not published there")
                    continue
                name = message.subject.removeprefix(trust.PREFIX)
                self._versions.append((datetime.fromisoformat(message.time), name, self._entry(message, name)))
            self._seq = page[-1].seq

    def entry(self, keyid: str, person: str, at: datetime) -> TrustEntry:
        """The entry of this key and name that was in force at that time; raises ``SignatureError`` when none was."""
        latest = {name: entry for since, name, entry in self._versions if since <= at}
        found = [entry for entry in latest.values() if entry is not None and entry.public_key == keyid]
        if revoked := next((entry for entry in found if entry.revoked_at is not None), None):
            raise SignatureError(f"key {keyid} of {revoked.name} was revoked before")
        for entry in found:
            if entry.name == person:
                return entry
        whose = f"is {found[0].name}'s" if found else "was not enrolled then: `workmesh keys enroll` it and sign anew"
        raise SignatureError(f"key {keyid} of an act of {person} {whose}")

    def _entry(self, message: StoredMessage, name: str) -> TrustEntry | None:
        if not message.data:
            return None
        try:
            return TrustDirectory(self._root).apply(message.data, name=name)
        except SignatureError as error:
            log.error("trust_entry_refused", name=name, reason=str(error))
            return None
