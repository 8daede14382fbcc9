"""A running bus for tests: a real nats-server, one identity for each role, and waiting on conditions."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import nats
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, KeyValueConfig, StorageType, StreamConfig

from mesh import subjects
from mesh.embedded import EmbeddedNats
from mesh.identity import Identity
from mesh.permissions import BUCKETS, DURABLES, STREAMS


@dataclass
class Mesh:
    """A running bus and who may use it."""

    server: EmbeddedNats
    identities: dict[str, Identity]
    stack: AsyncExitStack
    errors: dict[str, list[str]] = field(default_factory=dict)

    async def connect(self, role: str, *, allow_reconnect: bool = True) -> Client:
        """A client of this role; what the bus told it of errors is in ``errors[role]``."""
        return await self.stack.enter_async_context(self._client(role, allow_reconnect))

    @asynccontextmanager
    async def _client(self, role: str, allow_reconnect: bool) -> AsyncIterator[Client]:
        errors = self.errors.setdefault(role, [])

        async def on_error(error: Exception) -> None:
            errors.append(str(error))

        options: dict[str, Any] = {**self.identities[role].nats_options(), "allow_reconnect": allow_reconnect}
        client = await nats.connect(
            self.server.url, error_cb=on_error, reconnect_time_wait=0.05, max_reconnect_attempts=-1, **options
        )
        try:
            yield client
        finally:
            await client.close()


async def make_streams(admin: Client) -> None:
    """What ``workmesh up`` does with the admin's identity."""
    js = admin.jetstream()
    for name in STREAMS:
        config = StreamConfig(name=name, subjects=subjects.heads(name), allow_direct=True, storage=StorageType.FILE)
        await js.add_stream(config)
    for bucket in BUCKETS:
        await js.create_key_value(KeyValueConfig(bucket=bucket, history=5, direct=True))
    for stage, stream in DURABLES.items():
        await js.add_consumer(stream, ConsumerConfig(durable_name=stage, ack_policy=AckPolicy.EXPLICIT, ack_wait=5))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, 15 s at most."""
    async with asyncio.timeout(15):
        while not condition():  # noqa: ASYNC110 - conditions of another process set no event here
            await asyncio.sleep(0.01)


async def settled(client: Client) -> None:
    """Return when the server has everything this client wrote (nats-py's PING overtakes what is pending: so twice)."""
    await client.flush()
    await client.flush()
