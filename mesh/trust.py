"""Whom this installation trusts: entries of people, agents and services, each signed by one root key.

The rule: an entry that the root did not sign does not exist; a revoked key is refused under every name.
"""

import asyncio
from collections.abc import Iterable
from datetime import datetime
from types import TracebackType
from typing import Annotated, Any, Literal, Protocol, Self

import msgspec
import nats.errors
import nats.js.errors
import structlog

from mesh.bus import Bus, StoredMessage
from mesh.clock import now
from mesh.errors import BusUnavailableError, SignatureError, TerminalError
from mesh.identity import Identity, is_public_key
from mesh.signing import TRUST_TYPE, open_envelope, sign
from mesh.subjects import TRUST_BUCKET

REREAD_S = 5.0  # how long a revocation can stay unseen when the watcher has died with the server
_RETRY_S = 0.5  # short against REREAD_S, long against a server's restart (50 ms)
_CANCEL_AGAIN_S = 0.5
_PAGE = 256
STREAM = f"KV_{TRUST_BUCKET}"
PREFIX = f"$KV.{TRUST_BUCKET}."
_BUS_ERRORS = (nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError)

log = structlog.get_logger(__name__)


class TrustEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One enrolled key: whose it is, and which roles it may sign for. Times are aware UTC."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]
    public_key: str
    kind: Literal["agent", "person", "service"]
    roles: tuple[str, ...]
    enrolled_at: datetime
    revoked_at: datetime | None = None

    @property
    def changed_at(self) -> datetime:
        """When the entry last changed."""
        return self.revoked_at or self.enrolled_at


class TrustDirectory:
    """The entries in force, by name and by key; pure."""

    def __init__(self, root_public_key: str) -> None:
        self.root_public_key = root_public_key
        self._raw: dict[str, bytes] = {}
        self._entries: dict[str, TrustEntry] = {}
        self._names: dict[str, set[str]] = {}

    def apply(self, raw_envelope: msgspec.Raw | bytes, *, name: str = "") -> TrustEntry:
        """Take an entry in; it replaces the one of the same name unless it is older (then that one stays).

        Raises ``SignatureError`` when the root did not sign it, or it is not of ``name`` (where it was found).
        """
        raw = bytes(raw_envelope)
        if name and self._raw.get(name) == raw:
            return self._entries[name]
        entry, _ = open_envelope(raw, TRUST_TYPE, TrustEntry, self._accept_root)
        if name and entry.name != name:
            raise SignatureError(f"the trust entry of {entry.name} stands under {name}: enroll {name} again")
        held = self._entries.get(entry.name)
        if held is not None and held.changed_at > entry.changed_at:
            return held
        self.remove(entry.name)
        self._raw[entry.name] = raw
        self._entries[entry.name] = entry
        self._names.setdefault(entry.public_key, set()).add(entry.name)
        return entry

    def remove(self, name: str) -> None:
        """Forget the entry of this name, if there is one."""
        self._raw.pop(name, None)
        entry = self._entries.pop(name, None)
        if entry is not None:
            self._names[entry.public_key].discard(name)

    def retain(self, names: Iterable[str]) -> None:
        """Forget every entry whose name is not among these."""
        for gone in self._entries.keys() - set(names):
            self.remove(gone)

    def require(self, keyid: str, role: str) -> TrustEntry:
        """The entry of this key, which has this role; else raises ``SignatureError`` saying what to do."""
        entries = [self._entries[name] for name in sorted(self._names.get(keyid, ()))]
        if not entries:
            raise SignatureError(f"key {keyid} is not enrolled: `workmesh keys enroll` it with the role {role}")
        for entry in entries:
            if entry.revoked_at is not None:
                when = entry.revoked_at.isoformat()
                raise SignatureError(f"key {keyid} of {entry.name} was revoked at {when}: sign with a key in force")
        for entry in entries:
            if role in entry.roles:
                return entry
        raise SignatureError(
            f"key {keyid} of {entries[0].name} has not the role {role}, only {', '.join(entries[0].roles) or 'none'}: "
            f"enroll it again with that role, or let somebody sign who has it"
        )

    def find(self, name: str) -> TrustEntry | None:
        """The entry of this name, revoked or not."""
        return self._entries.get(name)

    def entries(self) -> tuple[TrustEntry, ...]:
        """All entries, by name."""
        return tuple(self._entries[name] for name in sorted(self._entries))

    def _accept_root(self, keyid: str) -> None:
        if keyid != self.root_public_key:
            raise SignatureError(f"a trust entry is signed by {keyid}, not by the root {self.root_public_key}")


class Bucket(Protocol):
    """What this module needs of a nats-py ``KeyValue`` (bucket ``TRUST``, one key a name)."""

    async def get(self, key: str) -> Any: ...
    async def put(self, key: str, value: bytes) -> int: ...
    async def update(self, key: str, value: bytes, last: int | None = None) -> int: ...
    async def watchall(self, **kwargs: Any) -> Any: ...


class TrustWatcher:
    """Keeps ``directory`` equal to the bucket: an async context manager, entered with all entries loaded.

    It follows a watcher, and opens a new one, which begins with all entries, every ``reread_s`` and at ``refresh()``:
    nats-py's watcher dies silently at a server restart. While the bus is away the last entries stay in force.
    ``known`` is what ``read_directory`` found: an older entry that somebody put back does not replace one of these.
    """

    def __init__(
        self,
        bucket: Bucket,
        root_public_key: str,
        *,
        reread_s: float = REREAD_S,
        known: TrustDirectory | None = None,
    ) -> None:
        self.directory = known or TrustDirectory(root_public_key)
        self._bucket = bucket
        self._reread_s = reread_s
        self._wanted = asyncio.Event()
        self._round = asyncio.Condition()
        self._rounds_begun = 0
        self._rounds_done = 0
        self._tasks = asyncio.TaskGroup()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        watcher = await self._open()
        await self._tasks.__aenter__()
        self._task = self._tasks.create_task(self._keep_fresh(watcher), name="trust_watcher")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._task is not None and not self._task.done():
            self._task.cancel()  # until it is done: in Python 3.11 wait_for, in nats-py, can swallow a cancellation
            await asyncio.wait([self._task], timeout=_CANCEL_AGAIN_S)
        if kind is not None and issubclass(kind, asyncio.CancelledError):
            await self._tasks.__aexit__(kind, error, trace)
        else:  # an error of the body goes on as it is, not inside a group
            await self._tasks.__aexit__(None, None, None)

    async def refresh(self) -> None:
        """Have all entries read again, from after this call; returns when they are in force.

        It waits for as long as the bus is away: call it with a time limit.
        """
        target = self._rounds_begun + 1
        self._wanted.set()
        async with self._round:
            await self._round.wait_for(lambda: self._rounds_done >= target)

    async def _open(self) -> Any:
        """A new watcher, after all entries that stand in the bucket were taken in."""
        try:
            watcher = await self._bucket.watchall(inactive_threshold=2 * self._reread_s)
        except _BUS_ERRORS as error:
            raise BusUnavailableError(f"the bucket TRUST cannot be read: {error!r}") from error
        try:
            await self._load(watcher)
        except BaseException:
            await _stop(watcher)
            raise
        return watcher

    async def _load(self, watcher: Any) -> None:
        """Take in the entries that stand in the bucket, and forget those that do not."""
        names: list[str] = []
        try:
            while (item := await watcher.updates(timeout=self._reread_s)) is not None:
                if item.operation is None:
                    names.append(item.key)
                self._apply(item)
        except _BUS_ERRORS as error:
            raise BusUnavailableError(f"the bucket TRUST was not read in {self._reread_s} s: {error!r}") from error
        self.directory.retain(names)

    def _apply(self, item: Any) -> None:
        if item.operation is not None:
            self.directory.remove(item.key)
            return
        try:
            self.directory.apply(item.value, name=item.key)
        except SignatureError as error:
            self.directory.remove(item.key)
            log.error("trust_entry_refused", name=item.key, reason=str(error))

    async def _keep_fresh(self, watcher: Any) -> None:
        while True:
            try:
                await self._follow(watcher)
            finally:
                await _stop(watcher)
            self._wanted.clear()
            self._rounds_begun += 1
            watcher = await self._reopen()
            async with self._round:
                self._rounds_done = self._rounds_begun
                self._round.notify_all()

    async def _follow(self, watcher: Any) -> None:
        """Apply updates until it is time to read all again."""
        refresh = asyncio.create_task(self._wanted.wait(), name="trust_refresh")
        follow = asyncio.create_task(self._apply_updates(watcher), name="trust_follow")
        try:
            await asyncio.wait((refresh, follow), timeout=self._reread_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            refresh.cancel()
            follow.cancel()
            await asyncio.wait((refresh, follow))

    async def _apply_updates(self, watcher: Any) -> None:
        async for item in watcher:
            if item is not None:
                self._apply(item)

    async def _reopen(self) -> Any:
        while True:
            try:
                return await self._open()
            except BusUnavailableError as error:
                log.warning("trust_not_refreshed", reason=str(error), retry_s=_RETRY_S)
                await asyncio.sleep(_RETRY_S)


async def _stop(watcher: Any) -> None:
    try:
        await watcher.stop()
    except _BUS_ERRORS:
        log.debug("trust_watcher_was_gone")


async def read_directory(bus: Bus, root_public_key: str) -> TrustDirectory:
    """The entries as they stand now, read once; what the root did not sign is left out, and logged.

    Where an answer of the server was sent over an entry (``mesh.bus``), the last one that was published counts.
    """
    directory = TrustDirectory(root_public_key)
    for message in await bus.last_of_each(STREAM, [f"{PREFIX}>"]):
        name = message.subject.removeprefix(PREFIX)
        published = await _published(bus, message.subject) if message.is_forwarded else message
        try:
            if published is not None and published.data:
                directory.apply(published.data, name=name)
        except SignatureError as error:
            log.error("trust_entry_refused", name=name, reason=str(error))
    return directory


async def _published(bus: Bus, subject: str) -> StoredMessage | None:
    """The last message of a subject that was published there."""
    log.error("trust_entry_overwritten", subject=subject)
    last, seq = None, 1
    while page := await bus.read(STREAM, seq, _PAGE, subject):
        last = next((message for message in reversed(page) if not message.is_forwarded), last)
        seq = page[-1].seq + 1
    return last


async def enroll(bucket: Bucket, root: Identity, entry: TrustEntry) -> None:
    """Write the entry, signed by the root; the one of the same name is replaced."""
    if not is_public_key(entry.public_key):
        raise TerminalError(f"{entry.public_key!r} of {entry.name} is not a public key ('U...', 56 characters)")
    envelope = sign(entry, TRUST_TYPE, root)
    try:
        await bucket.put(entry.name, bytes(envelope))
    except _BUS_ERRORS as error:
        raise BusUnavailableError(f"{entry.name} was not enrolled: {error!r}") from error


async def revoke(bucket: Bucket, root: Identity, name: str, *, at: datetime | None = None) -> TrustEntry:
    """Mark the entry of ``name`` revoked (now); raises ``TerminalError`` when nobody of that name is enrolled."""
    try:
        held = await bucket.get(name)
        entry = TrustDirectory(root.public_key).apply(held.value, name=name)
        revoked = msgspec.structs.replace(entry, revoked_at=at or now())
        await bucket.update(name, bytes(sign(revoked, TRUST_TYPE, root)), last=held.revision)
    except nats.js.errors.KeyNotFoundError as error:
        raise TerminalError(f"nobody named {name} is enrolled: see `workmesh keys list`") from error
    except _BUS_ERRORS as error:
        raise BusUnavailableError(f"{name} was not revoked: {error!r}") from error
    return revoked
