"""The connection between one role and the bus is cut: reset, silent for a while, or dead without a word.

The rule: the cut comes while the role has work in its hands, and the proxy has seen that it cut something.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from enum import StrEnum
from urllib.parse import urlsplit

from benchmarks.chaos.cell import Bench, NotHitError
from benchmarks.chaos.drills import passed
from benchmarks.chaos.evidence import Verdict
from benchmarks.chaos.proxy import Proxy
from benchmarks.chaos.site import Ground, SiteSpec
from benchmarks.chaos.trial import PLAIN, Trial
from mesh.clock import now
from mesh.faultpoints import VARIABLE

URL = "WORKMESH_BUS__URL"
_AFTER = 4
_SILENT_S = 6.0  # longer than a request waits (3 s) and than the ack wait (2 s)


class Cut(StrEnum):
    """What becomes of the connection."""

    RESET = "connection reset"
    SILENT = "connection silent for 6 s"
    DEAD = "connection dead without a word"


@asynccontextmanager
async def through(ground: Ground, roles: Sequence[str]) -> AsyncIterator[dict[str, Proxy]]:
    """Have these roles connect through a proxy each, from their next life on; as before when the block is left."""
    before = {role: ground.children[role].spec for role in roles}
    async with AsyncExitStack() as stack:
        proxies = {}
        for role in roles:
            proxies[role] = await stack.enter_async_context(Proxy(urlsplit(ground.running.url).port or 0))
            spec = ground.children[role].spec
            ground.children[role].spec = replace(spec, env={**spec.env, URL: proxies[role].url})
        try:
            yield proxies
        finally:
            for proxy in proxies.values():
                proxy.go_on()
            for role, spec in before.items():
                ground.children[role].spec = replace(spec, env={**spec.env, VARIABLE: ""})
            await asyncio.shield(ground.renew(roles))


async def cut(bench: Bench, role: str, how: Cut) -> Verdict:
    """Cut one role's connection while it is about to commit."""
    ground = await bench.sites.get(SiteSpec())
    async with through(ground, [role]) as proxies:
        proxy = proxies[role]
        trial = await Trial.begin(ground, bench.folder.name, bench.draw, PLAIN)
        mark, release = ground.mark(), ground.mark()
        await ground.arm({role: f"{role}.before_commit=hold:{release}#2@{mark}"})
        try:
            await trial.work()
            await passed(trial, mark)
        except BaseException:
            release.make()
            raise
        trial.fault_at = now()
        resets = proxy.resets
        match how:
            case Cut.RESET:
                proxy.reset()
            case Cut.SILENT:
                proxy.hold()
            case Cut.DEAD:
                proxy.leave_for_dead()
        release.make()
        await trial.publish(_AFTER)
        if how is Cut.SILENT:
            await asyncio.sleep(_SILENT_S)
            proxy.go_on()
            trial.fault_at = now()  # from here on it can recover
        verdict = await trial.settle()
        hit = {Cut.RESET: proxy.resets - resets, Cut.SILENT: proxy.held, Cut.DEAD: proxy.swallowed}[how]
    if not hit:
        raise NotHitError(f"nothing was on the connection of {role} when it was cut")
    return verdict
