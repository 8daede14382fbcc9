"""Questions to the bus that only trying answers: does it let the wrong ones in, is each key what its role needs.

The rule: nothing is stored, and nobody but the server hears of it.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from console.audit import reading
from console.health.judging import Check, fail, ok
from mesh import durability, streams
from mesh.bus import Bus, connect
from mesh.errors import BusUnavailableError, SignatureError, TerminalError, WorkmeshError
from mesh.identity import Identity
from mesh.permissions import STREAMS
from mesh.settings import Settings
from mesh.site import PROCESSES

_FORBIDDEN = "task.decision.-.doctor.-"
"""A decision of no domain: only policy may publish decisions, and even its own would be of no task."""
_WAIT_S = 1.0
_CONNECT_S = 3.0


async def probe(bus: Bus, url: str, settings: Settings) -> AsyncIterator[Check]:
    """Try them one after the other."""
    yield await _anonymous(url, settings)
    yield await _permissions(url, settings)
    yield await _trusted(bus, settings)
    yield await _durable(bus, settings)


async def _anonymous(url: str, settings: Settings) -> Check:
    try:  # the operator's own connection stands: what differs is the key
        async with connect(url, name="doctor", tls=settings.bus.tls, connect_timeout_s=_CONNECT_S):
            mend = "give it the users of `workmesh bus config`, and no default user"
            return fail("access", "the bus lets anybody in", mend)
    except BusUnavailableError:
        return ok("access", "the bus lets nobody in without a key")


def _own(settings: Settings) -> list[Path]:
    return [path for path in sorted((settings.state_dir / "keys").glob("*.nk")) if path.stem in PROCESSES]


async def _permissions(url: str, settings: Settings) -> Check:
    held = [path for path in _own(settings) if path.stem != "policy"]
    for path, may in zip(held, await asyncio.gather(*(_may(url, path, settings) for path in held)), strict=True):
        if isinstance(may, WorkmeshError):
            mend = f"`workmesh keys rotate {path.stem}` makes a new key; with a bus of your own, renew its users"
            return fail("permissions", f"the key of {path.stem}: {may}", mend)
        if may:
            mend = "give the bus the permissions of `workmesh bus config`"
            return fail("permissions", f"the key of {path.stem} may write decisions", mend)
    return ok("permissions", f"held for {', '.join(path.stem for path in held)}" if held else "no keys of roles here")


async def _may(url: str, path: Path, settings: Settings) -> bool | WorkmeshError:
    try:
        options = Identity.load(path).nats_options()
        tls = settings.bus.tls
        async with connect(url, name="doctor", options=options, tls=tls, request_timeout_s=_WAIT_S) as bus:
            try:  # it expects what cannot be: were it allowed, the stream would still not take it
                await bus.request(_FORBIDDEN, b"", {"Nats-Expected-Last-Sequence": str(2**62)})
            except TerminalError:
                return False
            return True
    except WorkmeshError as error:
        return error


async def _trusted(bus: Bus, settings: Settings) -> Check:
    directory, _ = await reading.trust(bus, settings.root_key())
    for path in _own(settings):
        try:
            directory.require(Identity.load(path).public_key, path.stem)
        except SignatureError as error:
            return fail("trust", f"{path.stem}: {error}", f"`workmesh keys rotate {path.stem}`")
    people = [entry for entry in directory.entries() if entry.kind == "person" and entry.revoked_at is None]
    return ok("trust", f"the keys of this host's roles are enrolled, and {len(people)} people")


async def _durable(bus: Bus, settings: Settings) -> Check:
    given = settings.bus
    faults = await durability.check(bus, STREAMS, None, replicas=given.replicas, ack_wait_s=given.ack_wait_s)
    for stage in streams.STAGES:
        faults += await durability.stage_faults(bus, stage, given.ack_wait_s)
    if faults:
        return fail("durability", "; ".join(faults), "docs/journal.md says what each process asks for, and why")
    return ok("durability", f"on disk before it is acknowledged, {given.replicas} {_copies(given.replicas)}")


def _copies(number: int) -> str:
    return "copy" if number == 1 else "copies"
