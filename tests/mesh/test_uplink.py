"""The uplink: a site goes on without its hub, which has every message once, in order, soon after they meet again."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio

from mesh import streams, subjects
from mesh.bus import Bus, StoredMessage, connect
from mesh.errors import BusUnavailableError, DivergedError, NotDurableError
from mesh.identity import Identity
from mesh.lifetime import background
from mesh.natsconf import render
from mesh.permissions import BusUser
from mesh.ports import free_port
from mesh.uplink import SEQUENCE, TIME, Uplink, copies
from tests.mesh.live_mesh import eventually, stored
from tests.mesh.nats_servers import Server, identities, started, users

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

JOURNAL, AUDIT = subjects.JOURNAL, subjects.AUDIT
CATCH_UP_S = 5.0


@dataclass
class Hybrid:
    """A site and its hub, each with a bus of its own, and keys of two sites at the hub."""

    hub: Server
    keys: dict[str, Identity]
    own: Identity
    other: Identity
    site: Bus
    admin: Bus

    @property
    def hub_url(self) -> str:
        """The hub's address."""
        return f"nats://127.0.0.1:{self.hub.port}"

    def copy(self, stream: str = JOURNAL) -> str:
        """The hub's copy of a stream."""
        return subjects.site_stream(subjects.site_name(self.own.public_key), stream)

    async def put(self, name: str, count: int) -> None:
        """Store records in the site's journal, as perception does."""
        for number in range(count):
            await self.site.store(subjects.record("context", "d", f"{name}{number}", "-"), b'{"n":%d}' % number)

    async def same(self) -> bool:
        """Whether the hub's copy has as many messages as the site's journal, at least."""
        ours = (await self.site.api(f"STREAM.INFO.{JOURNAL}"))["state"]["messages"]
        theirs = (await self.admin.api(f"STREAM.INFO.{self.copy()}"))["state"]["messages"]
        return bool(theirs >= ours)


def held(copied: list[StoredMessage], originals: list[StoredMessage]) -> None:
    """Each original is there once, in order, with its bytes, and says where it stood."""
    assert [int(message.headers[SEQUENCE]) for message in copied] == [message.seq for message in originals]
    assert [message.headers[TIME] for message in copied] == [message.time for message in originals]
    assert [message.subject.split(".", 3)[3] for message in copied] == [message.subject for message in originals]
    assert [message.data for message in copied] == [message.data for message in originals]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hybrid(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hybrid]:
    """Two servers: the site's, with its streams, and the hub's, with copies for two sites."""
    folder = tmp_path_factory.mktemp("h")
    keys = identities(folder / "site")
    root, own, other = (Identity.create(folder / "hub" / f"{name}.nk", name) for name in ("admin", "own", "other"))
    known = [BusUser(root.public_key, ("admin",)), *(BusUser(key.public_key, ("uplink",)) for key in (own, other))]
    site = Server.of(
        folder / "s", render(port=free_port(), store=folder / "s" / "store", users=users(keys), name="site")
    )
    hub = Server.of(folder / "h", render(port=free_port(), store=folder / "h" / "store", users=known, name="hub"))
    async with started(site, hub), AsyncExitStack() as stack:

        async def bus(url: str, identity: Identity) -> Bus:
            return await stack.enter_async_context(connect(url, name=identity.name, options=identity.nats_options()))

        site_url, hub_url = (f"nats://127.0.0.1:{server.port}" for server in (site, hub))
        maker, admin = await bus(site_url, keys["admin"]), await bus(hub_url, root)
        await streams.ensure(maker, streams.stream_specs({}, {}), replicas=1, ack_wait_s=2, max_ack_pending=100)
        for key in (own, other):
            await streams.ensure_streams(admin, copies(key.public_key), replicas=1)
        writer = await bus(site_url, keys["perception"])
        yield Hybrid(hub, keys, own, other, writer, admin)


async def test_what_a_site_stores_is_at_its_hub_with_its_place_and_time(hybrid: Hybrid) -> None:
    await hybrid.put("first", 300)
    async with connect(hybrid.hub_url, name="uplink", options=hybrid.own.nats_options()) as hub:
        uplink = Uplink(hybrid.site, hub, hybrid.own.public_key, JOURNAL)
        async with background(uplink.run(), "uplink"):
            await eventually(hybrid.same)
            await hybrid.put("later", 3)
            await eventually(hybrid.same)
    held(await stored(hybrid.admin, hybrid.copy()), await stored(hybrid.site))


async def test_a_site_works_on_without_its_hub_which_catches_up_within_five_seconds(hybrid: Hybrid) -> None:
    async with connect(hybrid.hub_url, name="uplink", options=hybrid.own.nats_options()) as hub:
        async with background(Uplink(hybrid.site, hub, hybrid.own.public_key, JOURNAL).run(), "uplink"):
            await hybrid.put("before", 5)
            await hybrid.hub.stop(9)
            await hybrid.put("cut-off", 600)
            await asyncio.sleep(1.0)  # the uplink has met its absence
            await hybrid.hub.start()
            back = time.monotonic()
            await eventually(hybrid.same)
            assert time.monotonic() - back < CATCH_UP_S
    held(await stored(hybrid.admin, hybrid.copy()), await stored(hybrid.site))


async def test_uplinks_that_run_at_once_and_die_at_any_moment_copy_nothing_twice(hybrid: Hybrid) -> None:
    async def flickering(delay_s: float) -> None:
        async with connect(hybrid.hub_url, name="uplink", options=hybrid.own.nats_options()) as hub:
            for _ in range(20):
                async with background(Uplink(hybrid.site, hub, hybrid.own.public_key, JOURNAL).run(), "uplink"):
                    await asyncio.sleep(delay_s)

    async with asyncio.TaskGroup() as group:
        group.create_task(hybrid.put("many", 500))
        for delay_s in (0.013, 0.031, 0.05):
            group.create_task(flickering(delay_s))
    async with connect(hybrid.hub_url, name="uplink", options=hybrid.own.nats_options()) as hub:
        async with background(Uplink(hybrid.site, hub, hybrid.own.public_key, JOURNAL).run(), "uplink"):
            await eventually(hybrid.same)
    held(await stored(hybrid.admin, hybrid.copy()), await stored(hybrid.site))


async def test_a_sites_key_writes_and_reads_its_own_copies_alone(hybrid: Hybrid) -> None:
    async with connect(hybrid.hub_url, name="other", options=hybrid.other.nats_options(), request_timeout_s=0.5) as hub:
        before = await hybrid.admin.api(f"STREAM.INFO.{hybrid.copy()}")
        subject = subjects.site_subject(subjects.site_name(hybrid.own.public_key), JOURNAL, "task.outcome.d.forged.-")
        await hub.publish(subject, b"{}")
        await hub.settle()
        with pytest.raises(Exception, match=r"may not publish|no answer"):
            await hub.api(f"STREAM.INFO.{hybrid.copy()}")
        with pytest.raises(BusUnavailableError):
            await hub.last(hybrid.copy(), subject)
        after = await hybrid.admin.api(f"STREAM.INFO.{hybrid.copy()}")
        assert after["state"]["last_seq"] == before["state"]["last_seq"]


async def test_a_hub_that_does_not_know_the_site_is_told_so(hybrid: Hybrid) -> None:
    await hybrid.admin.api(f"STREAM.DELETE.{subjects.site_stream(hybrid.other.public_key[:16], AUDIT)}")
    async with connect(hybrid.hub_url, name="other", options=hybrid.other.nats_options()) as hub:
        with pytest.raises(NotDurableError, match="workmesh bus site"):
            await Uplink(hybrid.site, hub, hybrid.other.public_key, AUDIT).run()
    assert json.loads(hybrid.hub.config.read_bytes())["server_name"] == "hub"


@pytest.mark.parametrize(("seq", "stored_at"), [(1, "2026-01-01T00:00:00Z"), (1_000_000, "2026-01-01T00:00:00Z")])
async def test_a_copy_of_another_history_is_not_gone_on_with(hybrid: Hybrid, seq: int, stored_at: str) -> None:
    """As after a restore: what stands under old sequences is new, or the site has not come so far again."""
    await hybrid.put(f"anew{seq}", 1)
    subject = subjects.site_subject(subjects.site_name(hybrid.other.public_key), JOURNAL, "task.context.d.t.-")
    async with connect(hybrid.hub_url, name="uplink", options=hybrid.other.nats_options()) as hub:
        await hub.request(subject, b"{}", {SEQUENCE: str(seq), TIME: stored_at})
        uplink = Uplink(hybrid.site, hub, hybrid.other.public_key, JOURNAL)
        with pytest.raises(DivergedError, match=f"goes on to message {seq}, .* restored from a backup.* new key"):
            await asyncio.wait_for(uplink.run(), 10)
    assert uplink.copied == 0
