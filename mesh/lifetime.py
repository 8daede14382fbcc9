"""Background tasks that live exactly as long as the block that needs them.

The rule: leaving the block ends the task for certain, and its error is the block's error.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

_AGAIN_S = 0.1


@asynccontextmanager
async def background(work: Coroutine[Any, Any, None], name: str) -> AsyncIterator[asyncio.Task[None]]:
    """Run ``work`` while the block runs. If it fails, the block is cancelled and the error raised."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work, name=name)
        try:
            yield task
        finally:
            await end(task)


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it is done.

    ``asyncio.wait_for`` of Python 3.11, which nats-py uses, can swallow a cancellation that comes as its inner future
    completes (python/cpython issue 86296): one ``cancel()`` is not always enough.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_AGAIN_S)
